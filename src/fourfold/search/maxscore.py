"""The rows that score best for a sparse query, found exactly without reading most postings.

The terms of a query are taken one at a time, those first that promise most for each posting read. Once the terms that
are left cannot lift a row that is behind into the best, only the rows that are still in the running are looked up in
the rest (MaxScore: Turtle and Flood, "Query evaluation: strategies and optimizations", 1995, here with accumulators;
taking terms by promise for each posting suits learned weights, whose frequent terms weigh little).

Totals are kept in float32, and what their rounding may hide is allowed for. The rows left at the end are scored anew:
a score is the sum of float64 products by ascending term, rounded to float32, whatever was read before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import SearchIndexError
from fourfold.search.arrays import MEND
from fourfold.search.inverted import Inverted

_TOGETHER = 1 << 14  # postings of short lists that are added in one step
_SHARE = 4  # postings read before looking for rows that are out of the running: rows / 4, which costs about as much
_GROUP = 64  # rows of which only the best is looked at to find a threshold
_EXACT = 1 << 12  # rows scored anew at a time
# Costs in postings read: of looking up one row in one list, and of starting to look rows up in a list.
_LOOKUP, _START = 8, 4000
_LEAST = float(np.nextafter(0, 1))  # a score must be above 0
_FEW = 4096  # groups that are always worth a closer look
_FEW_ROWS, _FEW_POSTINGS = 1 << 15, 1 << 16  # a part and a query of this size are read whole
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
    """The postings of a query's terms in one part.

    Attributes:
        place: ``[lists]``, where each term stands in the part, ascending.
        start, stop: ``[lists]``, where its postings lie.
        factor: ``[lists]`` float64, the query's weight.
    """

    place: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    factor: NDArray[np.float64]

    @classmethod
    def of(cls, part: Inverted, terms: NDArray[np.int32], factor: NDArray[np.float64]) -> _Lists:
        """Return those of the terms that the part has."""
        place, there = part.find(terms)
        place = place[there]
        return cls(place, np.where(place > 0, part.stop[place - 1], 0), part.stop[place], factor[there])


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
        factor = np.asarray(weights, np.float64)
        found = [Best(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
        floor = 0.0
        for at, part in enumerate(self._parts):
            lists = _Lists.of(part, terms, factor)
            if not len(lists.place):
                continue
            if part.rows <= _FEW_ROWS and int((lists.stop - lists.start).sum()) <= _FEW_POSTINGS:
                row, score = self._whole(at, lists, top_k)
            else:
                row, score = _Run(part, lists, self._accumulator(at), top_k, floor).best()
            found.append(Best(np.full(len(row), at), row, score))
            if len(row) >= top_k:
                floor = max(floor, _kth(score, top_k))
        if len(found) == 2:
            return found[1]
        number, row = (np.concatenate([getattr(best, name) for best in found]) for name in ("part", "row"))
        score = np.concatenate([best.score for best in found])
        kept = _leading(score, top_k)
        return Best(number[kept], row[kept], score[kept])

    def scores(self, terms: NDArray[np.int32], weights: NDArray[np.floating]) -> list[NDArray[np.float32]]:
        """Return for each part the score ``[rows]`` float32 of every row; 0 for one that may not be found.

        They are sums of float32, hence not to the last bit those of :meth:`best`.
        """
        found = []
        for at, part in enumerate(self._parts):
            lists = _Lists.of(part, terms, np.asarray(weights, np.float64))
            total = self._accumulator(at).reshape(-1)
            start, stop, factor = (column.tolist() for column in lists[1:])
            begin = 0
            while begin < len(start):
                end = _together(start, stop, begin)
                _add(part, total, start[begin:end], stop[begin:end], factor[begin:end])
                begin = end
            score = total[: part.rows] + np.float32(0)
            dead = self._dead[at]
            if dead is not None:
                score[dead] = 0
            found.append(score)
        return found

    def _whole(self, at: int, lists: _Lists, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the best rows of a part so small that thinking about it would take longer than reading it."""
        part, dead = self._parts[at], self._dead[at]
        row, weight = _read(part, lists.start.tolist(), lists.stop.tolist())
        gain = weight * np.repeat(lists.factor, lists.stop - lists.start)
        total = np.bincount(row, gain, minlength=part.rows)  # adds up in the given order: by ascending term
        if len(total) > part.rows:
            raise _damaged(part)
        if dead is not None:
            total[dead] = 0
        with np.errstate(over="ignore"):
            score = total.astype(np.float32)
        kept = _leading(score, top_k)
        return kept, score[kept]

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


def _together(start: list[int], stop: list[int], begin: int) -> int:
    """Return up to which list to read in one step."""
    postings = 0
    while begin < len(start) and postings < _TOGETHER:
        postings += stop[begin] - start[begin]
        begin += 1
    return begin


def _read(part: Inverted, start: list[int], stop: list[int]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the rows and weights of some lists, end to end."""
    spans = [slice(*span) for span in zip(start, stop, strict=True)]
    if len(spans) == 1:
        return part.row[spans[0]].astype(np.intp), part.weight[spans[0]]
    row = np.concatenate([part.row[span] for span in spans]).astype(np.intp)
    return row, np.concatenate([part.weight[span] for span in spans])


def _add(part: Inverted, total: NDArray[np.float32], start: list[int], stop: list[int], factor: list[float]) -> None:
    """Add some lists to the rows' totals."""
    row, weight = _read(part, start, stop)
    if len(start) == 1:
        gain = weight * np.float32(factor[0])
    else:
        lengths = [end - begin for begin, end in zip(start, stop, strict=True)]
        gain = weight * np.repeat(np.array(factor, np.float32), lengths)
    try:
        if _OLD_NUMPY:
            total += np.bincount(row, gain, minlength=len(total)).astype(np.float32)
        else:
            np.add.at(total, row, gain)
    except (IndexError, ValueError) as error:
        raise _damaged(part) from error


def _damaged(part: Inverted) -> SearchIndexError:
    return SearchIndexError(f"{part.name} is damaged: it names a row that is not there. {MEND}")


class _Run:
    """One query on one part, of which not all is read.

    The lists are taken in an order of their own, by what they promise for each posting. ``up`` and ``low`` are the most
    and the least that the lists from each one on can add to a row's score.

    Args:
        part: The part.
        lists: The query's postings in it.
        groups: ``[rows of a group, groups]``, the totals to add to, see :meth:`MaxScore._accumulator`.
        top_k: How many rows are wanted.
        floor: No row below it is.
    """

    def __init__(self, part: Inverted, lists: _Lists, groups: NDArray[np.float32], top_k: int, floor: float) -> None:
        self._part, self._top_k, self._floor = part, top_k, floor
        self._groups, self.total = groups, groups.reshape(-1)
        ends = lists.factor * part.most[lists.place], lists.factor * part.least[lists.place]
        # A row without the term gets 0 from it.
        up, low = np.maximum(np.maximum(*ends), 0), np.minimum(np.minimum(*ends), 0)
        order = np.argsort((low - up) / (lists.stop - lists.start), kind="stable")
        self._start, self._stop, self._factor = (column[order].tolist() for column in lists[1:])
        self._up, self._low = (np.append(np.cumsum(side[order][::-1])[::-1], 0.0).tolist() for side in (up, low))
        self._by_term = np.argsort(order).tolist()
        self._count, self._at = len(order), 0  # lists, and lists read
        # Products and partial sums are each rounded by at most 2^-24 of the largest sum.
        self._error = (self._count + 4) * 2.0**-23 * (self._up[0] - self._low[0])

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows that may be among the best, and their scores."""
        if self._up[0] + self._error < self._floor:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        left = sum(self._stop) - sum(self._start)
        pause = self._part.rows // _SHARE + _TOGETHER
        while True:
            left -= self.read(pause)
            rows, lookups = self._running(), self._count - self._at
            if rows is not None and (not lookups or lookups * (_LOOKUP * len(rows) + _START) < left):
                return self._scored(self._looked_up(rows))

    def read(self, postings: int) -> int:
        """Add the next lists to the rows' totals, at least so many postings if there are; returns how many."""
        done = 0
        while self._at < self._count and done < postings:
            lists = slice(self._at, _together(self._start, self._stop, self._at))
            start, stop = self._start[lists], self._stop[lists]
            _add(self._part, self.total, start, stop, self._factor[lists])
            done, self._at = done + sum(stop) - sum(start), lists.stop
        return done

    def _running(self) -> NDArray[np.int64] | None:
        """Return the rows that may still be among the best, ascending; None if that may be any."""
        best, last = self._groups.max(0), self._at == self._count
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
            floor = _kth(totals.reshape(-1), self._top_k) + self._low[self._at] - self._error
            self._floor = max(self._floor, floor)

    def _need(self) -> float:
        """Return the least total with which a row may still be among the best."""
        need = self._floor - self._up[self._at] - self._error
        # Sums of weights that are not negative are above 0 as soon as they are touched.
        return need if self._low[0] < 0 else max(need, _LEAST * (self._at == self._count))

    def _looked_up(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Look rows up in the lists that are not read, and return those that stay in the running."""
        total, wanted = self.total[rows], rows.astype(np.int32)
        while self._at < self._count:
            weight, there = self._find([self._at], wanted)
            total[there[0]] += weight[there] * np.float32(self._factor[self._at])
            self._at += 1
            if len(total) > 4 * self._top_k + 128 or self._at == self._count:
                self._raise_floor(total)
                kept = np.flatnonzero(total >= self._need())
                wanted, total = wanted[kept], total[kept]
        return wanted

    def _find(self, numbers: list[int], wanted: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return ``[lists, rows]``: each row's weight in some lists, and whether it is there; else it means nothing."""
        row = self._part.row
        posting = np.empty((len(numbers), len(wanted)), np.int64)
        for i, places in zip(numbers, posting, strict=True):
            places[:] = row[self._start[i] : self._stop[i]].searchsorted(wanted)
        posting += np.array([self._start[i] for i in numbers])[:, None]
        np.minimum(posting, np.array([self._stop[i] - 1 for i in numbers])[:, None], out=posting)
        return self._part.weight[posting], row[posting] == wanted

    def _scored(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return rows and their scores, computed anew."""
        score = np.empty(len(rows), np.float32)
        numbers = self._by_term
        factor = np.array([self._factor[i] for i in numbers])[:, None]
        for begin in range(0, len(rows), _EXACT):
            weight, there = self._find(numbers, rows[begin : begin + _EXACT])
            # A cumulative sum adds one after the other, whatever the shape.
            score[begin : begin + _EXACT] = np.cumsum(np.where(there, weight * factor, 0), axis=0)[-1]
        kept = _leading(score, self._top_k)
        return rows[kept].astype(np.int64), score[kept]


def _kth(values: NDArray[np.floating], count: int) -> float:
    """Return the lowest of the ``count`` highest values."""
    groups = len(values) // 32
    if groups >= count:
        # As many groups have a value at least as high as the lowest of their best; few others are to be looked at.
        best = values[: groups * 32].reshape(32, groups).max(0)
        values = values[values >= np.partition(best, groups - count)[groups - count]]
    return float(np.partition(values, len(values) - count)[len(values) - count])


def _leading(score: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the positions of the ``count`` highest scores above 0, and of all that equal the lowest of them."""
    least = _kth(score, count) if len(score) > count else 0.0
    return np.flatnonzero(score >= least if least > 0 else score > 0)
