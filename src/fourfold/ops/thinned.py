"""Dropout in trainings on a CPU, of states and of the weights of attention.

torch draws a number of its own for each, one after the other, which can take as long as the products around it, and
keeps one in four bytes for the way back. Here a draw of 64 bits decides over four, and a byte is kept for each.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class CheapDropout(TorchFunctionMode):
    """Inside the block ``torch.nn.functional.dropout`` on a CPU is :func:`dropout`.

    Not for layers that run again on the way back (gradient checkpointing): they do so outside the block, and would
    draw otherwise.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.dropout:
            return _dropout(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def cheap_dropout(model: Any) -> contextlib.AbstractContextManager[Any]:
    """Return what a transformers model is to be run in: :class:`CheapDropout`, where it trains and that may be."""
    cheap = model.training and model.device.type == "cpu" and not (_runs_again(model) or torch.compiler.is_compiling())
    return CheapDropout() if cheap else contextlib.nullcontext()


def _runs_again(model: Any) -> bool:
    # transformers 5 has a new name for it, and warns of the old one.
    names = ("is_activation_checkpointing", "is_gradient_checkpointing")
    return bool(next((getattr(model, name) for name in names if hasattr(type(model), name)), False))


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002
    if not training or input.device.type != "cpu" or not 0 < p < 1:
        return functional.dropout(input, p, training, inplace)
    return dropout(input, p)


def dropout(states: Tensor, share: float) -> Tensor:
    """Return states of which a share is 0, at random, and the others are scaled up so that their expected sum stays."""
    return _Thinned.apply(states, kept(states.shape, share, states.device), 1 / (1 - share))


class _Thinned(Function):
    """States where a mask is True, times a factor; the mask is all that is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, mask: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.factor = factor
        return _masked(states, mask, factor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return _masked(gradients[0], mask, ctx.factor), None, None


def _masked(states: Tensor, mask: Tensor, factor: float) -> Tensor:
    found = torch.where(mask, states, states.new_zeros(()))
    return found if factor == 1 else found.mul_(factor)


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
    left = _Thinned.apply(weights, kept(weights.shape, dropout, weights.device), 1.0)
    return left @ (value / (1 - dropout))


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
