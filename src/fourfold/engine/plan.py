"""Which texts run together: windows of the input, sorted by token count, filled up to a token budget. numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Prefixes
from fourfold.errors import InputError

# The first window is small so that the device has work at once; later ones are large so that many texts of equal
# length meet.
FIRST_WINDOW = 2048
LARGEST_WINDOW = 32768
# Most texts that are cut where it costs least: of more, so many are of a length that padding costs next to nothing.
_FEW = 1024


@dataclass(frozen=True)
class Budget:
    """What one batch may hold.

    Attributes:
        tokens: Most tokens, padding included where there is any.
        rows: Most texts; None is no limit.
        padded: Whether every text takes the room of the longest.
        each: What a batch costs besides its tokens, in tokens. Few padded texts are cut into batches where that and
            the padding cost least; 0 fills each batch.
    """

    tokens: int
    rows: int | None = None
    padded: bool = False
    each: int = 0

    def __post_init__(self) -> None:
        if self.tokens < 1 or (self.rows is not None and self.rows < 1):
            raise InputError(f"a batch must have room for at least one token and one text, got {self}")

    def halved(self) -> Budget:
        """Return half of it, at least one token and one row."""
        return replace(
            self, tokens=max(1, self.tokens // 2), rows=None if self.rows is None else max(1, self.rows // 2)
        )


def window_sizes(largest: int = LARGEST_WINDOW, first: int = FIRST_WINDOW) -> Iterator[int]:
    """Yield the sizes of consecutive windows without end, each four times the one before up to ``largest``."""
    size = min(first, largest)
    while True:
        yield size
        size = min(size * 4, largest)


def windows(count: int, first: int = FIRST_WINDOW, largest: int = LARGEST_WINDOW) -> Iterator[range]:
    """Yield consecutive ranges that cover ``count`` inputs, sized as :func:`window_sizes` says."""
    start = 0
    for size in window_sizes(largest, first):
        if start >= count:
            return
        yield range(start, min(start + size, count))
        start += size


def plan(lengths: NDArray[np.int64], budget: Budget, prefixes: Prefixes | None = None) -> list[NDArray[np.int64]]:
    """Return batches as arrays of row numbers, longest texts first.

    Every row is in exactly one batch. A batch keeps within the budget unless it is a single text that alone exceeds it.

    Args:
        lengths: ``[rows]``, tokens of each text.
        budget: What a batch may hold.
        prefixes: What rows share; those of a group follow each other, and what they share counts once a batch.

    >>> [batch.tolist() for batch in plan(np.array([3, 9, 4, 1]), Budget(tokens=8))]
    [[1], [2, 0, 3]]
    >>> shared = Prefixes(group=np.array([1, 0, 1, 0]), length=np.array([2, 0, 2, 0]))
    >>> [batch.tolist() for batch in plan(np.array([3, 4, 4, 4]), Budget(tokens=8), shared)]
    [[1, 3], [2, 0]]
    """
    order, shared = _ordered(lengths, prefixes)
    costs = np.maximum(lengths[order], 1)  # a text without tokens still takes a row
    if budget.padded and budget.each and 1 < len(order) <= _FEW:
        return np.split(order, _cheapest_cuts(costs, budget))
    ends = np.cumsum(costs - shared + _new(order, shared, prefixes))
    batches, start = [], 0
    while start < len(order):
        if budget.padded:
            stop = start + budget.tokens // int(costs[start])
        else:
            before = int(ends[start - 1]) if start else 0
            # A batch that begins within a group runs what the group shares again.
            again = int(costs[start]) - (int(ends[start]) - before)
            stop = int(np.searchsorted(ends, before + budget.tokens - again, side="right"))
        if budget.rows is not None:
            stop = min(stop, start + budget.rows)
        stop = min(max(stop, start + 1), len(order))
        batches.append(order[start:stop])
        start = stop
    return batches


def _cheapest_cuts(costs: NDArray[np.int64], budget: Budget) -> list[int]:
    """Return where rows, from the longest to the shortest, are cut so that all batches together cost least.

    The least cost of the first rows is that of fewer rows and of one batch more: a shortest path.
    """
    count = len(costs)
    least = np.full(count + 1, np.iinfo(np.int64).max)
    least[0] = 0
    came = np.zeros(count + 1, dtype=np.int64)
    for start in range(count):
        most = max(1, budget.tokens // int(costs[start]))
        stop = min(start + min(most, budget.rows or most), count)
        sizes = np.arange(1, stop - start + 1)
        totals = least[start] + budget.each + costs[start] * sizes
        cheaper = totals < least[start + 1 : stop + 1]
        least[start + 1 : stop + 1][cheaper] = totals[cheaper]
        came[start + 1 : stop + 1][cheaper] = start
    cuts, place = [], int(came[count])
    while place:
        cuts.append(place)
        place = int(came[place])
    return cuts[::-1]


def _ordered(lengths: NDArray[np.int64], prefixes: Prefixes | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows from the longest to the shortest, groups undivided, and what each shares with its group."""
    if prefixes is None:
        order = np.argsort(-lengths, kind="stable")
        return order, np.zeros(len(order), dtype=np.int64)
    longest = np.zeros(int(prefixes.group.max(initial=0)) + 1, dtype=np.int64)
    np.maximum.at(longest, prefixes.group, lengths)
    order = np.lexsort((-lengths, prefixes.group, -longest[prefixes.group]))
    return order, prefixes.length[order]


def _new(order: NDArray[np.int64], shared: NDArray[np.int64], prefixes: Prefixes | None) -> NDArray[np.int64]:
    """Return the shared tokens that come with each row: those of its group, with the first row of it."""
    if prefixes is None:
        return shared
    group = prefixes.group[order]
    first = np.ones(len(group), dtype=bool)
    first[1:] = group[1:] != group[:-1]
    return np.where(first, shared, 0)
