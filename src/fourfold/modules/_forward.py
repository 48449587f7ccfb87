"""Call one of a transformers model's methods with the features that it takes, and pick its output apart."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor

from fourfold.errors import InputError, MissingMethodError
from fourfold.modules._base import Features
from fourfold.modules._packed import unwrapped
from fourfold.text.modality import Modality, format_modality

# Features that are for modules after this one, which a forward with **kwargs gets only if it names them.
_NOT_FOR_MODELS = frozenset(
    (
        "modality", "num_images_per_sample", "num_videos_per_sample", "prompt_length", "query_expansion_positions",
        "task", "offset_mapping", "overflow_to_sample_mapping", "special_tokens_mask", "packing", "token_embeddings",
        "sentence_embedding", "all_layer_embeddings", "causal_logits", "scores",
    )
)  # fmt: skip
# What describes a packed batch to the kernels of flash attention; our own attention knows it from its context.
_LAYOUT = frozenset(("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"))


def entry_of(config: Mapping[Any, dict[str, Any]], modality: Modality) -> dict[str, Any]:
    """Return how a modality is run.

    Raises:
        InputError: If the modality config does not say.
    """
    entry = config.get(modality)
    if entry is None:
        known = ", ".join(map(format_modality, config))
        raise InputError(f"features of modality {format_modality(modality)!r} cannot be run; known: {known}")
    return entry


def run(model: Any, method: str, features: Features, path: Any, *, packed: bool) -> Any:
    """Call ``method`` of a model and return its output.

    Args:
        model: A transformers model.
        method: Name of the method, usually ``forward``.
        features: What there is; the method gets what it takes.
        path: The wanted output; hidden states have to be asked for.
        packed: Whether the batch is packed, and the model's attention is ours.

    Raises:
        InputError: If the model has no such method.
    """
    function = model if method == "forward" else getattr(model, method, None)
    if function is None or method.startswith("_"):
        raise InputError(f"{type(model).__name__} has no method {method!r}, which modality_config names")
    declared, open_ended = _parameters(getattr(type(unwrapped(model)), method))
    if not open_ended:
        arguments = {key: value for key, value in features.items() if key in declared}
    elif method == "forward":
        left_out = _NOT_FOR_MODELS | _LAYOUT if packed else _NOT_FOR_MODELS
        arguments = {key: value for key, value in features.items() if key in declared or key not in left_out}
    else:
        arguments = {key: value for key, value in features.items() if key in declared}
    if open_ended or "return_dict" in declared:
        arguments["return_dict"] = True
    if isinstance(path, (list, tuple)) and path and path[0] == "hidden_states":
        arguments["output_hidden_states"] = True
    return function(**arguments)


@cache
def _parameters(function: Any) -> tuple[frozenset[str], bool]:
    """Return the names that a function declares, and whether it takes others too."""
    parameters = inspect.signature(function).parameters
    return frozenset(parameters), any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def pick(output: Any, path: Any) -> Any:
    """Return the part of a model's output that is wanted.

    Args:
        output: What the method returned.
        path: A name, a list of names and positions from outside in, or None for the output itself.

    Returns:
        The part; feature maps ``[rows, channels, height, width]`` as ``[rows, height * width, channels]``.

    Raises:
        MissingMethodError: If a name leads nowhere.
    """
    found = output
    for step in [] if path is None else path if isinstance(path, (list, tuple)) else [path]:
        try:
            found = found[step] if isinstance(step, int) or not hasattr(found, step) else getattr(found, step)
        except (KeyError, IndexError, TypeError):
            found = None
        if found is None:
            raise MissingMethodError(
                f"the output {type(output).__name__} has no {step!r}, which method_output_name {path!r} names"
            )
    if isinstance(found, Tensor) and found.ndim == 4:
        return found.flatten(2).transpose(1, 2)
    return found


def width(config: Any, *, sentence: bool) -> int:
    """Return the width of a model's vectors by its config, else by those of its parts.

    Args:
        config: The config of a transformers model.
        sentence: Whether vectors are those of whole inputs, which models of several modalities project.

    Raises:
        InputError: If the config names no width.
    """
    if getattr(config, "num_features", None) is not None:  # image models of timm
        return config.num_features
    parts = [config, getattr(config, "text_config", None)]
    parts += [getattr(config, name, None) for name in getattr(config, "sub_configs", None) or {}]
    for part in parts:
        found = _own_width(part, sentence=sentence)
        if found is not None:
            return found
    raise InputError(f"{type(config).__name__} names no hidden_size, and none of its parts does")


def _own_width(config: Any, *, sentence: bool) -> int | None:
    for name in (*(["projection_dim"] if sentence else []), "hidden_size"):
        if isinstance(getattr(config, name, None), int):
            return getattr(config, name)
    for name in ("neck_hidden_sizes", "hidden_sizes", "embed_dims"):
        if getattr(config, name, None):
            return getattr(config, name)[-1]
    return getattr(config, "hidden_dim", None) or getattr(config, "dim", None)
