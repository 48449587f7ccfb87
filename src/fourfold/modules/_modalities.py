"""Find out which method of a model runs which kind of input, when a folder does not say."""

from __future__ import annotations

import logging
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from fourfold.errors import InputError
from fourfold.notices import warn_once
from fourfold.text.messages import message_format
from fourfold.text.modality import Modality, format_modality, parse_modality

logger = logging.getLogger(__name__)

ModalityConfig = dict[Modality, dict[str, Any]]
"""For each modality ``method``, ``method_output_name`` and, for messages, ``format``."""

# Field of a model's output that each task reads, and the feature it becomes.
OUTPUTS = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "sequence-classification": ("logits", "scores"),
    "text-generation": ("logits", "causal_logits"),
    "any-to-any": ("logits", "causal_logits"),
    "fill-mask": ("logits", "token_embeddings"),
    "retrieval": ("embeddings", "token_embeddings"),
}
CAUSAL_TASKS = ("text-generation", "any-to-any")

_BOTH = ("image", "text")
_SPOKEN = ("audio", ("audio", "text"))
_SPEECH_MODELS = (
    "hubert", "moonshine", "sew", "sew-d", "unispeech", "unispeech-sat", "wav2vec2", "wav2vec2-conformer", "wavlm",
    "whisper", "voxtral_realtime",
)  # fmt: skip
# Model types whose modalities cannot be told from their processor, for tasks where every modality uses ``forward``.
_FORWARD: dict[str, dict[str, tuple[Modality, ...]]] = {
    "feature-extraction": {
        **dict.fromkeys(("git", "visual_bert"), ("text", _BOTH)),
        **dict.fromkeys(("kosmos-2", "grounding-dino", "paligemma", "vilt"), (_BOTH,)),
        "layoutlmv3": ("image", _BOTH),
        "idefics": ("text", "image", _BOTH),
        **dict.fromkeys(_SPEECH_MODELS, _SPOKEN),
    },
    "text-generation": {"git": ("text", _BOTH), "whisper": ("text",)},
    "any-to-any": {
        "git": ("text", _BOTH),
        **dict.fromkeys(("blip", "blip-2", "kosmos-2", "paligemma"), (_BOTH,)),
        "voxtral_realtime": _SPOKEN,
    },
    "fill-mask": {"wav2vec2": ("audio",)},
}
# Model types with a method for each modality: (methods, field of the output, feature).
_METHODS: dict[str, tuple[dict[Modality, str], str, str]] = {
    "blip": (
        {"text": "get_text_features", "image": "get_image_features", _BOTH: "get_multimodal_features"},
        "pooler_output", "sentence_embedding",
    ),
    "blip-2": (
        {"text": "get_text_features", "image": "get_image_features"}, "last_hidden_state", "token_embeddings",
    ),
    "sam3": ({"text": "get_text_features", "image": "get_vision_features"}, "last_hidden_state", "token_embeddings"),
    "flava": ({"text": "get_text_features", "image": "get_image_features"}, "pooler_output", "token_embeddings"),
}  # fmt: skip
# A processor's part and what it reads, in the order of a model's modalities.
_PARTS = {"tokenizer": "text", "image_processor": "image", "feature_extractor": "audio", "video_processor": "video"}


def infer(model: Any, processor: Any, task: str) -> tuple[ModalityConfig, str]:
    """Return a model's modality config and the feature that it writes.

    Args:
        model: A transformers model.
        processor: Its processor, for the kinds of input it reads and its chat template.
        task: The task that the model was loaded for.
    """
    model_type = model.config.model_type
    output, name = OUTPUTS[task]
    if task == "feature-extraction" and model_type in _METHODS:
        methods, output, name = _METHODS[model_type]
        return _with_messages(by_methods(model, methods, output), processor, model_type), name
    fixed = _FORWARD.get(task, {}).get(model_type)
    if fixed is not None:
        return _with_messages({kind: _entry("forward", output) for kind in fixed}, processor, model_type), name
    kinds = of_processor(processor)
    if task == "retrieval":
        kinds = [kind for kind in kinds if kind in ("text", "image")] or ["text"]
    elif task == "feature-extraction" and not _declares(model, "forward", output, unknown=True):
        methods = {kind: f"get_{kind}_features" for kind in kinds}
        found = by_methods(model, methods, "pooler_output", required=False)
        if found:
            return _with_messages(found, processor, model_type), "sentence_embedding"
    return _with_messages({kind: _entry("forward", output) for kind in kinds}, processor, model_type), name


def of_processor(processor: Any) -> list[Modality]:
    """Return the kinds of input that a processor reads; an empty list, with a warning, for one of unknown kind."""
    from transformers import (
        BaseImageProcessor,
        FeatureExtractionMixin,
        PreTrainedTokenizerBase,
        ProcessorMixin,
    )

    if isinstance(processor, ProcessorMixin):
        # Asked for by name, since some processors warn when asked for a part under a name that it has had.
        named = getattr(processor, "attributes", None) or processor.get_attributes()
        return [kind for part, kind in _PARTS.items() if part in named and getattr(processor, part, None) is not None]
    if isinstance(processor, PreTrainedTokenizerBase):
        return ["text"]
    names = {base.__name__ for base in type(processor).__mro__}
    if "BaseVideoProcessor" in names:
        return ["video"]
    if isinstance(processor, BaseImageProcessor) or any(name.startswith("BaseImageProcessor") for name in names):
        return ["image"]
    if isinstance(processor, FeatureExtractionMixin):
        return ["audio"]
    logger.warning("%s is no known kind of processor; the model takes no inputs", type(processor).__name__)
    return []


def _with_messages(config: ModalityConfig, processor: Any, model_type: str) -> ModalityConfig:
    """Return the config with an entry for chat messages, if the processor has a template for them."""
    template = getattr(processor, "chat_template", None)
    if template is None or not config:
        return config
    entry = config.get("text") or next(iter(config.values()))
    return {**config, "message": {**entry, "format": message_format(model_type, template)}}


def by_methods(model: Any, methods: Mapping[Any, str], output: str, *, required: bool = True) -> ModalityConfig:
    """Return the config of a model with a method for each modality.

    Args:
        model: A transformers model, or its class.
        methods: The method of each modality.
        output: Field of the output, where the method says that it returns one; else the result itself is taken.
        required: Whether to warn of a method that is missing.
    """
    config: ModalityConfig = {}
    for kind, method in methods.items():
        if not hasattr(model, method):
            if required:
                warn_once(logger, f"{_class_of(model).__name__} has no {method}; {format_modality(kind)} is left out")
            continue
        config[kind] = _entry(method, output if _declares(model, method, output) else None)
    return config


def _entry(method: str, output: str | None) -> dict[str, Any]:
    return {"method": method, "method_output_name": output}


def _class_of(model: Any) -> Any:
    return model if isinstance(model, type) else type(model)


def _declares(model: Any, method: str, name: str, *, unknown: bool = False) -> bool:
    """Whether a method says that it returns an output with a field; ``unknown`` if it does not say what it returns."""
    outputs = _declared_outputs(getattr(_class_of(model), method, None))
    if outputs is None:
        return unknown
    return any(name in {field.name for field in fields(output)} for output in outputs)


def _declared_outputs(method: Any) -> list[Any] | None:
    """Return the classes of output that a method's annotation names; None if it has no annotation to read."""
    try:
        returned = typing.get_type_hints(method).get("return")
    except (NameError, TypeError, AttributeError):
        return None
    if returned is None:
        return None
    either = typing.get_origin(returned) in (typing.Union, types.UnionType)
    options = typing.get_args(returned) if either else (returned,)
    return [option for option in options if isinstance(option, type) and is_dataclass(option)]


# -- in folders --------------------------------------------------------------------------------------------------------


def check(config: Mapping[Any, Any], output_name: str | None) -> ModalityConfig:
    """Return a modality config that a caller or folder gave, with combined modalities as tuples.

    Raises:
        InputError: If an entry lacks its method or output, or ``module_output_name`` is missing.
    """
    if output_name is None:
        raise InputError("modality_config needs module_output_name beside it")
    checked: ModalityConfig = {}
    for key, entry in config.items():
        kind = key if isinstance(key, tuple) else parse_modality(key)
        if kind is None:
            logger.warning("modality_config: the unknown modality %r is left out", key)
            continue
        if not isinstance(entry, Mapping):
            raise InputError(f"modality_config[{format_modality(kind)!r}] must be an object, got {entry!r}")
        lacking = [name for name in ("method", "method_output_name") if name not in entry]
        if lacking:
            raise InputError(f"modality_config[{format_modality(kind)!r}] needs the key {lacking[0]!r}")
        if not isinstance(entry["method"], str):
            raise InputError(f"modality_config[{format_modality(kind)!r}]: 'method' must be a name, got {entry!r}")
        checked[kind] = dict(entry)
    return checked


def stored(config: ModalityConfig) -> dict[str, Any]:
    """Return a modality config as it is saved."""
    return {format_modality(kind): entry for kind, entry in config.items()}
