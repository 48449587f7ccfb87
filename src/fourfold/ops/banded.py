"""Attention within a window, computed near the diagonal only: time and memory grow with the length, not its square.

Queries are cut into blocks; a block attends to its own keys and to those that the window reaches on either side. This
is the exact window, not an approximation (the sliding window of Longformer, Beltagy et al. 2020, arXiv:2004.05150).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# A block at least this long keeps the matrix products large enough to run well.
_SMALLEST_BLOCK = 128


def block_size(left: int, right: int) -> int:
    """Return the number of queries of a block, for a window that reaches ``left`` back and ``right`` ahead."""
    return max(_SMALLEST_BLOCK, left + right)


def pays(length: int, left: int, right: int) -> bool:
    """Whether a text is long enough for its window that computing near the diagonal saves more than it costs."""
    return length >= 3 * block_size(left, right)


def band_mask(length: int, left: int, right: int, device: torch.device) -> Tensor:
    """Return which keys of its span each query may see, boolean ``[blocks, 1, block, block + left + right]``."""
    block = block_size(left, right)
    blocks = -(-length // block)
    query = torch.arange(blocks * block, device=device).view(blocks, block, 1)
    place = torch.arange(block + left + right, device=device)
    key = (torch.arange(blocks, device=device) * block - left)[:, None, None] + place
    near = (key - query >= -left) & (key - query <= right) & (key >= 0) & (key < length)
    # Filling after the text attends to itself: a row without any key has no softmax.
    return (near | ((query >= length) & (key == query)))[:, None]


def banded(
    query: Tensor, key: Tensor, value: Tensor, left: int, right: int, mask: Tensor, scale: float | None, dropout: float
) -> Tensor:
    """Attend within a window that is limited on both sides.

    Args:
        query: ``[texts, heads, length, size]``.
        key: ``[texts, key heads, length, size]``; fewer heads than the query's are shared.
        value: As ``key``.
        left: How many tokens back a token attends to.
        right: How many tokens ahead.
        mask: What :func:`band_mask` gives for this length and window.
        scale: Factor of the scores; None is ``size ** -0.5``.
        dropout: Share of attention weights dropped.

    Returns:
        ``[texts, heads, length, size]``.
    """
    texts, heads, length, _ = query.shape
    block = block_size(left, right)
    blocks = mask.shape[0]
    after = blocks * block - length
    q = functional.pad(query, (0, 0, 0, after)).unflatten(2, (blocks, block))
    spans = [
        functional.pad(states, (0, 0, left, right + after)).unfold(2, block + left + right, block).transpose(-1, -2)
        for states in (key, value)
    ]
    # Blocks become texts of their own.
    q, k, v = (states.transpose(1, 2).flatten(0, 1) for states in (q, *spans))
    out = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask.repeat(texts, 1, 1, 1) if texts > 1 else mask, dropout_p=dropout, scale=scale,
        enable_gqa=key.shape[1] != heads,
    )  # fmt: skip
    return out.unflatten(0, (texts, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :length]
