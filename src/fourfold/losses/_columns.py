"""The columns of a batch become vectors: in one packed forward where all of them can go through it together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fourfold.containers import offsets_of
from fourfold.modules._base import Features
from fourfold.modules._packed import layout
from fourfold.ops.attention import Packing

_merging: ContextVar[bool] = ContextVar("merging", default=True)

_OF_TOKENS = ("input_ids", "position_ids", "token_type_ids")
_LAYOUT = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "packing")


@contextlib.contextmanager
def column_merging_disabled() -> Iterator[None]:
    """Give each column a forward of its own inside the block, for losses that look at every single forward."""
    token = _merging.set(False)
    try:
        yield
    finally:
        _merging.reset(token)


def embed_columns(model: Any, features_list: Sequence[Features], separate_first: bool = True) -> list[Tensor]:
    """Return the vectors ``[rows, width]`` of each column, with gradients where they are on.

    Packed columns that differ in nothing but their texts are one forward.

    Args:
        model: The encoder.
        features_list: The features of each column; they are not changed.
        separate_first: Has no meaning here: a packed forward of all columns costs no padding.
    """
    return [output["sentence_embedding"] for output in run_columns(model, features_list, ("sentence_embedding",))]


def run_columns(model: Any, features_list: Sequence[Features], names: Sequence[str]) -> list[Features]:
    """Return what the model writes for each column, as far as it is named; each ``[rows, ...]`` or None."""
    together = merged(features_list) if _merging.get() and len(features_list) > 1 else None
    if together is None:
        outputs = (model(dict(features)) for features in features_list)
        return [{name: output.get(name) for name in names} for output in outputs]
    output = model(together)
    counts = [len(features["packing"].lengths) for features in features_list]
    split = {name: [None] * len(counts) if output.get(name) is None else output[name].split(counts) for name in names}
    return [{name: split[name][i] for name in names} for i in range(len(counts))]


def merged(features_list: Sequence[Features]) -> Features | None:
    """Return packed columns as one packed batch, column after column; None if they are not to run together."""
    first = features_list[0]
    if any(set(features) != set(first) or "packing" not in features for features in features_list):
        return None
    rest = {name: value for name, value in first.items() if name not in (*_OF_TOKENS, *_LAYOUT)}
    for name, value in rest.items():
        if isinstance(value, Tensor) or any(features[name] != value for features in features_list):
            return None
    packings: list[Packing] = [features["packing"] for features in features_list]
    if any(packing.after is not None for packing in packings):
        return None
    offsets = offsets_of(np.concatenate([packing.lengths for packing in packings]))
    tokens = {
        name: torch.cat(
            [
                features[name][:, : packing.offsets[-1]]
                for features, packing in zip(features_list, packings, strict=True)
            ],
            dim=1,
        )
        for name in _OF_TOKENS
        if name in first
    }
    on_device = torch.from_numpy(offsets).int().to(tokens["input_ids"].device)
    return {**rest, **tokens, **layout(on_device, Packing(offsets))}
