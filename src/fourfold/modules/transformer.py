"""A transformers checkpoint as the first module: texts, chat messages or images to vectors, packed where it can be."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fourfold.errors import InputError, WeightsError, did_you_mean, require
from fourfold.modules import (
    _forward,
    _heads,
    _modalities,
    _packed,
    _pretrained,
    _processing,
    _processor,
    _query_expansion,
    _runtime,
    _shared_prefix,
    _vocabulary,
)
from fourfold.modules._base import Features
from fourfold.modules._transformer_folder import KWARGS, TransformerFolder
from fourfold.modules._transformer_inputs import TransformerInputs
from fourfold.notices import renamed_keywords, warn_once
from fourfold.ops import thinned
from fourfold.ops.attention import Packing
from fourfold.runtimes import KINDS
from fourfold.text.modality import Modality

logger = logging.getLogger(__name__)

BACKENDS = ("torch", *KINDS)

# Tasks whose texts may run packed, and what compares packed with padded ones where not every token is compared.
_PACKING: dict[str, Any] = {
    "feature-extraction": None,
    "fill-mask": None,
    "sequence-classification": _heads.scores_packed,
    "text-generation": None,
}


def _older_keywords(init: Callable[..., None]) -> Callable[..., None]:
    """Let the constructor take ``cache_dir``, which has been an argument of its own."""

    @functools.wraps(init)
    def with_cache_dir(self: Any, *args: Any, cache_dir: str | None = None, **kwargs: Any) -> None:
        if cache_dir is not None:
            warn_once(logger, f"The argument cache_dir= is deprecated; put it into {', '.join(KWARGS)} instead.")
            for name in KWARGS:
                kwargs[name] = {"cache_dir": cache_dir, **(kwargs.get(name) or {})}
        init(self, *args, **kwargs)

    return renamed_keywords(model_args="model_kwargs", tokenizer_args="processor_kwargs", config_args="config_kwargs")(
        with_cache_dir
    )


class Transformer(TransformerInputs, TransformerFolder):
    """Run a transformers model on texts, pairs of texts, chat messages, images, audio or video.

    Args:
        model_name_or_path: Folder or hub name of a transformers checkpoint, or of a PEFT adapter to one.
        transformer_task: What the checkpoint is loaded for: ``feature-extraction``, ``sequence-classification``,
            ``text-generation``, ``any-to-any``, ``fill-mask`` or ``retrieval``.
        model_kwargs: Arguments of the model's ``from_pretrained``, such as ``dtype`` or ``attn_implementation``.
        processor_kwargs: Arguments of the processor's ``from_pretrained``.
        config_kwargs: Arguments of the config's ``from_pretrained``; the key-value cache is off unless ``use_cache``
            is given.
        processing_kwargs: Arguments of the processor's call, by ``common``, ``text``, ``audio``, ``image``, ``video``
            and ``chat_template``.
        backend: ``torch``, or ``onnx`` or ``openvino``: then a graph stands for the transformers model, and
            ``model_kwargs`` also say which file (``file_name``, ``subfolder``, ``export``) and how it runs
            (``provider``, ``provider_options``, ``session_options``, ``use_io_binding``; ``ov_config``).
        modality_config: Which method runs which kind of input, as a saved folder states it. None finds out.
        module_output_name: Feature that ``forward`` writes; needed beside ``modality_config``.
        unpad_inputs: True packs texts without padding, False pads them, None packs if a numerical check at load allows.
        query_length: Longest input in tokens where ``task`` is ``"query"``; None is ``max_seq_length``.
        document_length: The same for ``"document"``.
        query_expansion: Tokens added to queries, for late interaction: ``strategy`` ``"fixed"`` or ``"min"``,
            ``length``, ``attend``, ``token``.
        max_seq_length: Longest input in tokens, special tokens included; longer ones are cut. None takes the smaller
            of what the tokenizer and the model's positions allow.
        do_lower_case: Lower-case texts before tokenising.
        tokenizer_name_or_path: Deprecated; folder or hub name of another processor.

    Raises:
        InputError: If an argument is unusable.
        MissingExtraError: If an adapter needs peft, or a task a newer transformers.
    """

    @_older_keywords
    def __init__(
        self,
        model_name_or_path: str,
        *,
        transformer_task: str = "feature-extraction",
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        processing_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        modality_config: dict[Modality, dict[str, Any]] | None = None,
        module_output_name: str | None = None,
        unpad_inputs: bool | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        query_expansion: dict[str, Any] | None = None,
        max_seq_length: int | None = None,
        do_lower_case: bool = False,
        tokenizer_name_or_path: str | None = None,
    ) -> None:
        super().__init__()
        require("transformers", "torch", "Transformer")
        self._warn_if_deprecated()
        _check(transformer_task, backend)
        given = None if modality_config is None else _modalities.check(modality_config, module_output_name)
        if tokenizer_name_or_path is not None:
            logger.warning("tokenizer_name_or_path is deprecated; put the tokenizer's files beside the model's")
        self.transformer_task = transformer_task
        self.backend = backend
        self.do_lower_case = do_lower_case
        self.query_length, self.document_length = query_length, document_length
        self.processing_kwargs = dict(processing_kwargs or {})
        _processing.check_keys(self.processing_kwargs)
        config = _pretrained.config(model_name_or_path, config_kwargs or {}, transformer_task)
        self.model = (
            _pretrained.model(model_name_or_path, config, model_kwargs or {}, transformer_task)
            if backend == "torch"
            else _runtime.load(backend, model_name_or_path, config, transformer_task, model_kwargs or {})
        )
        self.processor = _processor.load(
            tokenizer_name_or_path or model_name_or_path, config, processor_kwargs or {}, max_seq_length
        )
        if do_lower_case and self.tokenizer is not None:
            _processor.lower_case(self.tokenizer)
        if transformer_task in _modalities.CAUSAL_TASKS:
            _processor.pad_left(self.processor, self.tokenizer)
        if given is None:
            given, inferred = _modalities.infer(self.model, self.processor, transformer_task)
            module_output_name = module_output_name or inferred
        self.modality_config = given
        self.module_output_name = str(module_output_name)
        self.query_expansion = query_expansion
        self._saved_unpad = unpad_inputs
        self._first = _packed.first_position(self.model)
        self._decide()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a pickled module; the process that unpickles it may not know the packed attention yet."""
        super().__setstate__(state)
        _packed.register()

    # -- what the module is ------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__("model" if name == "auto_model" else name, value)

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
        """Most numbers that a layer holds for a token: the width of its inner states, or of its output."""
        text = self.config.get_text_config()
        if self.transformer_task == "fill-mask" and not (self._defers and self.packed):
            return text.vocab_size
        return getattr(text, "intermediate_size", None) or getattr(text, "hidden_dim", None)

    @property
    def max_seq_length(self) -> int | None:
        """Longest input in tokens, special tokens included; None if nothing limits it. Kept in the tokenizer."""
        if self.tokenizer is None:
            return getattr(self.config.get_text_config(), "max_position_embeddings", None)
        length = self.tokenizer.model_max_length
        return None if length is None or length > 10**9 else length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        if self.tokenizer is not None:
            self.tokenizer.model_max_length = value if value is not None else 10**30

    @property
    def query_expansion(self) -> dict[str, Any] | None:
        """What is added to queries, with all its keys; None adds nothing. Checked when set."""
        return self._expansion

    @query_expansion.setter
    def query_expansion(self, value: dict[str, Any] | None) -> None:
        expansion = _query_expansion.check(value, self.query_length)
        if expansion is not None:
            _query_expansion.token_id(expansion, self.tokenizer)
            attention = getattr(self.config, "_attn_implementation", None) or ""
            if "flash" in attention and not expansion["attend"]:
                raise InputError(f"query_expansion with attend=False cannot run with attn_implementation={attention!r}")
        self._expansion = expansion

    @property
    def packed(self) -> bool:  # type: ignore[override]
        """Whether texts run packed."""
        return self._packs and _packed.is_prepared(self.model)

    @property
    def can_flatten_inputs(self) -> bool:
        """Whether texts run packed."""
        return self.packed

    def packs(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether texts run packed with these arguments.

        Queries that are expanded do not, nor does a language model that is asked for logits of several positions.
        """
        if not self.packed or self._expands(kwargs):
            return False
        return (
            self.transformer_task != "text-generation"
            or self._options(kwargs.get("processing_kwargs")).logits_to_keep == 1
        )

    def _reads_ends(self, kwargs: Mapping[str, Any]) -> bool:
        if self.config.output_hidden_states or not self.packs(kwargs):
            return False
        return self.transformer_task == "text-generation" or (self._thinning is not None and self._thinning.last)

    def shares_prefixes(self) -> bool:
        """Whether what several texts begin with may run once; found out by numbers when it is first asked."""
        if self._shares is None:
            vocabulary, pad_id = self.config.get_text_config().vocab_size, self.tokenizer.pad_token_id or 0
            self._shares = _shared_prefix.same_numbers(self, vocabulary, pad_id)
        return self._shares

    @property
    def unpad_inputs(self) -> bool | None:
        """What was asked for: True packs, False pads, None let a numerical check decide."""
        return self._saved_unpad

    @unpad_inputs.setter
    def unpad_inputs(self, value: bool | None) -> None:
        self._saved_unpad = value
        self._decide()

    def _decide(self) -> None:
        """Find out whether texts can run packed, and whether logits of packed texts can be left to who pools them."""
        self._packs = self._decide_packing()
        vocabulary = self.config.get_text_config().vocab_size if self._packs else 0
        masked = self._packs and self.transformer_task == "fill-mask"
        self._defers = masked and _vocabulary.can_be_left_out(self.model, self._first, vocabulary)
        self._thinning = None
        self._shares = None
        if self._packs and self.transformer_task == "sequence-classification":
            self._thinning = _heads.thinning(self.model, self._first, vocabulary, self.tokenizer.pad_token_id or 0)

    def _decide_packing(self) -> bool:
        methods = {entry["method"] for entry in self.modality_config.values()}
        if (
            self.transformer_task not in _PACKING
            or self._takes_media()
            or methods != {"forward"}
            or self.tokenizer is None
        ):
            if self._saved_unpad:
                logger.warning("unpad_inputs=True: only texts are computed packed, inputs are padded")
            return False
        same_numbers = _PACKING[self.transformer_task]
        return _packed.decide(
            self.model, self._saved_unpad, self._first, self.tokenizer.pad_token_id or 0, same_numbers
        )

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors; for ``fill-mask`` that of the states below the logits."""
        if self.transformer_task == "retrieval" and hasattr(self.config, "embedding_dim"):
            return self.config.embedding_dim
        return _forward.width(self.config, sentence=self.module_output_name == "sentence_embedding")

    # -- features to vectors -----------------------------------------------------------------------------------------

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Write ``module_output_name``: token vectors are ``[rows, longest, width]``, packed ``[1, tokens, width]``.

        Logits of texts that this module has packed itself are :class:`~fourfold.ops.splade.VocabularyLogits` for
        ``fill-mask``; of a language model they are those of each packed text's last token, ``[1, rows, words]``.

        Raises:
            InputError: If the model has no method for the features' modality.
            MissingMethodError: If the method's output lacks the field that the modality config names.
        """
        entry = _forward.entry_of(self.modality_config, features.get("modality", "text"))
        path = entry["method_output_name"]
        try:
            with _packed.layout_of(features, self.packed) as packing:
                defers = packing is not None and self._defers and "packing" in features
                layer = _vocabulary.projection(self.model) if defers else None
                with self._read_by_text(features, packing, layer) as more:
                    given = {**features, **kwargs, **more}
                    with thinned.cheap_dropout(self.model):
                        output = _forward.run(self.model, entry["method"], given, path, packed=packing is not None)
        except IndexError as error:
            self._check_ids(features)
            raise error from None
        found = _forward.pick(output, path)
        features[self.module_output_name] = found if layer is None else _vocabulary.deferred(found, layer)
        if self.config.output_hidden_states and "hidden_states" in output:
            features["all_layer_embeddings"] = output["hidden_states"]
        return features

    @contextlib.contextmanager
    def _read_by_text(self, features: Features, packing: Packing | None, layer: Any) -> Iterator[dict[str, Any]]:
        """Run a block in which what follows the layers of the model reads packed texts; yields arguments for it."""
        if packing is None:
            yield {}
        elif self.transformer_task == "sequence-classification":
            thin = None if self.config.output_hidden_states else self._thinning
            with _heads.one_state_a_text(self.model, features["input_ids"], packing, thin):
                yield {}
        elif self.transformer_task in _modalities.CAUSAL_TASKS:
            yield {"logits_to_keep": _heads.ends(packing, features["input_ids"].device)}
        elif layer is not None:
            with _vocabulary.left_out(layer):
                yield {}
        else:
            yield {}

    def _check_ids(self, features: Features) -> None:
        """Raise if the tokenizer gives ids that the model has no vectors for, which torch only calls an index."""
        highest, rows = int(features["input_ids"].max()), self.config.get_text_config().vocab_size
        if highest >= rows:
            raise WeightsError(f"the tokenizer gives ids up to {highest}, the model has vectors for {rows} of them")

    def __repr__(self) -> str:
        return f"Transformer({ {**self.get_config_dict(), 'architecture': type(self.model).__name__} })"


def _check(task: str, backend: str) -> None:
    if task not in _modalities.OUTPUTS:
        known = ", ".join(_modalities.OUTPUTS)
        raise InputError(
            f"transformer_task must be one of {known}; got {task!r}.{did_you_mean(task, _modalities.OUTPUTS)}"
        )
    check_backend(backend)


def check_backend(backend: str) -> str:
    """Return the name of a backend of the contract; raises :class:`~fourfold.errors.InputError` for others."""
    if backend not in BACKENDS:
        raise InputError(
            f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}.{did_you_mean(backend, BACKENDS)}"
        )
    return backend
