"""Attention over a packed batch: every text attends to itself only, and nothing is computed on padding.

Where texts begin alike, and attention looks back only, what they share may be a row of its own, which stands before
theirs.

Two ways give the same numbers. :func:`grouped` (any device, any dtype, any mask) runs texts of equal length together
through ``scaled_dot_product_attention`` without a padding mask. :func:`varlen` (CUDA, half precision) gives the whole
batch to the variable-length kernel of torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fourfold.containers import offsets_of, runs_of
from fourfold.ops import banded, thinned

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

    def mask(self, length: int, device: torch.device, before: int = 0) -> Tensor:
        """Return the window as a boolean ``[length, before + length]``, True where attention is allowed.

        Args:
            length: Tokens that attend.
            device: Where the mask is made.
            before: Tokens of the text that come before them, and are attended to.
        """
        index = torch.arange(before + length, device=device)
        ahead = index[None, :] - index[before:, None]
        allowed = torch.ones_like(ahead, dtype=torch.bool)
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


class Run(NamedTuple):
    """Neighbours of equal length, which attend together.

    Attributes:
        start: The first token.
        rows: Their number.
        length: Tokens of each.
        shared: Tokens that come before those of every row, and stand elsewhere.
    """

    start: int
    rows: int
    length: int
    shared: slice

    @property
    def before(self) -> int:
        """Number of tokens that come before those of every row."""
        return self.shared.stop - self.shared.start


@dataclass
class Packing:
    """How a packed batch is laid out: in rows, each a text or what texts begin with.

    Attributes:
        offsets: int64 ``[rows + 1]``, where each row begins.
        filling: Tokens after the last row that belong to none, and whose numbers nobody reads.
        after: int64 ``[rows]``, the row whose tokens come before those of a row, -1 where none do; None is -1 for all.
        texts: int64 ``[texts]``, the rows that are texts, in the order of the batch; None is all.
    """

    offsets: NDArray[np.int64]
    filling: int = 0
    after: NDArray[np.int64] | None = None
    texts: NDArray[np.int64] | None = None
    _masks: dict[tuple[Window, int, int], Tensor] = field(default_factory=dict, repr=False)
    _offsets: dict[torch.device, Tensor] = field(default_factory=dict, repr=False)
    _keys: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each row."""
        return np.diff(self.offsets)

    @cached_property
    def before(self) -> NDArray[np.int64]:
        """Number of tokens that come before those of each row."""
        if self.after is None:
            return np.zeros(len(self.lengths), dtype=np.int64)
        return np.where(self.after < 0, 0, self.lengths[self.after])

    @cached_property
    def longest(self) -> int:
        """Length of the longest row, with what comes before it."""
        return int((self.lengths + self.before).max(initial=0))

    @cached_property
    def runs(self) -> list[Run]:
        """Neighbours of equal length after the same tokens; one run a length if the rows are sorted."""
        after = [-1] * len(self.lengths) if self.after is None else self.after.tolist()
        runs, start = [], 0
        for (length, row), run in groupby(zip(self.lengths.tolist(), after, strict=True)):
            count = sum(1 for _ in run)
            if length:
                shared = slice(0, 0) if row < 0 else slice(int(self.offsets[row]), int(self.offsets[row + 1]))
                runs.append(Run(start, count, length, shared))
            start += count * length
        return runs

    @cached_property
    def whole(self) -> slice:
        """Where the longest text stands whole, with what comes before it; a batch is laid out so that it does."""
        row = int((self.lengths + self.before).argmax())
        return slice(int(self.offsets[row] - self.before[row]), int(self.offsets[row + 1]))

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """Place of every token within its text, from 0; 0 for filling."""
        places = np.arange(self.offsets[-1]) - np.repeat(self.offsets[:-1] - self.before, self.lengths)
        return np.concatenate([places, np.zeros(self.filling, dtype=places.dtype)]) if self.filling else places

    def offsets_on(self, device: torch.device) -> Tensor:
        """Return the offsets as int32 on a device, copied there once a batch."""
        if device not in self._offsets:
            self._offsets[device] = torch.from_numpy(self.offsets).to(device, torch.int32)
        return self._offsets[device]

    def texts_on(self, device: torch.device) -> Tensor | slice:
        """Return which rows are texts, as an index."""
        return slice(None) if self.texts is None else torch.from_numpy(self.texts).to(device)

    def keys_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the tokens whose keys each row attends to, row by row, and int32 offsets of the rows among them."""
        if self._keys is None or self._keys[0].device != device:
            after = np.full(len(self.lengths), -1) if self.after is None else self.after
            starts = np.stack([np.where(after < 0, 0, self.offsets[after]), self.offsets[:-1]], axis=1)
            index = runs_of(starts.ravel(), np.stack([self.before, self.lengths], axis=1).ravel())
            offsets = torch.from_numpy(offsets_of(self.before + self.lengths))
            self._keys = (torch.from_numpy(index).to(device), offsets.to(device, torch.int32))
        return self._keys

    def mask(self, window: Window, length: int, device: torch.device, before: int = 0) -> Tensor:
        """Return a window's boolean mask, made once a batch; near the diagonal only where the text is long enough."""
        key = (window, length, before)
        if key not in self._masks:
            self._masks[key] = (
                banded.band_mask(length, window.left, window.right, device)
                if not before and window.is_band and banded.pays(length, window.left, window.right)
                else window.mask(length, device, before)
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
    queries, keys, values = (_by_run(states, packing) for states in (query, key, value))
    for run, q, k, v in zip(packing.runs, queries, keys, values, strict=True):
        if run.before:
            k, v = (_after_shared(states, own, run) for states, own in ((key, k), (value, v)))
        mask, causal = _mask_for(packing, window, run, query.device)
        if mask is not None and mask.ndim == 4 and isinstance(window, Window):
            out = banded.banded(q, k, v, window.left, window.right, mask, scale, dropout)
        elif 0 < dropout < 1 and not shared and not q.is_cuda:
            out = thinned.attention(q, k, v, mask, causal=causal, scale=scale, dropout=dropout)
        else:
            out = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=shared
            )
        outputs.append(out.transpose(1, 2).reshape(run.rows * run.length, heads, value.shape[-1]))
    if packing.filling:
        outputs.append(query.new_zeros(packing.filling, heads, value.shape[-1]))
    if len(outputs) == 1:
        return outputs[0].unsqueeze(0)
    return torch.cat(outputs).unsqueeze(0) if outputs else query.new_empty(1, tokens, heads, size)


def _by_run(states: Tensor, packing: Packing) -> list[Tensor]:
    """View ``[1, heads, tokens, size]`` as the rows of each run, ``[rows, heads, length, size]``, without a copy.

    One split, not a slice a run: on the way back, a slice's gradient is as large as all of them together.
    """
    sizes = [run.rows * run.length for run in packing.runs]
    parts = states.squeeze(0).split([*sizes, packing.filling], dim=1)
    return [
        part.unflatten(1, (run.rows, run.length)).transpose(0, 1)
        for run, part in zip(packing.runs, parts[:-1], strict=True)
    ]


def _after_shared(states: Tensor, own: Tensor, run: Run) -> Tensor:
    """Return the rows of a run with what comes before them, ``[rows, heads, before + length, size]``."""
    shared = states[:, :, run.shared].expand(run.rows, -1, -1, -1)
    return torch.cat([shared, own], dim=2)


def _mask_for(packing: Packing, window: Window | Tensor, run: Run, device: torch.device) -> tuple[Tensor | None, bool]:
    whole = run.before + run.length
    if isinstance(window, Tensor):
        return window[run.before : whole, :whole], False
    window = window.clipped(whole)
    if window.is_full:
        return None, False
    if window.is_causal and not run.before:
        return None, True
    return packing.mask(window, run.length, device, run.before), False


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


def varlen(query: Tensor, key: Tensor, value: Tensor, packing: Packing, window: Window, scale: float | None) -> Tensor:
    """Attend within each text of a packed batch by torch's variable-length kernel; shapes as in :func:`grouped`.

    Where a text has more keys than queries, the kernel takes the queries for its last tokens.
    """
    kernel = _varlen_kernel()
    if kernel is None:
        raise RuntimeError("varlen was called where varlen_fits is False. This is a bug.")
    heads = query.shape[1]
    if key.shape[1] != heads:
        key, value = (states.repeat_interleave(heads // states.shape[1], dim=1) for states in (key, value))
    queries, keys, values = (states[0].transpose(0, 1).contiguous() for states in (query, key, value))
    offsets = key_offsets = packing.offsets_on(query.device)
    if packing.after is not None:
        index, key_offsets = packing.keys_on(query.device)
        keys, values = keys[index], values[index]
    limits = (window.left, window.right)
    longest = (int(packing.lengths.max(initial=0)), packing.longest)
    out = kernel(queries, keys, values, offsets, key_offsets, *longest, scale=scale, window_size=limits)
    return out.unsqueeze(0)
