"""Attention of a training whose weights are dropped at random, where no fused kernel does that: on a CPU.

torch draws a number of its own for each weight, one after the other, which takes longer than the products around it.
Here a draw of 64 bits decides over four weights.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool, scale: float | None, dropout: float
) -> Tensor:
    """Attend with a share of the weights left out, the others scaled up so that their expected sum stays 1.

    Args:
        query: ``[rows, heads, queries, size]``.
        key: ``[rows, heads, keys, size]``.
        value: As ``key``.
        mask: ``[queries, keys]`` or broadcast to that, True where a token attends; None is everywhere.
        causal: Whether a token attends to none behind it; then there is no mask.
        scale: Factor of the scores; None is ``size ** -0.5``.
        dropout: Share of weights left out.

    Returns:
        ``[rows, heads, queries, size]``.
    """
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-1, -2)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1)
    # The values are fewer than the weights, so that they are what is scaled.
    return (weights * kept(weights.shape, dropout, weights.device)) @ (value / (1 - dropout))


def kept(shape: torch.Size, dropout: float, device: torch.device) -> Tensor:
    """Return a boolean tensor that is False with a probability, rounded to a 65,536th.

    >>> torch.manual_seed(0) is not None
    True
    >>> round(kept(torch.Size([100, 1000]), 0.1, torch.device("cpu")).float().mean().item(), 2)
    0.9
    """
    count = shape.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=device).random_(-(2**63), None)
    return (words.view(torch.int16)[:count] >= round(dropout * 65536) - 32768).view(shape)
