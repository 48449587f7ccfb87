"""Pooling over segments: many token vectors become one vector a text.

Every function works on flat hidden states ``[tokens, width]`` and :class:`Segments`, which say which tokens belong to
which row. Packed batches are flat already; a padded batch is flattened by :meth:`Segments.from_mask`, so no formula
knows padding. Sums run in float32 for half-precision inputs and the result has the input's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Which tokens of a flat ``[tokens, width]`` tensor belong to which row.

    Attributes:
        rows: Number of texts.
        token: int64 ``[selected]``, index of each token that takes part; None means the first ``len(row)`` in order.
        row: int64 ``[selected]``, the row of each such token, ascending.
        position: int64 ``[selected]``, 1-based position of each such token within its text.
        first: int64 ``[rows]``, index of each row's first token that takes part (of its first token if none does, and
            -1 for a row of a packed batch that has no token at all).
        last: int64 ``[rows]``, index of each row's last token that takes part.
        count: int64 ``[rows]``, number of tokens that take part.
    """

    rows: int
    token: Tensor | None
    row: Tensor
    position: Tensor
    first: Tensor
    last: Tensor
    count: Tensor

    @classmethod
    def from_offsets(cls, offsets: Tensor, skip: int | Tensor = 0) -> Segments:
        """Segments of a packed batch.

        Args:
            offsets: ``[rows + 1]``; row ``i`` holds tokens ``offsets[i]`` to ``offsets[i + 1]``.
            skip: Number of leading tokens of each row that take no part, one for all or ``[rows]``.
        """
        offsets = offsets.long()
        start, count = offsets[:-1], offsets.diff()
        own = torch.where(count > 0, start, -1)
        row = torch.repeat_interleave(torch.arange(len(count), device=offsets.device), count)
        place = torch.arange(len(row), device=offsets.device) - start[row]
        if isinstance(skip, int) and not skip:
            return cls(len(count), None, row, place + 1, own, offsets[1:] - 1, count)
        skip = torch.as_tensor(skip, device=offsets.device).expand(len(count))
        kept = place >= skip[row]
        taking = (count - skip).clamp(min=0)
        # A row that is shorter than what is skipped keeps its first token for cls, as if nothing were skipped.
        first = torch.where(taking > 0, start + skip, own)
        token = kept.nonzero().squeeze(1)
        return cls(len(count), token, row[token], place[token] + 1, first, offsets[1:] - 1, taking)

    @classmethod
    def from_mask(cls, mask: Tensor, skip: int | Tensor = 0) -> Segments:
        """Segments of a padded batch, flattened.

        Args:
            mask: ``[rows, longest]``, non-zero where a token is real; padding may be on either side.
            skip: Number of leading real positions of each row that take no part, one for all or ``[rows]``.
        """
        rows, longest = mask.shape
        real = mask != 0
        place = torch.arange(longest, device=mask.device).expand(rows, longest)
        # argmax gives the first real token, and 0 for a row without one.
        start = real.int().argmax(dim=1, keepdim=True)
        skip = skip.to(mask.device)[:, None] if isinstance(skip, Tensor) else skip
        taking = real & (place >= start + skip) if isinstance(skip, Tensor) or skip else real
        token = taking.flatten().nonzero().squeeze(1)
        count = taking.sum(dim=1)
        base = torch.arange(rows, device=mask.device) * longest
        first = base + taking.int().argmax(dim=1)
        last = base + longest - 1 - taking.flip(1).int().argmax(dim=1)
        position = (place + 1 - start).flatten()[token]
        return cls(rows, token, token // max(longest, 1), position, first, last, count)

    @property
    def starts(self) -> Tensor:
        """int64 ``[rows]``, where each row begins in ``row`` and in what :meth:`select` returns."""
        return self.count.cumsum(0) - self.count

    def select(self, hidden: Tensor) -> Tensor:
        """Return the tokens that take part, ``[selected, width]``, of flat ``[tokens, width]``."""
        return hidden[: len(self.row)] if self.token is None else hidden[self.token]

    def spread(self, values: Tensor, tokens: int) -> Tensor:
        """Return values ``[selected, ...]`` at the places of their tokens, and zeros elsewhere, ``[tokens, ...]``."""
        flat = values.new_zeros(tokens, *values.shape[1:])
        if self.token is None:
            flat[: len(values)] = values
            return flat
        return flat.index_copy(0, self.token, values)


def _wide(hidden: Tensor) -> Tensor:
    return hidden.float() if hidden.dtype in (torch.float16, torch.bfloat16) else hidden


def _sum(hidden: Tensor, segments: Segments, weights: Tensor | None = None) -> Tensor:
    values = _wide(segments.select(hidden))
    if weights is not None:
        values = values * weights.to(values.dtype)[:, None]
    total = values.new_zeros(segments.rows, hidden.shape[-1])
    return total.index_add_(0, segments.row, values)


def _divided(total: Tensor, divisor: Tensor, dtype: torch.dtype) -> Tensor:
    return (total / divisor.clamp(min=1e-9)[:, None]).to(dtype)


def cls(hidden: Tensor, segments: Segments) -> Tensor:
    """Return each row's first token, ``[rows, width]``; zeros for a packed row without any."""
    if not len(hidden):
        return hidden.new_zeros(segments.rows, hidden.shape[-1])
    return hidden[segments.first].masked_fill((segments.first < 0)[:, None], 0)


def last(hidden: Tensor, segments: Segments) -> Tensor:
    """Return each row's last token, ``[rows, width]``; zeros for a row without tokens."""
    if not len(hidden):
        return hidden.new_zeros(segments.rows, hidden.shape[-1])
    return hidden[segments.last] * (segments.count > 0).to(hidden.dtype)[:, None]


def total(hidden: Tensor, segments: Segments) -> Tensor:
    """Return the sum over each row's tokens, ``[rows, width]``; zeros for a row without tokens."""
    return _sum(hidden, segments).to(hidden.dtype)


def maximum(hidden: Tensor, segments: Segments) -> Tensor:
    """Return the maximum over each row's tokens, ``[rows, width]``; minus infinity for a row without tokens."""
    total = hidden.new_full((segments.rows, hidden.shape[-1]), -torch.inf)
    index = segments.row[:, None].expand(-1, hidden.shape[-1])
    return total.scatter_reduce(0, index, segments.select(hidden), "amax", include_self=True)


def mean(hidden: Tensor, segments: Segments, divisor: Tensor | None = None) -> Tensor:
    """Return the mean over each row's tokens, ``[rows, width]``.

    Args:
        hidden: ``[tokens, width]``.
        segments: Which tokens belong to which row.
        divisor: ``[rows]``, divides the sum instead of the number of tokens.
    """
    divisor = segments.count if divisor is None else divisor
    return _divided(_sum(hidden, segments), divisor.to(_wide(hidden).dtype), hidden.dtype)


def mean_sqrt(hidden: Tensor, segments: Segments, divisor: Tensor | None = None) -> Tensor:
    """Return each row's sum over the square root of its number of tokens (or of ``divisor``), ``[rows, width]``."""
    divisor = (segments.count if divisor is None else divisor).to(_wide(hidden).dtype)
    return _divided(_sum(hidden, segments), divisor.clamp(min=1e-9).sqrt(), hidden.dtype)


def weighted_mean(hidden: Tensor, segments: Segments, divisor: Tensor | None = None) -> Tensor:
    """Return the mean weighted by 1-based position (SGPT, Muennighoff 2022, arXiv:2202.08904), ``[rows, width]``."""
    weights = segments.position.to(_wide(hidden).dtype)
    if divisor is None:
        divisor = weights.new_zeros(segments.rows).index_add_(0, segments.row, weights)
    return _divided(_sum(hidden, segments, weights), divisor.to(weights.dtype), hidden.dtype)
