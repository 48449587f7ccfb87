"""The values that travel between layers. Shape words: rows, tokens, width.

A batch is *packed*: the token ids of its texts one after another, and the offsets where each text begins. Nothing is
padded unless a model cannot be run otherwise, and then only inside the backend that runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prefixes:
    """Which rows begin with the same tokens, of which one run is enough.

    Attributes:
        group: int64 ``[rows]``; rows of one number begin alike, those of number 0 share nothing.
        length: int64 ``[rows]``, how many leading tokens a row shares with its group; 0 in group 0.
    """

    group: NDArray[np.int64]
    length: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Prefixes:
        """Return those of the given rows."""
        return Prefixes(self.group[rows], self.length[rows])


@dataclass(frozen=True)
class Tokens:
    """Token ids of several texts, packed.

    Attributes:
        ids: int32 ``[tokens]``, the ids of all rows in order.
        offsets: int64 ``[rows + 1]``; row ``i`` is ``ids[offsets[i]:offsets[i + 1]]``.
        type_ids: int32 ``[tokens]``, 0 for the first and 1 for the second text of a pair; None when all are 0.
        prefixes: What rows share that a model runs once; None if it runs every row whole.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    type_ids: NDArray[np.int32] | None = None
    prefixes: Prefixes | None = None

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], type_rows: Sequence[Sequence[int]] | None = None) -> Tokens:
        """Pack lists of ids, and their segment ids if they are pairs."""
        offsets = offsets_of([len(row) for row in rows])
        flat = [_concatenate(some, int(offsets[-1])) for some in (rows, type_rows) if some is not None]
        return cls(flat[0], offsets, flat[1] if len(flat) > 1 else None)

    @classmethod
    def joined(cls, parts: Sequence[Tokens]) -> Tokens:
        """Return the rows of all parts, one part's after the other's."""
        offsets = offsets_of(np.concatenate([part.lengths for part in parts]))
        ids = np.concatenate([part.ids for part in parts])
        if all(part.type_ids is None for part in parts):
            return Tokens(ids, offsets)
        types = [np.zeros(len(part.ids), np.int32) if part.type_ids is None else part.type_ids for part in parts]
        return Tokens(ids, offsets, np.concatenate(types))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each row, int64 ``[rows]``."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> Tokens:
        """Return the given rows, packed anew in the given order."""
        offsets, index = _gathered(self.offsets, self.lengths, rows)
        types = None if self.type_ids is None else self.type_ids[index]
        return Tokens(self.ids[index], offsets, types, None if self.prefixes is None else self.prefixes.take(rows))

    def cut(self, most: int | None, *, left: bool = False) -> Tokens:
        """Return the rows with at most so many tokens each, cut at their end, or at their beginning if ``left``."""
        lengths = self.lengths
        if most is None or int(lengths.max(initial=0)) <= most:
            return self
        place = np.arange(len(self.ids)) - np.repeat(self.offsets[:-1], lengths)
        kept = place >= np.repeat(lengths - most, lengths) if left else place < most
        types = None if self.type_ids is None else self.type_ids[kept]
        return Tokens(self.ids[kept], offsets_of(np.minimum(lengths, most)), types)

    def padded(self, pad_id: int, *, left: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids and mask as int64 ``[rows, longest]``; padding is ``pad_id`` with mask 0."""
        lengths = self.lengths
        longest = int(lengths.max(initial=0))
        place = np.arange(longest)
        mask = place >= (longest - lengths)[:, None] if left else place < lengths[:, None]
        ids = np.full((len(self), longest), pad_id, dtype=np.int64)
        ids[mask] = self.ids
        return ids, mask.astype(np.int64)


def offsets_of(lengths: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Return where runs of some lengths, one after the other, begin, and where the last one ends.

    >>> offsets_of([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def runs_of(starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return runs of consecutive numbers, one after the other.

    Args:
        starts: The first number of each run.
        lengths: How many numbers each run has.

    >>> runs_of(np.array([5, 1]), np.array([2, 3])).tolist()
    [5, 6, 1, 2, 3]
    """
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(int(ends[-1]) if len(ends) else 0)


def _gathered(
    offsets: NDArray[np.int64], lengths: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets of chosen rows laid end to end, and the position of every entry of theirs."""
    chosen = offsets_of(lengths[rows])
    return chosen, runs_of(offsets[rows], lengths[rows])


def _concatenate(rows: Sequence[Sequence[int]], total: int) -> NDArray[np.int32]:
    flat = np.empty(total, dtype=np.int32)
    start = 0
    for row in rows:
        flat[start : start + len(row)] = row
        start += len(row)
    return flat


@dataclass(frozen=True)
class Items:
    """Inputs that a model prepares batch by batch itself, with an estimate of the length of each."""

    values: list[Any]
    lengths: NDArray[np.int64]
    prefixes: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[np.int64]) -> Items:
        """Return the given rows in the given order."""
        return Items([self.values[i] for i in rows], self.lengths[rows])


@dataclass(frozen=True, eq=False)
class Terms:
    """Sparse rows: for each row the numbers of its terms and their weights (compressed sparse rows).

    Attributes:
        offsets: int64 ``[rows + 1]``; row ``i`` holds the entries ``offsets[i]`` to ``offsets[i + 1]``.
        terms: int32 ``[entries]``, ascending within a row.
        weights: ``[entries]``, none of them 0.
        width: Number of terms that there are.

    >>> rows = Terms.of(np.array([[0, 2.5, 0, 1], [0, 0, 0, 0]]))
    >>> len(rows), rows.row(0)[0].tolist(), rows.row(0)[1].tolist(), rows.lengths.tolist()
    (2, [1, 3], [2.5, 1.0], [2, 0])
    """

    offsets: NDArray[np.int64]
    terms: NDArray[np.int32]
    weights: NDArray[Any]
    width: int

    @classmethod
    def of(cls, rows: NDArray[Any]) -> Terms:
        """Return the entries that are not 0 of dense rows ``[rows, width]``."""
        count, width = rows.shape
        # One long row of truth values is searched ten times as fast as a matrix of numbers.
        place = np.flatnonzero(rows.reshape(-1) != 0)
        starts = np.arange(count + 1) * width
        offsets = np.searchsorted(place, starts)
        term = place - np.repeat(starts[:-1], np.diff(offsets))
        return cls(offsets.astype(np.int64), term.astype(np.int32), rows.reshape(-1)[place], width)

    @classmethod
    def joined(cls, parts: Sequence[Terms]) -> Terms:
        """Return the rows of all parts, one part's after the other's."""
        offsets = offsets_of(np.concatenate([part.lengths for part in parts]))
        terms, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("terms", "weights"))
        return cls(offsets, terms, weights, parts[0].width)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of entries of each row, int64 ``[rows]``."""
        return np.diff(self.offsets)

    def row(self, number: int) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Return one row's terms and weights, views."""
        part = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
        return self.terms[part], self.weights[part]

    def take(self, rows: NDArray[np.int64]) -> Terms:
        """Return the given rows in the given order."""
        offsets, index = _gathered(self.offsets, self.lengths, rows)
        return Terms(offsets, self.terms[index], self.weights[index], self.width)

    def each(self) -> Iterator[Terms]:
        """Yield the rows one by one, each in memory of its own, so that keeping one does not keep all."""
        return (self.take(np.array([number])) for number in range(len(self)))

    def dense(self) -> NDArray[Any]:
        """Return ``[rows, width]`` with zeros where there is no entry."""
        rows = np.zeros((len(self), self.width), self.weights.dtype)
        rows[np.repeat(np.arange(len(self)), self.lengths), self.terms] = self.weights
        return rows


@dataclass(frozen=True, eq=False)
class ChunkedText:
    """A long text as vectors of its chunks.

    Attributes:
        text: The whole text.
        vectors: ``[chunks, width]``, an array or a tensor; a view of one that all texts of a call share.
        offsets: int64 ``[chunks, 2]``; chunk ``i`` is ``text[offsets[i, 0]:offsets[i, 1]]``.
    """

    text: str
    vectors: Any
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def astype(self, dtype: Any) -> ChunkedText:
        """Return the same with an array of vectors of another type; vectors of that type are not copied."""
        return replace(self, vectors=self.vectors.astype(dtype, copy=False))

    @property
    def texts(self) -> list[str]:
        """The text of each chunk."""
        return [self.text[start:stop] for start, stop in self.offsets.tolist()]
