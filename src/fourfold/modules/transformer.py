"""A transformers checkpoint as the first module: texts to token vectors, packed where the model allows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourfold.containers import Tokens
from fourfold.errors import FolderError, InputError, require
from fourfold.modules import _packed, _pretrained
from fourfold.modules._base import Features, InputModule
from fourfold.notices import warn_once
from fourfold.ops.attention import Packing
from fourfold.ops.linear import steady_rows
from fourfold.store.files import write_json
from fourfold.store.source import Source
from fourfold.store.weights import check_checkpoint
from fourfold.text.inputs import check_texts
from fourfold.text.prompts import prepend
from fourfold.text.tokenizer import FastTokenizer

logger = logging.getLogger(__name__)

# Names that the settings file has had; the first that holds something is read, only the first is written.
_CONFIG_NAMES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_KWARGS = ("model_kwargs", "processor_kwargs", "config_kwargs")
_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


class Transformer(InputModule):
    """Run a transformers encoder on texts.

    Args:
        model_name_or_path: Folder or hub name of a transformers checkpoint.
        transformer_task: What the checkpoint is loaded for; ``feature-extraction``.
        model_kwargs: Arguments of the model's ``from_pretrained``, such as ``dtype`` or ``attn_implementation``.
        processor_kwargs: Arguments of the tokenizer's ``from_pretrained``.
        config_kwargs: Arguments of the config's ``from_pretrained``; the key-value cache is off unless ``use_cache``
            is given.
        backend: ``torch``.
        modality_config: Which method runs which kind of input, as a saved folder states it.
        module_output_name: Feature that ``forward`` writes.
        unpad_inputs: True packs texts without padding, False pads them, None packs if a numerical check at load allows.
        max_seq_length: Longest input in tokens, special tokens included; longer ones are cut. None takes the smaller
            of what the tokenizer and the model's positions allow.
        do_lower_case: Lower-case texts before tokenising.

    Raises:
        InputError: If the task, backend or modality is not supported.
    """

    config_file_name: ClassVar[str] = "sentence_bert_config.json"
    config_keys: ClassVar[list[str]] = ["transformer_task", "modality_config", "module_output_name"]
    config_key_renames: ClassVar[dict[str, str]] = {
        "model_args": "model_kwargs", "tokenizer_args": "processor_kwargs", "config_args": "config_kwargs",
    }  # fmt: skip

    def __init__(
        self,
        model_name_or_path: str,
        *,
        transformer_task: str = "feature-extraction",
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        modality_config: dict[str, Any] | None = None,
        module_output_name: str | None = None,
        unpad_inputs: bool | None = None,
        max_seq_length: int | None = None,
        do_lower_case: bool = False,
    ) -> None:
        super().__init__()
        require("transformers", "torch", "Transformer")
        _check(transformer_task, backend, modality_config, module_output_name)
        self.transformer_task = transformer_task
        self.modality_config = modality_config or _TEXT
        self.module_output_name = module_output_name or "token_embeddings"
        self.backend = backend
        config = _pretrained.config(model_name_or_path, config_kwargs or {})
        self.model = _pretrained.model(model_name_or_path, config, model_kwargs or {})
        self.tokenizer = _pretrained.tokenizer(model_name_or_path, config, processor_kwargs or {}, max_seq_length)
        if do_lower_case:
            _pretrained.lower_case(self.tokenizer)
        self._saved_unpad = unpad_inputs
        self._start = _packed.first_position(self.model)
        self._packs = self._decide()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a pickled module; the process that unpickles it may not know the packed attention yet."""
        super().__setstate__(state)
        _packed.register()

    # -- what the module is ------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        self._tokenizer = value
        self._fast: tuple[Any, Any] = (None, None)

    @property
    def processor(self) -> Any:
        """The transformers processor, which is the tokenizer for text models."""
        return self.tokenizer

    @property
    def auto_model(self) -> Any:
        """The transformers model."""
        return self.model

    @property
    def config(self) -> Any:
        """The transformers config."""
        return self.model.config

    @property
    def widest(self) -> int | None:  # type: ignore[override]
        """Most numbers that a layer holds for a token: the width of its inner states."""
        text = self.config.get_text_config()
        return getattr(text, "intermediate_size", None) or getattr(text, "hidden_dim", None)

    @property
    def max_seq_length(self) -> int | None:
        """Longest input in tokens, special tokens included; None if nothing limits it. Kept in the tokenizer."""
        length = self.tokenizer.model_max_length
        return None if length is None or length > 10**9 else length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self.tokenizer.model_max_length = value if value is not None else 10**30

    @property
    def packed(self) -> bool:  # type: ignore[override]
        """Whether texts run packed."""
        return self._packs

    @property
    def unpad_inputs(self) -> bool | None:
        """What was asked for: True packs, False pads, None let a numerical check decide."""
        return self._saved_unpad

    @unpad_inputs.setter
    def unpad_inputs(self, value: bool | None) -> None:
        self._saved_unpad = value
        self._packs = self._decide()

    def _decide(self) -> bool:
        """Return whether texts run packed, and give the model the attention for it."""
        wanted, name = self._saved_unpad, type(self.model).__name__
        if wanted is False:
            _packed.restore(self.model)
            return False
        if any(parameter.is_meta for parameter in self.model.parameters()) or not _packed.prepare(self.model):
            if wanted:
                logger.warning("unpad_inputs=True: %s has no attention interface, texts are padded", name)
            return False
        pad = self.tokenizer.pad_token_id
        same = _packed.runs_packed(self.model, self._start, self.model.config.get_text_config().vocab_size, pad or 0)
        if not same and wanted:
            logger.warning("unpad_inputs=True: %s gives other numbers for packed texts than for padded ones", name)
            return True
        if not same:
            _packed.restore(self.model)
        return same

    def get_embedding_dimension(self) -> int:
        """Return the width of the token vectors."""
        text = self.config.get_text_config()
        width = getattr(text, "hidden_size", None) or getattr(text, "hidden_dim", None) or getattr(text, "dim", None)
        if width is None:
            raise InputError(f"{type(self.config).__name__} names no hidden_size")
        return width

    # -- texts to features -------------------------------------------------------------------------------------------

    def tokenises(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether texts are packed without :meth:`preprocess`: always, but for overrides of the tokenizer's call."""
        return not kwargs.get("processing_kwargs")

    def tokenise(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Tokens:
        """Return the packed token ids of texts or pairs, each with the prompt in front and cut to ``max_seq_length``.

        Args:
            inputs: Strings, or pairs of strings.
            prompt: Put before each text.
            **kwargs: ``max_length`` is used instead of ``max_seq_length``.
        """
        texts = prepend(prompt, check_texts(inputs))
        return self._fast_tokenizer().encode(texts, kwargs.get("max_length") or self.max_seq_length)

    def locating_tokenizer(self, **kwargs: Any) -> FastTokenizer | None:
        """Return the tokenizer that tells where tokens stand in a text; None for one written in Python."""
        fast = self._fast_tokenizer()
        return fast if isinstance(fast, FastTokenizer) else None

    def _fast_tokenizer(self) -> Any:
        tokenizer = self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        # A tokenizer that grew is another one; its size is the cheap sign of that.
        key = (len(tokenizer), tokenizer.truncation_side)
        if self._fast[0] != key:
            if backend is None:
                self._fast = (key, _pretrained.PythonTokenizer(tokenizer))
            else:
                self._fast = (key, FastTokenizer(backend, truncation_side=tokenizer.truncation_side))
        return self._fast[1]

    def prompt_length(self, prompt: str) -> int:
        """Return how many leading tokens of a text are its prompt's."""
        return self._fast_tokenizer().prompt_length(prompt)

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn texts or pairs into padded features.

        Returns:
            ``input_ids`` and ``attention_mask`` int64 ``[rows, longest]``, ``token_type_ids`` where the tokenizer
            makes them, ``modality``, and ``prompt_length`` if there is a prompt.
        """
        if not inputs:
            return {}
        return self.pad(self.tokenise(inputs, prompt, **kwargs), prompt)

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
        return self._finish(features, prompt)

    def pack(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into packed features.

        Returns:
            ``input_ids`` and ``position_ids`` int64 ``[1, tokens]``, ``cu_seq_lens_q`` and ``cu_seq_lens_k`` int32
            ``[rows + 1]``, ``max_length_q`` and ``max_length_k``, and ``packing``, their layout. On a CPU some filling
            may follow the last text, so that few batch sizes occur.
        """
        count = len(tokens.ids)
        # In training no size repeats often enough for it to matter, and the filling would cost a backward pass.
        filled = steady_rows(count) if self.model.device.type == "cpu" and not torch.is_grad_enabled() else count
        packing = Packing(tokens.offsets, filled - count)
        ids, types = (_filled(part, filled) for part in (tokens.ids, tokens.type_ids))
        features: Features = _packed.inputs(self.model, ids, packing, types, self._start)
        offsets = torch.from_numpy(tokens.offsets).int()
        features |= {"cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets}
        features |= {"max_length_q": packing.longest, "max_length_k": packing.longest, "packing": packing}
        return self._finish(features, prompt)

    def _finish(self, features: Features, prompt: str | None) -> Features:
        features["modality"] = "text"
        if prompt:
            features["prompt_length"] = self.prompt_length(prompt)
        return features

    # -- features to token vectors -----------------------------------------------------------------------------------

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Write ``token_embeddings``, ``[rows, longest, width]`` if padded, ``[1, tokens, width]`` if packed."""
        accepted = _packed.parameters(self.model)
        arguments = {key: value for key, value in features.items() if key in accepted and isinstance(value, Tensor)}
        offsets = features.get("cu_seq_lens_q")
        if offsets is None:
            output = self.model(**arguments, return_dict=True)
        else:
            packing = features.get("packing") or Packing(offsets.cpu().long().numpy())
            with _packed.packed(packing):
                output = self.model(**arguments, return_dict=True)
        features[self.module_output_name] = output["last_hidden_state"]
        if self.config.output_hidden_states:
            features["all_layer_embeddings"] = output["hidden_states"]
        return features

    # -- saving and loading ------------------------------------------------------------------------------------------

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that are saved."""
        config = super().get_config_dict()
        return config if self._saved_unpad is None else {**config, "unpad_inputs": self._saved_unpad}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the checkpoint, the tokenizer and the settings."""
        self.model.save_pretrained(output_path)
        self.tokenizer.save_pretrained(output_path)
        write_json(Path(output_path, self.config_file_name), self.get_config_dict())

    @classmethod
    def from_source(
        cls,
        source: Source,
        init_defaults: dict[str, Any] | None = None,
        *,
        trust_remote_code: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        **options: Any,
    ) -> Transformer:
        """Build the module from its folder; the caller's dictionaries win over those that the folder states."""
        check_checkpoint(source)
        given = (model_kwargs, processor_kwargs, config_kwargs)
        config = cls.loading_keywords(source, init_defaults, given, trust_remote_code=trust_remote_code)
        return cls._build({**config, "backend": backend}, source)

    @classmethod
    def loading_keywords(
        cls,
        source: Source,
        init_defaults: dict[str, Any] | None,
        given: tuple[dict[str, Any] | None, ...],
        *,
        trust_remote_code: bool,
    ) -> dict[str, Any]:
        """Return the constructor's arguments that a folder and a caller state; others' classes are built with them too.

        Args:
            source: The module's folder.
            init_defaults: Arguments used where the folder states none.
            given: The caller's ``model_kwargs``, ``processor_kwargs`` and ``config_kwargs``.
            trust_remote_code: Whether transformers may run code of the folder.
        """
        config = {**(init_defaults or {}), **cls.read_config(source)}
        hub = _pretrained.hub_keywords(source, trust_remote_code)
        for name, theirs in zip(_KWARGS, given, strict=True):
            saved = config.pop(name, None) or {}
            if not isinstance(saved, dict):
                raise FolderError(f"{source.pretty(cls.config_file_name)}: {name!r} must be an object, got {saved!r}")
            saved.pop("trust_remote_code", None)  # a folder cannot grant trust to itself
            config[name] = {**saved, **hub, **(theirs or {})}
        if "modality_config" not in config:
            config.pop("module_output_name", None)
        if "tokenizer_name_or_path" in config:
            warn_once(
                logger, f"{source.pretty(cls.config_file_name)}: 'tokenizer_name_or_path' is deprecated and ignored"
            )
            del config["tokenizer_name_or_path"]
        return {"model_name_or_path": source.name, **config}

    @classmethod
    def read_config(cls, source: Source) -> dict[str, Any]:
        """Return the settings from the first of the file's names that holds something, under today's keys."""
        for name in _CONFIG_NAMES:
            config = source.object(f"sentence_{name}_config.json")
            if config:
                break
        for old, new in cls.config_key_renames.items():
            if old in config:
                config.setdefault(new, config.pop(old))
        return config

    def __repr__(self) -> str:
        return f"Transformer({ {**self.get_config_dict(), 'architecture': type(self.model).__name__} })"


def _filled(part: NDArray[np.int32] | None, count: int) -> Any:
    """Return ids as a tensor of ``count`` numbers, zeros at its end."""
    if part is None:
        return None
    return torch.from_numpy(
        part if len(part) == count else np.concatenate([part, np.zeros(count - len(part), np.int32)])
    )


def _check(task: str, backend: str, modality_config: dict[str, Any] | None, output_name: str | None) -> None:
    if task != "feature-extraction":
        raise InputError(f"transformer_task must be 'feature-extraction', got {task!r}")
    if backend != "torch":
        raise InputError(f"backend must be 'torch', got {backend!r}")
    if modality_config is None:
        return
    if output_name is None:
        raise InputError("modality_config needs module_output_name beside it")
    others = [name for name in modality_config if name != "text"]
    if others or modality_config.get("text", {}).get("method") != "forward":
        raise FolderError(
            f"modality_config: only text through 'forward' is supported, got {', '.join(modality_config)}"
        )
