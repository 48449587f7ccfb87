"""From inputs to features: a transformer's processor, tokenizer, chat template and query expansion at work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from fourfold.containers import Tokens
from fourfold.errors import InputError
from fourfold.modules import _modalities, _packed, _processing, _processor, _query_expansion, _shared_prefix
from fourfold.modules._base import Features, InputModule
from fourfold.ops.attention import Packing
from fourfold.ops.linear import runs_plain, steady_rows
from fourfold.text import messages
from fourfold.text.chat import ChatTemplate
from fourfold.text.inputs import check_texts
from fourfold.text.modality import Modality, format_modality, raise_unsupported_modality_error
from fourfold.text.prefixes import laid_out
from fourfold.text.prompts import prepend
from fourfold.text.samples import Samples, sort_samples
from fourfold.text.tokenizer import FastTokenizer

_MEDIA = ("image", "audio", "video")


class TransformerInputs(InputModule):
    """The part of :class:`~fourfold.modules.transformer.Transformer` that turns inputs into features."""

    model: Any
    config: Any
    transformer_task: str
    modality_config: _modalities.ModalityConfig
    processing_kwargs: dict[str, Any]
    query_length: int | None
    document_length: int | None
    max_seq_length: int | None
    query_expansion: Any
    _first: int  # position of a text's first token
    _shares: bool | None  # whether what texts begin with may run once; None until it is asked

    @property
    def processor(self) -> Any:
        """The transformers processor, which is the tokenizer for text models."""
        return self._processor

    @processor.setter
    def processor(self, value: Any) -> None:
        self._processor = value
        self._tokenizers: dict[Any, Any] = {}
        self._chat: ChatTemplate | None = None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer: the processor itself, or its part; None if it has none."""
        return _processing.tokenizer_of(self._processor)

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        if self.tokenizer is self._processor:
            self.processor = value
        else:
            self._processor.tokenizer = value
            self.processor = self._processor

    @property
    def modalities(self) -> list[Any]:
        """Kinds of input that the module takes."""
        return list(self.modality_config)

    @property
    def input_formatter(self) -> ChatTemplate:
        """The chat template, which knows in which format it takes messages."""
        if self._chat is None:
            wanted = self.modality_config.get("message", {}).get("format")
            if wanted not in (messages.STRUCTURED, messages.FLAT):
                template = getattr(self.processor, "chat_template", None)
                wanted = messages.message_format(self.config.model_type, template)
            self._chat = ChatTemplate(self.processor, self._tokenise_rendered, wanted)
        return self._chat

    def _reads_ends(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether texts run packed with these arguments, and only the last token of each is read."""
        raise NotImplementedError

    def _takes_media(self) -> bool:
        return any(kind in _MEDIA or isinstance(kind, tuple) for kind in self.modality_config)

    def _expands(self, kwargs: Mapping[str, Any]) -> bool:
        return self.query_expansion is not None and kwargs.get("task") == "query"

    def _options(self, processing_kwargs: Mapping[str, Any] | None) -> _processing.Options:
        return _processing.merged(self.processing_kwargs, processing_kwargs, self.config.model_type)

    def _length(self, options: _processing.Options, kwargs: Mapping[str, Any]) -> int | None:
        """Return the longest input that a call asks for; None is ``max_seq_length``."""
        by_task = {"query": self.query_length, "document": self.document_length}
        asked = (options.text.get("max_length"), kwargs.get("max_length"), by_task.get(kwargs.get("task") or ""))
        return next((length for length in asked if length is not None), None)

    def tokenises(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether inputs are tokenised without calling the processor: texts, if only how they are cut is overridden."""
        if self.tokenizer is None or self._takes_media() or self._expands(kwargs):
            return False
        options = self._options(kwargs.get("processing_kwargs"))
        # A rendered conversation is one text, of which no part can be cut alone.
        return options.plain and ("message" not in self.modality_config or options.cut == "longest_first")

    def tokenise(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Tokens:
        """Return the packed token ids of texts, pairs or chat messages, each with the prompt in front, cut to length.

        Args:
            inputs: Strings, pairs of strings, or chat messages for a model with a chat template.
            prompt: Put before each text; the content of a system message for a model with a chat template.
            **kwargs: ``task`` and ``max_length`` choose the length, ``processing_kwargs`` change the chat template's
                variables.
        """
        options = self._options(kwargs.get("processing_kwargs"))
        length = self._length(options, kwargs)
        length = self.max_seq_length if length is None else length
        if "message" not in self.modality_config:
            tokens = self._fast_tokenizer().encode(prepend(prompt, self._texts(inputs)), length, options.cut)
        else:
            tokens = self._tokenised_chats(inputs, prompt, length, options, kwargs)
        if "token_type_ids" not in self.tokenizer.model_input_names:
            tokens = replace(tokens, type_ids=None)
        # Once it is known that the numbers differ, what texts share is not looked for again.
        shares = self._shares is not False and self._reads_ends(kwargs)
        return _shared_prefix.with_prefixes(self, tokens) if shares else tokens

    def _tokenised_chats(
        self,
        inputs: list[Any],
        prompt: str | None,
        length: int | None,
        options: _processing.Options,
        kwargs: Mapping[str, Any],
    ) -> Tokens:
        chats = self._chats(sort_samples(inputs, self.modalities), prompt, options, kwargs)
        tokens = self._tokenise_rendered(self.input_formatter.render(chats, options.chat_template), length)
        if not options.restore_suffix:
            return tokens
        return self.input_formatter.restore_endings(tokens, chats, length, options.chat_template)

    def _texts(self, inputs: list[Any]) -> list[Any]:
        """Return the inputs if all are texts or pairs of texts."""
        try:
            return check_texts(inputs)
        except InputError as error:
            try:
                samples = sort_samples(inputs, self.modalities)
            except InputError:
                raise error from None  # of no known kind: this one names the place
            if samples.modality == "text":
                raise
            raise_unsupported_modality_error(inputs, samples.modality, self.modalities, type(self).__name__)

    def _chats(
        self, samples: Samples, prompt: str | None, options: _processing.Options, kwargs: Mapping[str, Any]
    ) -> list[messages.Conversation]:
        """Return a batch as conversations, after checking that the model reads it, and both halves of pairs."""
        template = self.input_formatter
        lacking = [kind for kind in samples.media if kind not in self.modality_config]
        if lacking:
            taken = ", ".join(map(format_modality, self.modalities))
            raise InputError(f"the batch holds inputs of {', '.join(lacking)}; {type(self).__name__} takes: {taken}.")
        if kwargs.get("task") is not None and template.uses("task"):
            options.chat_template.setdefault("task", kwargs["task"])
        chats = messages.conversations(samples, template.message_format)
        if messages.has_pair_roles(chats):
            template.check_pairs(options.chat_template)
        return messages.with_system(chats, prompt, template.message_format) if prompt else chats

    def _tokenise_rendered(self, texts: Any, length: int | None = None) -> Tokens:
        # A tokenizer's template says all special tokens; a processor's may leave them to the tokenizer.
        tokenizer, special = self.tokenizer, self.processor is not self.tokenizer
        if special and tokenizer.bos_token is not None:
            special = not texts[0].startswith(tokenizer.bos_token)
        return self._fast_tokenizer(special=special).encode(texts, length)

    def locating_tokenizer(self, **kwargs: Any) -> FastTokenizer | None:
        """Return the tokenizer that tells where tokens stand in a text.

        None for one that is written in Python, and where a chat template or a query's expansion stands around a text.
        """
        if not self.tokenises(kwargs) or "message" in self.modality_config:
            return None
        fast = self._fast_tokenizer()
        return fast if isinstance(fast, FastTokenizer) else None

    def longest_input(self, **kwargs: Any) -> int | None:
        """Return the most tokens that a call with these arguments keeps of a text; None is no limit."""
        length = self._length(self._options(kwargs.get("processing_kwargs")), kwargs)
        return self.max_seq_length if length is None else length

    def _fast_tokenizer(self, *, special: bool = True) -> Any:
        tokenizer = self.tokenizer
        # A tokenizer that grew is another one; its size is the cheap sign of that.
        key = (special, len(tokenizer), tokenizer.truncation_side)
        if key not in self._tokenizers:
            self._tokenizers = {other: made for other, made in self._tokenizers.items() if other[1:] == key[1:]}
            self._tokenizers[key] = _processor.face_of(tokenizer, special=special)
        return self._tokenizers[key]

    def prompt_length(self, prompt: str) -> int:
        """Return how many leading tokens of a text are its prompt's, a special token before it included."""
        return self._fast_tokenizer().prompt_length(prompt)

    def preprocess(
        self,
        inputs: list[Any],
        prompt: str | None = None,
        processing_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Features:
        """Turn inputs into padded features.

        Args:
            inputs: Texts, pairs, chat messages, images, audio, video, or dictionaries of these by modality.
            prompt: Put before each text; the content of a system message for a model with a chat template.
            processing_kwargs: Arguments of the processor's call; each wins over the module's own.
            **kwargs: ``task`` (``"query"`` or ``"document"``) and ``max_length``.

        Returns:
            What the processor gives; for texts ``input_ids`` and ``attention_mask`` int64 ``[rows, longest]``, and
            ``token_type_ids`` where the tokenizer makes them. Then ``modality``; ``prompt_length`` if there is a
            prompt before texts; ``logits_to_keep`` for causal models.

        Raises:
            InputError: If inputs are of a kind that the model does not take.
        """
        if not inputs:
            return {}
        kwargs["processing_kwargs"] = processing_kwargs
        if self.tokenises(kwargs):
            return self.pad(self.tokenise(inputs, prompt, **kwargs), prompt, **kwargs)
        options = self._options(processing_kwargs)
        length = self._length(options, kwargs)
        if length is not None:
            options.text["max_length"] = length
        samples = sort_samples(inputs, self.modalities)
        if "message" in self.modality_config:
            return self._prepared_chats(samples, prompt, options, kwargs)
        if samples.modality not in self.modality_config:
            raise_unsupported_modality_error(inputs, samples.modality, self.modalities, type(self).__name__)
        if prompt and "text" in samples.values:
            samples.values["text"] = prepend(prompt, samples.values["text"])
        if self.transformer_task == "retrieval":
            _processing.for_retrieval(samples, kwargs.get("task"))
        expands = samples.modality == "text" and self._expands(kwargs)
        if expands:
            _query_expansion.set_length(options.text, self.query_expansion)
        features = dict(_processing.call(self.processor, samples, options))
        features = self._finish(features, samples.modality, prompt, options)
        if expands:
            expansion = self.query_expansion
            features = _query_expansion.expand(
                features, expansion, _query_expansion.token_id(expansion, self.tokenizer)
            )
        return features

    def _prepared_chats(
        self, samples: Samples, prompt: str | None, options: _processing.Options, kwargs: Mapping[str, Any]
    ) -> Features:
        chats = self._chats(samples, prompt, options, kwargs)
        if self._expands(kwargs) and messages.is_text_only(chats):
            raise InputError(
                "query_expansion cannot be combined with a chat template, whose ending it would destroy; let the "
                "template add tokens itself (it is given task='query'), or give modality_config for plain text"
            )
        features = dict(_processing.call_template(self.processor, chats, samples, options))
        length = options.text.get("max_length", self.max_seq_length)
        if options.restore_suffix and options.text["truncation"] and length is not None:
            self.input_formatter.restore_padded(features, chats, length, options.chat_template)
        for kind, key in (("image", "pixel_values"), ("video", "video_grid_thw")):
            if key in features:
                _processing.count_media(features, messages.count_parts(chats, kind), kind)
        return self._finish(features, "message", None, options)

    def pad(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into padded features, as :meth:`preprocess` returns them."""
        left = self.tokenizer.padding_side == "left"
        ids, mask = tokens.padded(self.tokenizer.pad_token_id or 0, left=left)
        features: Features = {"input_ids": torch.from_numpy(ids)}
        if "token_type_ids" in self.tokenizer.model_input_names:
            types = torch.zeros_like(features["input_ids"])
            if tokens.type_ids is not None:
                types[torch.from_numpy(mask == 1)] = torch.from_numpy(tokens.type_ids).long()
            features["token_type_ids"] = types
        features["attention_mask"] = torch.from_numpy(mask)
        return self._finish(features, self._text_modality, prompt, self._options(kwargs.get("processing_kwargs")))

    def pack(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into packed features.

        Returns:
            ``input_ids`` and ``position_ids`` int64 ``[1, tokens]``, ``cu_seq_lens_q`` and ``cu_seq_lens_k`` int32
            ``[rows + 1]``, ``max_length_q`` and ``max_length_k``, and ``packing``, their layout. On a CPU some filling
            may follow the last text, so that few batch sizes occur. What texts share, by ``tokens.prefixes``, is a row
            of its own.
        """
        laid = laid_out(tokens)
        if laid is not None:
            tokens = laid.tokens
        count = len(tokens.ids)
        # In training no size repeats often enough for it to matter, and the filling would cost a backward pass.
        steady = self.model.device.type == "cpu" and not torch.is_grad_enabled()
        filled = steady_rows(count) if steady and not runs_plain(count, self.model.dtype) else count
        after, texts = (None, None) if laid is None else (laid.after, laid.texts)
        packing = Packing(tokens.offsets, filled - count, after, texts)
        features: Features = _packed.features(self.model, tokens, packing, self._first)
        return self._finish(features, self._text_modality, prompt, self._options(kwargs.get("processing_kwargs")))

    @property
    def _text_modality(self) -> str:
        return "message" if "message" in self.modality_config else "text"

    def _finish(
        self,
        features: Features,
        modality: Modality,
        prompt: str | None,
        options: _processing.Options,
    ) -> Features:
        features["modality"] = modality
        if prompt and modality == "text":
            features["prompt_length"] = self.prompt_length(prompt)
        if self.transformer_task in _modalities.CAUSAL_TASKS:
            _processing.check_left_padding(features)
            features["logits_to_keep"] = options.logits_to_keep
        return features
