"""Sparse rows by term: for each term the rows that hold it and their weights, in memory or in one mapped file.

A file holds named arrays::

    term            [terms]       the distinct terms, ascending
    stop            [terms]       where each term's postings end
    most, least     [terms]       the largest and the smallest weight among them
    row, weight     [postings]    which rows hold the term, ascending, and with which weight

The rows themselves are not kept: a search looks a row up in the postings of its own terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Terms, runs_of
from fourfold.errors import SearchIndexError
from fourfold.ops.terms import bounded
from fourfold.search.arrays import MEND, ArrayFile, Pieces, save_arrays

_RUN = 1 << 21  # postings merged at a time: some 100 MB of working memory


@dataclass(frozen=True, eq=False)
class Inverted:
    """Sparse rows by term.

    Attributes:
        rows: Number of rows, those without an entry included.
        width: Number of terms that there are; the numbers of those that occur are below it.
        term: int32 ``[terms]``, ascending.
        stop: int64 ``[terms]``; the postings of term number ``i`` of this list end before ``stop[i]``.
        most: float32 ``[terms]``, the largest weight of each.
        least: float32 ``[terms]``, the smallest.
        row: int32 ``[postings]``, ascending within a term.
        weight: float32 ``[postings]``.
        name: Where it comes from, for an error.
    """

    rows: int
    width: int
    term: NDArray[np.int32]
    stop: NDArray[np.int64]
    most: NDArray[np.float32]
    least: NDArray[np.float32]
    row: NDArray[np.int32]
    weight: NDArray[np.float32]
    name: str = "memory"

    @classmethod
    def of(cls, rows: Terms) -> Inverted:
        """Turn sparse rows, each with ascending terms, around.

        >>> turned = Inverted.of(Terms.of(np.array([[0.0, 2.0], [1.0, 3.0]])))
        >>> turned.term.tolist(), turned.stop.tolist(), turned.row.tolist(), turned.weight.tolist()
        ([0, 1], [1, 3], [1, 0, 1], [1.0, 2.0, 3.0])
        """
        order = _by_term(rows)
        term = rows.terms[order]
        first = np.flatnonzero(np.diff(term, prepend=-1))
        weight = rows.weights[order].astype("<f4", copy=False)
        row = np.repeat(np.arange(len(rows), dtype="<i4"), rows.lengths)[order]
        return cls(
            len(rows),
            rows.width,
            term[first].astype("<i4", copy=False),
            np.append(first[1:], len(term))[: len(first)].astype("<i8", copy=False),
            _each(np.maximum, weight, first),
            _each(np.minimum, weight, first),
            row,
            weight,
        )

    @classmethod
    def open(cls, path: Path) -> Inverted:
        """Map a file.

        Raises:
            SearchIndexError: if it is damaged.
            FileNotFoundError: if it does not exist.
        """
        arrays = ArrayFile(path)
        try:
            names = ("term", "stop", "most", "least", "row", "weight")
            term, stop, most, least, row, weight = (arrays[name] for name in names)
            opened = cls(
                int(arrays.metadata["rows"]),
                int(arrays.metadata["width"]),
                *(term, stop, most, least, row, weight),
                name=str(path),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SearchIndexError(f"{path} is damaged: it has no {error}. {MEND}") from error
        opened._check()
        return opened

    def _check(self) -> None:
        """Look at what is small; a row number that is too large shows in a search."""
        last = int(self.stop[-1]) if len(self.stop) else 0
        fits = (
            len(self.term) == len(self.stop) == len(self.most) == len(self.least)
            and len(self.row) == len(self.weight) == last
            and (np.diff(self.term, prepend=-1) > 0).all()
            and (np.diff(self.stop, prepend=0) > 0).all()
            and (not len(self.term) or int(self.term[-1]) < self.width)
        )
        if not fits:
            raise SearchIndexError(f"{self.name} is damaged: its arrays do not fit each other. {MEND}")

    def find(self, terms: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return where each of some terms stands in :attr:`term`, and whether it is there at all."""
        place = np.searchsorted(self.term, terms)
        there = place < len(self.term)
        there[there] = self.term[place[there]] == terms[there]
        return place, there

    def starts(self) -> NDArray[np.int64]:
        """Return int64 ``[terms]``, where the postings of each term begin."""
        return np.concatenate([np.zeros(min(len(self.stop), 1), np.int64), self.stop[:-1]])


def save(target: Path, inverted: Inverted) -> None:
    """Write one file in one atomic step."""
    names = ("term", "stop", "most", "least", "row", "weight")
    save_arrays(
        target, {name: getattr(inverted, name) for name in names}, {"rows": inverted.rows, "width": inverted.width}
    )


def save_merged(target: Path, parts: Sequence[Inverted], alive: Sequence[NDArray[np.bool_] | None]) -> int:
    """Write the rows of several parts, one part's after the other's, as one file; returns their number.

    It goes through the terms run by run, so memory does not grow with the parts.

    Args:
        target: The file.
        parts: At least one, all of one width.
        alive: For each, a mask ``[rows]`` of the rows to take; None for all.
    """
    plan = _Merge(parts, alive)
    kept, counts = plan.present(), plan.counts.sum(0)
    postings = (int(counts.sum()),)
    arrays: dict[str, np.ndarray | Pieces] = {
        "term": plan.terms[kept],
        "stop": np.cumsum(counts[kept], dtype="<i8"),
        "most": plan.most[kept],
        "least": plan.least[kept],
        "row": Pieces(np.dtype("<i4"), postings, lambda: plan.merged("row")),
        "weight": Pieces(np.dtype("<f4"), postings, lambda: plan.merged("weight")),
    }
    save_arrays(target, arrays, {"rows": plan.rows, "width": parts[0].width})
    return plan.rows


class _Merge:
    """How the postings of several parts lie one after the other within each term."""

    def __init__(self, parts: Sequence[Inverted], alive: Sequence[NDArray[np.bool_] | None]) -> None:
        self.parts, self.alive = parts, alive
        self.terms = np.unique(np.concatenate([part.term for part in parts])).astype("<i4", copy=False)
        # New numbers of rows: those taken of earlier parts come before.
        taken = [part.rows if mask is None else int(mask.sum()) for part, mask in zip(parts, alive, strict=True)]
        self.rows = sum(taken)
        self.first = np.cumsum([0, *taken])[:-1]
        self.number = [None if mask is None else (np.cumsum(mask) - 1).astype("<i4") for mask in alive]
        self.counts = np.zeros((len(parts), len(self.terms)), np.int64)
        self.most = np.full(len(self.terms), -np.inf, "<f4")
        self.least = np.full(len(self.terms), np.inf, "<f4")
        for part, mask, counts in zip(parts, alive, self.counts, strict=True):
            self._measure(part, mask, counts)

    def _measure(self, part: Inverted, mask: NDArray[np.bool_] | None, counts: NDArray[np.int64]) -> None:
        """Count the postings that stay and find the extremes of their weights, for every term of one part."""
        place = np.searchsorted(self.terms, part.term)
        most, least = part.most, part.least
        if mask is None:
            counts[place] = np.diff(part.stop, prepend=0)
        else:
            most, least = most.copy(), least.copy()
            starts = part.starts()
            for low, high in bounded(np.diff(part.stop, prepend=0), _RUN):
                begin = int(starts[low])
                weight, keep = part.weight[begin : part.stop[high - 1]], mask[part.row[begin : part.stop[high - 1]]]
                inner = starts[low:high] - begin
                counts[place[low:high]] = np.add.reduceat(keep, inner, dtype=np.int64)
                most[low:high] = np.maximum.reduceat(np.where(keep, weight, np.float32(-np.inf)), inner)
                least[low:high] = np.minimum.reduceat(np.where(keep, weight, np.float32(np.inf)), inner)
        self.most[place] = np.maximum(self.most[place], most)
        self.least[place] = np.minimum(self.least[place], least)

    def present(self) -> NDArray[np.bool_]:
        """Return which terms still have postings."""
        return self.counts.sum(0) > 0

    def merged(self, column: str) -> Iterator[np.ndarray]:
        """Yield the merged ``row`` or ``weight``, a run of terms at a time."""
        for low, high in bounded(self.counts.sum(0), _RUN):
            counts = self.counts[:, low:high]
            # A term's postings of one part begin after those of earlier terms, and of earlier parts of the same term.
            begin = np.cumsum(counts.sum(0)) - counts.sum(0) + np.cumsum(counts, 0) - counts
            found = np.empty(int(counts.sum()), "<i4" if column == "row" else "<f4")
            for at, part in enumerate(self.parts):
                values = self._values(at, part, column, self.terms[low], self.terms[high - 1])
                found[runs_of(begin[at], counts[at])] = values
            yield found

    def _values(self, at: int, part: Inverted, column: str, first: int, last: int) -> np.ndarray:
        """Return a part's column for a run of terms: they lie side by side there, too."""
        low, high = np.searchsorted(part.term, first), np.searchsorted(part.term, last, side="right")
        span = slice(int(part.stop[low - 1]) if low else 0, int(part.stop[high - 1]) if high else 0)
        row, mask, number = part.row[span], self.alive[at], self.number[at]
        values = part.weight[span] if column == "weight" else (row if number is None else number[row]) + self.first[at]
        return values if mask is None else values[mask[row]]


def _by_term(rows: Terms) -> NDArray[np.int64]:
    """Return the order of entries by term, then by row."""
    # numpy sorts 16-bit numbers by radix, ten times as fast as wider ones: the lower half first, then the upper.
    order = np.argsort(rows.terms.astype(np.uint16), kind="stable")
    if rows.width > 1 << 16:
        order = order[np.argsort((rows.terms >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def _each(kind: np.ufunc, weight: NDArray[np.float32], first: NDArray[np.int64]) -> NDArray[np.float32]:
    return kind.reduceat(weight, first) if len(first) else np.empty(0, "<f4")
