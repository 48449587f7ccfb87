"""Single rows of a column's features: their tokens, and some rows of a batch as a batch of their own."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fourfold.containers import offsets_of
from fourfold.modules._base import Features
from fourfold.modules._packed import layout
from fourfold.ops.attention import Packing

_PACKED = ("input_ids", "position_ids", "token_type_ids")


def rows_of(features: Features) -> int:
    """Return the number of texts of a column."""
    if "cu_seq_lens_q" in features:
        return len(features["cu_seq_lens_q"]) - 1
    if "offsets" in features:  # static embeddings: ids end to end, and where each text begins
        return len(features["offsets"])
    return len(next(value for value in features.values() if isinstance(value, Tensor)))


def token_rows(features: Features) -> list[Tensor]:
    """Return the ids of each text without padding."""
    ids = features["input_ids"]
    if "cu_seq_lens_q" in features:
        offsets = features["cu_seq_lens_q"].tolist()
        return [ids[0, start:stop] for start, stop in itertools.pairwise(offsets)]
    if "offsets" in features:
        offsets = [*features["offsets"].tolist(), len(ids)]
        return [ids[start:stop] for start, stop in itertools.pairwise(offsets)]
    return [row[mask.bool()] for row, mask in zip(ids, features["attention_mask"], strict=True)]


def token_counts(features: Features) -> Any:
    """Return the number of tokens of each text, int64 ``[rows]``; None if the features do not tell."""
    if "packing" in features:
        return features["packing"].lengths
    if "cu_seq_lens_q" in features:
        return np.diff(features["cu_seq_lens_q"].cpu().numpy())
    if "attention_mask" in features:
        return features["attention_mask"].sum(1).cpu().numpy()
    return None


def take_rows(features: Features, start: int, stop: int) -> Features:
    """Return some rows of a column; padding that is the same for all of them is dropped at the end."""
    if "cu_seq_lens_q" in features:
        return _take_packed(features, start, stop)
    rows = rows_of(features)
    taken = {
        name: value[start:stop] if isinstance(value, Tensor) and value.ndim and len(value) == rows else value
        for name, value in features.items()
    }
    mask = taken.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return taken
    used = mask.bool()
    if isinstance(taken.get("query_expansion_positions"), Tensor):
        used = used | taken["query_expansion_positions"]
    longest = int(used.any(dim=0).nonzero().max()) + 1 if bool(used.any()) else mask.shape[1]
    return {
        name: value[:, :longest]
        if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == mask.shape[1]
        else value
        for name, value in taken.items()
    }


def _take_packed(features: Features, start: int, stop: int) -> Features:
    offsets = features["cu_seq_lens_q"].cpu().long().numpy()
    tokens = slice(int(offsets[start]), int(offsets[stop]))
    own = offsets_of(np.diff(offsets[start : stop + 1]))
    on_device = torch.from_numpy(own).int().to(features["input_ids"].device)
    taken = {name: features[name][:, tokens] for name in _PACKED if name in features}
    return {**features, **taken, **layout(on_device, Packing(own))}
