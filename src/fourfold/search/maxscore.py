"""The rows that score best for a sparse query, found exactly without reading most postings.

The terms of a query are taken one at a time, those first that promise most for each posting read. Once the terms that
are left cannot lift a row that is behind into the best, only the rows that are still in the running are looked up in
the rest (MaxScore: Turtle and Flood, "Query evaluation: strategies and optimizations", 1995, here with accumulators;
taking terms by promise for each posting suits learned weights, whose frequent terms weigh little).

Totals are kept in float32, and what their rounding may hide is allowed for. The rows left at the end are scored anew:
a score is the sum of float64 products by ascending term, rounded to float32, whatever was read before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import SearchIndexError
from fourfold.search.arrays import MEND
from fourfold.search.inverted import Inverted
from fourfold.search.query import top

_TOGETHER = 1 << 14  # postings of short lists that are added in one step
_GROUP = 64  # rows of which only the best is looked at to find a threshold
_EXACT = 1 << 12  # rows scored anew at a time
# Costs in postings read: of looking up one row in one list, and of starting to look rows up in a list.
_LOOKUP, _START = 8, 4000
_LEAST = float(np.nextafter(0, 1))  # a score must be above 0
_FEW = 4096  # groups that are always worth a closer look
_OLD_NUMPY = tuple(map(int, np.__version__.split(".")[:2])) < (1, 25)  # its add.at is slow


class Best(NamedTuple):
    """Rows that score above 0, the best and all that equal the last of them, in no order.

    Attributes:
        part: ``[hits]`` which part a row is of.
        row: ``[hits]`` its number there.
        score: ``[hits]`` float32.
    """

    part: NDArray[np.int64]
    row: NDArray[np.int64]
    score: NDArray[np.float32]


class _Lists(NamedTuple):
    """The postings of a query's terms in one part, in the order in which they are taken.

    Attributes:
        start, stop: Where each list lies.
        factor: The query's weight of each.
        up, low: ``[lists + 1]``, the most and the least that the lists from each one on can add to a row's score.
        by_term: The lists' numbers by ascending term.
    """

    start: list[int]
    stop: list[int]
    factor: list[float]
    up: list[float]
    low: list[float]
    by_term: list[int]


class MaxScore:
    """Searches parts of an index; it keeps buffers between queries, so each thread needs its own.

    Args:
        parts: Inverted rows, mapped or in memory.
        alive: For each, a mask ``[rows]`` of the rows that may be found; None if all may.
    """

    def __init__(self, parts: Sequence[Inverted], alive: Sequence[NDArray[np.bool_] | None]) -> None:
        self._parts = parts
        self._dead = [None if mask is None else np.flatnonzero(~mask) for mask in alive]
        self._buffer = np.empty(max((part.rows for part in parts), default=0) + _GROUP, np.float32)

    def best(self, terms: NDArray[np.int32], weights: NDArray[np.floating], top_k: int) -> Best:
        """Return the ``top_k`` best rows of all parts.

        Args:
            terms: The query's terms, ascending.
            weights: Their weights, finite.
            top_k: How many; more are returned where rows equal the last.

        Raises:
            SearchIndexError: if a part turns out to be damaged.
        """
        found: list[Best] = []
        floor = 0.0
        for at, (part, lists) in enumerate(zip(self._parts, _planned(self._parts, terms, weights), strict=True)):
            if not lists.start or lists.up[0] < floor:
                continue
            hits = _Run(part, lists, self._accumulator(at), top_k, floor).best()
            found.append(Best(np.full(len(hits[0]), at), *hits))
            if len(hits[0]) >= top_k:
                floor = max(floor, _kth(hits[1], top_k))
        found.append(Best(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)))
        number, row = (np.concatenate([getattr(best, name) for best in found]) for name in ("part", "row"))
        score = np.concatenate([best.score for best in found])
        kept = _leading(score, top_k)
        return Best(number[kept], row[kept], score[kept])

    def scores(self, terms: NDArray[np.int32], weights: NDArray[np.floating]) -> list[NDArray[np.float32]]:
        """Return for each part the score ``[rows]`` float32 of every row; 0 for one that may not be found."""
        found = []
        for at, (part, lists) in enumerate(zip(self._parts, _planned(self._parts, terms, weights), strict=True)):
            run = _Run(part, lists, self._accumulator(at), 1, 0.0)
            run.read(sys.maxsize)
            score = run.total[: part.rows] + np.float32(0)
            if self._dead[at] is not None:
                score[self._dead[at]] = 0
            found.append(score)
        return found

    def _accumulator(self, at: int) -> NDArray[np.float32]:
        """Return ``[groups, rows of a group]``: minus infinity for rows that may not be found and beyond the last."""
        rows, dead = self._parts[at].rows, self._dead[at]
        group = min(max(rows // 1024, 1), _GROUP)
        total = self._buffer[: -(-rows // group) * group]
        total[:rows] = -0.0  # a sum that has become 0 is +0
        total[rows:] = -np.inf
        if dead is not None:
            total[dead] = -np.inf
        return total.reshape(group, -1)


def _planned(parts: Sequence[Inverted], terms: NDArray[np.int32], weights: NDArray[np.floating]) -> list[_Lists]:
    """Return for each part the lists of a query's terms, in an order that is the same for all of them."""
    factor = np.asarray(weights, np.float64)
    shape = (len(parts), len(terms))
    start, stop, up, low = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
    for at, part in enumerate(parts):
        place, there = part.find(terms)
        place = place[there]
        stop[at, there] = part.stop[place]
        start[at, there] = np.where(place > 0, part.stop[place - 1], 0)
        ends = factor[there] * part.most[place], factor[there] * part.least[place]
        # A row without the term gets 0 from it.
        up[at, there] = np.maximum(np.maximum(*ends), 0)
        low[at, there] = np.minimum(np.minimum(*ends), 0)
    length = (stop - start).sum(0)
    order = np.argsort(-(up - low).max(0, initial=0) / np.maximum(length, 1), kind="stable")
    order = order[length[order] > 0]
    planned = []
    for at in range(len(parts)):
        own = order[stop[at, order] > start[at, order]]
        rest_up, rest_low = (np.append(np.cumsum(side[at, own][::-1])[::-1], 0.0).tolist() for side in (up, low))
        begin, end = start[at, own].tolist(), stop[at, own].tolist()
        planned.append(_Lists(begin, end, factor[own].tolist(), rest_up, rest_low, np.argsort(own).tolist()))
    return planned


class _Run:
    """One query on one part.

    Args:
        part: The part.
        lists: The query's postings in it.
        groups: ``[rows of a group, groups]``, the totals to add to, see :meth:`MaxScore._accumulator`.
        top_k: How many rows are wanted.
        floor: No row below it is.
    """

    def __init__(self, part: Inverted, lists: _Lists, groups: NDArray[np.float32], top_k: int, floor: float) -> None:
        self._part, self._lists, self._top_k = part, lists, top_k
        self._groups, self.total = groups, groups.reshape(-1)
        self._floor = floor
        self._at = 0  # lists read
        # Products and partial sums are each rounded by at most 2^-24 of the largest sum.
        self._error = (len(lists.start) + 4) * 2.0**-23 * (lists.up[0] - lists.low[0])

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows that may be among the best, and their scores."""
        lists, count = self._lists, len(self._lists.start)
        left = sum(lists.stop) - sum(lists.start)
        # Looking for rows that are still in the running costs about as much as reading this many postings.
        pause = self._part.rows // 4 + _TOGETHER
        while True:
            left -= self.read(pause)
            rows, lookups = self._running(), count - self._at
            if rows is not None and (not lookups or lookups * (_LOOKUP * len(rows) + _START) < left):
                return self._scored(self._looked_up(rows))

    def read(self, postings: int) -> int:
        """Add the next lists to the rows' totals, at least so many postings if there are; returns how many."""
        lists, done, begin = self._lists, 0, self._at
        while begin < len(lists.start) and done < postings:
            end, together = begin, 0
            while end < len(lists.start) and together < _TOGETHER:
                together += lists.stop[end] - lists.start[end]
                end += 1
            self._add(begin, end)
            done, begin = done + together, end
        self._at = begin
        return done

    def _add(self, begin: int, end: int) -> None:
        lists = self._lists
        spans = [slice(lists.start[i], lists.stop[i]) for i in range(begin, end)]
        if len(spans) == 1:
            row = self._part.row[spans[0]].astype(np.intp)
            gain = self._part.weight[spans[0]] * np.float32(lists.factor[begin])
        else:
            row = np.concatenate([self._part.row[span] for span in spans]).astype(np.intp)
            gain = np.concatenate([self._part.weight[span] for span in spans])
            factor = np.array(lists.factor[begin:end], np.float32)
            gain *= np.repeat(factor, [span.stop - span.start for span in spans])
        try:
            if _OLD_NUMPY:
                self.total += np.bincount(row, gain, minlength=len(self.total)).astype(np.float32)
            else:
                np.add.at(self.total, row, gain)
        except (IndexError, ValueError) as error:
            raise SearchIndexError(f"{self._part.name} is damaged: it names a row that is not there. {MEND}") from error

    def _running(self) -> NDArray[np.int64] | None:
        """Return the rows that may still be among the best, ascending; None if that may be any."""
        best, last = self._groups.max(0), self._at == len(self._lists.start)
        if len(best) >= self._top_k:
            # Of k groups each has a row at least as good as the worst of their best: the k best rows are in few groups.
            self._raise_floor(self._groups[:, np.flatnonzero(best >= _kth(best, self._top_k))])
        else:
            self._raise_floor(self.total)
        need = self._need()
        if not last and need <= 0:
            return None
        columns = np.flatnonzero(best >= need)
        if not last and len(columns) > len(best) // 4 + _FEW:
            return None
        groups = self._groups[:, columns]
        # A row without any of the terms is no hit, even if rounding might hide a score just above 0.
        group, column = np.nonzero((groups >= need) & ((groups != 0) | ~np.signbit(groups)))
        return group * len(best) + columns[column]

    def _raise_floor(self, totals: NDArray[np.float32]) -> None:
        """Use that at least ``top_k`` rows score no less than some totals and what is still to be taken off."""
        if totals.size >= self._top_k:
            floor = _kth(totals.reshape(-1), self._top_k) + self._lists.low[self._at] - self._error
            self._floor = max(self._floor, floor)

    def _need(self) -> float:
        """Return the least total with which a row may still be among the best."""
        need = self._floor - self._lists.up[self._at] - self._error
        # Sums of weights that are not negative are above 0 as soon as they are touched.
        return need if self._lists.low[0] < 0 else max(need, _LEAST * (self._at == len(self._lists.start)))

    def _looked_up(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Look rows up in the lists that are not read, and return those that stay in the running."""
        lists, total, wanted = self._lists, self.total[rows], rows.astype(np.int32)
        while self._at < len(lists.start):
            weight, there = self._find([self._at], wanted)
            total[there[0]] += weight[there] * np.float32(lists.factor[self._at])
            self._at += 1
            if len(total) > 4 * self._top_k + 128 or self._at == len(lists.start):
                self._raise_floor(total)
                kept = np.flatnonzero(total >= self._need())
                wanted, total = wanted[kept], total[kept]
        return wanted

    def _find(self, numbers: list[int], wanted: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return ``[lists, rows]``: each row's weight in some lists, and whether it is there; else it means nothing."""
        row, lists = self._part.row, self._lists
        posting = np.empty((len(numbers), len(wanted)), np.int64)
        for i, places in zip(numbers, posting, strict=True):
            places[:] = row[lists.start[i] : lists.stop[i]].searchsorted(wanted)
        posting += np.array([lists.start[i] for i in numbers])[:, None]
        np.minimum(posting, np.array([lists.stop[i] - 1 for i in numbers])[:, None], out=posting)
        return self._part.weight[posting], row[posting] == wanted

    def _scored(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return rows and their scores, computed anew."""
        score = np.empty(len(rows), np.float32)
        numbers = self._lists.by_term
        factor = np.array([self._lists.factor[i] for i in numbers])[:, None]
        for begin in range(0, len(rows), _EXACT):
            weight, there = self._find(numbers, rows[begin : begin + _EXACT])
            # A cumulative sum adds one after the other, whatever the shape.
            score[begin : begin + _EXACT] = np.cumsum(np.where(there, weight * factor, 0), axis=0)[-1]
        kept = _leading(score, self._top_k)
        return rows[kept].astype(np.int64), score[kept]


def _kth(values: NDArray[np.floating], count: int) -> float:
    """Return the lowest of the ``count`` highest values."""
    place = len(values) - count
    return float(np.partition(values, place)[place])


def _leading(score: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the positions of the ``count`` highest scores above 0, and of all that equal the lowest of them."""
    kept = np.flatnonzero(score > 0)
    return kept[top(score[kept], count)]
