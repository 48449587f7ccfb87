"""Token vectors that others hand over padded: join columns of them, and undo a packed batch.

Inside fourfold nothing is padded; these are for losses and models written for the older library.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

# What describes a packed batch and means nothing once it is padded again.
_PACKED_ONLY = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx", "position_ids")


def _even(embeddings: list[Tensor], masks: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return all tensors padded on the right with zeros to the longest."""
    longest = max(vectors.shape[1] for vectors in embeddings)
    vectors = [functional.pad(some, (0, 0, 0, longest - some.shape[1])) for some in embeddings]
    return vectors, [functional.pad(mask, (0, longest - mask.shape[1])) for mask in masks]


def stack_padded_token_embeddings(embeddings: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Join columns ``[rows, tokens, width]`` of different lengths along a new axis.

    Args:
        embeddings: Token vectors of each column.
        masks: ``[rows, tokens]`` of each column, non-zero for real tokens.

    Returns:
        ``[rows, columns, longest, width]`` and ``[rows, columns, longest]``, with zeros on the right.
    """
    vectors, filled = _even(embeddings, masks)
    return torch.stack(vectors, dim=1), torch.stack(filled, dim=1)


def cat_padded_token_embeddings(embeddings: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Join batches ``[rows, tokens, width]`` of different lengths, one below the other.

    Args:
        embeddings: Token vectors of each batch.
        masks: ``[rows, tokens]`` of each batch, non-zero for real tokens.

    Returns:
        ``[all rows, longest, width]`` and ``[all rows, longest]``, with zeros on the right.
    """
    vectors, filled = _even(embeddings, masks)
    return torch.cat(vectors), torch.cat(filled)


def repad_flattened_features(features: dict[str, Any]) -> dict[str, Any]:
    """Undo the packing of a batch: split the features of tokens at ``cu_seq_lens_q`` and fill up with zeros.

    Args:
        features: Holds ``token_embeddings`` ``[1, tokens, width]``, ``input_ids`` ``[1, tokens]`` and the offsets
            ``cu_seq_lens_q``; changed in place.

    Returns:
        The same dictionary, with ``[rows, longest, ...]``, a boolean ``attention_mask``, and nothing that describes
        the packing.
    """
    lengths = features["cu_seq_lens_q"].diff()
    sizes = lengths.tolist()
    for name in ("token_embeddings", "input_ids"):
        if name in features:
            features[name] = pad_sequence(list(features[name][0].split(sizes)), batch_first=True)
    place = torch.arange(max(sizes, default=0), device=lengths.device)
    features["attention_mask"] = place < lengths[:, None]
    for name in _PACKED_ONLY:
        features.pop(name, None)
    return features
