"""Attention over a packed batch: every text attends to itself only, and nothing is computed on padding.

Two ways give the same numbers. :func:`grouped` (any device, any dtype, any mask) runs texts of equal length together
through ``scaled_dot_product_attention`` without a padding mask. :func:`varlen` (CUDA, half precision) gives the whole
batch to the variable-length kernel of torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fourfold.ops import banded

UNLIMITED = -1


@dataclass(frozen=True)
class Window:
    """Which tokens a token may attend to: from ``left`` before it to ``right`` after it; -1 is no limit."""

    left: int = UNLIMITED
    right: int = UNLIMITED

    def clipped(self, length: int) -> Window:
        """Return the window as it acts on a text of ``length`` tokens: limits that cannot bind become -1."""
        left = UNLIMITED if self.left >= length - 1 else self.left
        right = UNLIMITED if self.right >= length - 1 else self.right
        return Window(left, right)

    @property
    def is_full(self) -> bool:
        """Whether every token attends to every token."""
        return self.left == UNLIMITED and self.right == UNLIMITED

    @property
    def is_band(self) -> bool:
        """Whether a token attends to few tokens on either side, so that a long text needs only those."""
        return self.left != UNLIMITED and self.right != UNLIMITED

    @property
    def is_causal(self) -> bool:
        """Whether a token attends to all before it and none after."""
        return self.left == UNLIMITED and self.right == 0

    def mask(self, length: int, device: torch.device) -> Tensor:
        """Return the window as a boolean ``[length, length]``, True where attention is allowed."""
        index = torch.arange(length, device=device)
        ahead = index[None, :] - index[:, None]
        allowed = torch.ones(length, length, dtype=torch.bool, device=device)
        if self.left != UNLIMITED:
            allowed &= ahead >= -self.left
        if self.right != UNLIMITED:
            allowed &= ahead <= self.right
        return allowed


FULL = Window()
CAUSAL = Window(UNLIMITED, 0)


def window_of(allowed: Callable[[Tensor, Tensor], Tensor], length: int, device: torch.device) -> Window | Tensor:
    """Return the window that a mask function describes, or its boolean ``[length, length]`` if it is no window.

    Args:
        allowed: Takes query and key positions (broadcast against each other) and says whether attention is allowed.
        length: Length of the text to look at.
        device: Where the mask function's own tensors live.
    """
    keys = torch.arange(length, device=device)
    # Three queries show a window: the first, a middle one, the last. The middle one also shows what is not a window.
    probes = [0, length // 2, length - 1]
    rows = allowed(torch.tensor(probes, device=device)[:, None], keys[None, :]).expand(3, length).cpu()
    left = right = 0
    for probe, row in zip(probes, rows, strict=True):
        seen = row.nonzero().flatten()
        if len(seen) == 0 or len(seen) != int(seen[-1] - seen[0]) + 1:
            return allowed(keys[:, None], keys[None, :]).expand(length, length)
        left, right = max(left, probe - int(seen[0])), max(right, int(seen[-1]) - probe)
    window = Window(left, right)
    if not torch.equal(window.mask(length, torch.device("cpu"))[probes], rows):
        return allowed(keys[:, None], keys[None, :]).expand(length, length)
    return window.clipped(length)


@dataclass
class Packing:
    """How a packed batch is laid out.

    Attributes:
        offsets: int64 ``[rows + 1]``, where each text begins.
        filling: Tokens after the last text that belong to none, and whose numbers nobody reads.
    """

    offsets: NDArray[np.int64]
    filling: int = 0
    _masks: dict[tuple[Window, int], Tensor] = field(default_factory=dict, repr=False)
    _offsets: dict[torch.device, Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each text."""
        return np.diff(self.offsets)

    @cached_property
    def longest(self) -> int:
        """Length of the longest text."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def groups(self) -> list[tuple[int, int, int]]:
        """Neighbours of equal length, as (first token, number of texts, their length); one run each if sorted."""
        runs, start = [], 0
        for length, run in groupby(self.lengths.tolist()):
            count = sum(1 for _ in run)
            if length:
                runs.append((start, count, length))
            start += count * length
        return runs

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """Place of every token within its text, from 0; 0 for filling."""
        places = np.arange(self.offsets[-1]) - np.repeat(self.offsets[:-1], self.lengths)
        return np.concatenate([places, np.zeros(self.filling, dtype=places.dtype)]) if self.filling else places

    def offsets_on(self, device: torch.device) -> Tensor:
        """Return the offsets as int32 on a device, copied there once a batch."""
        if device not in self._offsets:
            self._offsets[device] = torch.from_numpy(self.offsets).to(device, torch.int32)
        return self._offsets[device]

    def mask(self, window: Window, length: int, device: torch.device) -> Tensor:
        """Return a window's boolean mask, made once a batch; near the diagonal only where the text is long enough."""
        key = (window, length)
        if key not in self._masks:
            self._masks[key] = (
                banded.band_mask(length, window.left, window.right, device)
                if window.is_band and banded.pays(length, window.left, window.right)
                else window.mask(length, device)
            )
        return self._masks[key]


def grouped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    window: Window | Tensor,
    scale: float | None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend within each text of a packed batch, texts of equal length together.

    Args:
        query: ``[1, heads, tokens, size]``.
        key: ``[1, key heads, tokens, size]``; fewer heads than the query's are shared.
        value: As ``key``.
        packing: Which tokens belong together.
        window: Which tokens a token attends to, or a boolean ``[longest, longest]`` of it.
        scale: Factor of the scores; None is ``size ** -0.5``.
        dropout: Share of attention weights dropped.

    Returns:
        ``[1, tokens, heads, size]``.
    """
    heads, tokens, size = query.shape[1:]
    outputs = []
    shared = key.shape[1] != heads
    for start, count, length in packing.groups:
        q, k, v = (_texts(states, start, count, length) for states in (query, key, value))
        mask, causal = _mask_for(packing, window, length, query.device)
        if mask is not None and mask.ndim == 4 and isinstance(window, Window):
            out = banded.banded(q, k, v, window.left, window.right, mask, scale, dropout)
        else:
            out = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=shared
            )
        outputs.append(out.transpose(1, 2).reshape(count * length, heads, value.shape[-1]))
    if packing.filling:
        outputs.append(query.new_zeros(packing.filling, heads, value.shape[-1]))
    if len(outputs) == 1:
        return outputs[0].unsqueeze(0)
    return torch.cat(outputs).unsqueeze(0) if outputs else query.new_empty(1, tokens, heads, size)


def _texts(states: Tensor, start: int, count: int, length: int) -> Tensor:
    """View ``[1, heads, tokens, size]`` as the texts of one group, ``[texts, heads, length, size]``, without a copy."""
    group = states[0, :, start : start + count * length]
    return group.unflatten(1, (count, length)).transpose(0, 1)


def _mask_for(
    packing: Packing, window: Window | Tensor, length: int, device: torch.device
) -> tuple[Tensor | None, bool]:
    if isinstance(window, Tensor):
        return window[:length, :length], False
    window = window.clipped(length)
    if window.is_full:
        return None, False
    if window.is_causal:
        return None, True
    return packing.mask(window, length, device), False


def varlen_fits(query: Tensor, window: Window | Tensor, dropout: float) -> bool:
    """Whether torch's variable-length kernel takes these states: CUDA, half precision, head size up to 256."""
    return (
        query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and isinstance(window, Window)
        and dropout == 0.0
        and _varlen_kernel() is not None
    )


@cache
def _varlen_kernel() -> Callable[..., Any] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # torch before 2.10
        return None
    return varlen_attn


def varlen(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int, window: Window, scale: float | None
) -> Tensor:
    """Attend within each text of a packed batch by torch's variable-length kernel; shapes as in :func:`grouped`."""
    kernel = _varlen_kernel()
    if kernel is None:
        raise RuntimeError("varlen was called where varlen_fits is False. This is a bug.")
    heads = query.shape[1]
    if key.shape[1] != heads:
        key, value = (states.repeat_interleave(heads // states.shape[1], dim=1) for states in (key, value))
    flat = [states[0].transpose(0, 1).contiguous() for states in (query, key, value)]
    limits = (window.left, window.right)
    out = kernel(*flat, offsets, offsets, longest, longest, scale=scale, window_size=limits)
    return out.unsqueeze(0)
