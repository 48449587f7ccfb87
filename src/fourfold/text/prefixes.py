"""Leading tokens that several rows share: found among many rows, and laid out once in a batch. numpy only.

A causal model gives tokens the same states whatever comes after them, so that what many rows begin with, such as the
instruction and the query of a language model that reranks, need be computed once only.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Prefixes, Tokens, offsets_of, runs_of

# Fewer tokens than this are not worth a run of their own.
_LEAST_SAVED = 32


@dataclass
class _Group:
    """Rows that share their first ``shared`` tokens."""

    shared: int
    rows: list[int]

    @property
    def saved(self) -> int:
        return (len(self.rows) - 1) * self.shared

    def surplus(self, shared: int) -> int:
        """Return how many tokens more it saves by itself than its rows would among others that share so many."""
        return self.saved - len(self.rows) * shared


def shared_prefixes(tokens: Tokens) -> Prefixes | None:
    """Return which rows should share how many leading tokens, so that many tokens are saved; None if none should.

    A row is in one group at most, and keeps at least one token of its own. Sorted rows that share most are put together
    first; a group stays apart from rows that share less with it, where that would save less.

    Args:
        tokens: Any rows, in any order.
    """
    found = [group for group in _groups(tokens) if group.saved >= _LEAST_SAVED]
    if not found:
        return None
    group, length = np.zeros(len(tokens), dtype=np.int64), np.zeros(len(tokens), dtype=np.int64)
    for number, one in enumerate(found, 1):
        group[one.rows], length[one.rows] = number, one.shared
    return Prefixes(group, length)


def _groups(tokens: Tokens) -> list[_Group]:
    order, common = _sorted(tokens)
    held = [_Group(0, [row]) for row in order]
    leader = list(range(len(order)))  # of a place in the order: towards the place that holds its group
    done = []
    for place in np.argsort(-common, kind="stable").tolist():
        shared = int(common[place])
        if shared == 0:
            break
        first, second = _leader(leader, place), _leader(leader, place + 1)
        one, other = sorted((held[first], held[second]), key=lambda group: len(group.rows))
        leader[second] = first
        if (len(one.rows) + len(other.rows) - 1) * shared >= one.saved + other.saved:
            other.rows += one.rows  # the shorter list to the longer one
            held[first] = _Group(shared, other.rows)
        else:
            apart, rest = (one, other) if one.surplus(shared) > other.surplus(shared) else (other, one)
            done.append(apart)
            held[first] = rest
    return done + [held[place] for place, towards in enumerate(leader) if place == towards]


def _leader(leader: list[int], place: int) -> int:
    while leader[place] != place:
        leader[place] = place = leader[leader[place]]
    return place


def _sorted(tokens: Tokens) -> tuple[list[int], NDArray[np.int64]]:
    """Return the rows in the order of their ids, and how many leading ids each but the last shares with the next.

    Of two rows the shorter keeps one token apart from what they share. Ids of different segments are different.
    """
    ids = tokens.ids if tokens.type_ids is None else tokens.ids.astype(np.int64) * 2 + tokens.type_ids
    ids = ids.astype(">i8")  # whose bytes sort as the numbers do
    data, bounds = ids.tobytes(), tokens.offsets.tolist()
    rows = [data[8 * start : 8 * stop] for start, stop in itertools.pairwise(bounds)]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    spans = [ids[start:stop] for start, stop in itertools.pairwise(bounds)]
    common = [_common(spans[first], spans[second]) for first, second in itertools.pairwise(order)]
    return order, np.array(common, dtype=np.int64)


def _common(first: NDArray[np.integer], second: NDArray[np.integer]) -> int:
    most = min(len(first), len(second)) - 1
    if most <= 0:
        return 0
    differs = first[:most] != second[:most]
    place = int(differs.argmax())
    return place if differs[place] else most


@dataclass(frozen=True)
class Laid:
    """A batch in which shared tokens stand once.

    Attributes:
        tokens: The rows, each without the tokens that it shares, and rows of shared tokens among them.
        after: int64 ``[rows]``, the row whose tokens come before those of a row; -1 where none do.
        texts: int64 ``[texts]``, the rows that are the texts of the batch, in its order.
    """

    tokens: Tokens
    after: NDArray[np.int64]
    texts: NDArray[np.int64]


def laid_out(tokens: Tokens) -> Laid | None:
    """Return a batch with what its rows share standing once; None if no two of its rows share anything.

    Shared tokens stand before the longest row that has them, so that the two are one whole text in a row.
    """
    prefixes = tokens.prefixes
    if prefixes is None:
        return None
    shared = prefixes.length.copy()
    before: dict[int, int] = {}  # by the row that the shared tokens stand before: their group
    for group in np.unique(prefixes.group[prefixes.group > 0]).tolist():
        rows = (prefixes.group == group).nonzero()[0]
        if len(rows) > 1:
            before[int(rows[tokens.lengths[rows].argmax()])] = group
        else:
            shared[rows] = 0
    if not before:
        return None
    heads = np.array(sorted(before), dtype=np.int64)
    texts = np.arange(len(tokens)) + np.searchsorted(heads, np.arange(len(tokens)), side="right")
    at = texts[heads] - 1  # where the shared tokens stand
    count = len(tokens) + len(heads)
    starts, lengths, after = (np.empty(count, dtype=np.int64) for _ in range(3))
    starts[texts], lengths[texts] = tokens.offsets[:-1] + shared, tokens.lengths - shared
    starts[at], lengths[at] = tokens.offsets[heads], shared[heads]
    place_of = np.full(int(prefixes.group.max()) + 1, -1, dtype=np.int64)
    place_of[[before[head] for head in heads.tolist()]] = at
    after[at], after[texts] = -1, np.where(shared > 0, place_of[prefixes.group], -1)
    index = runs_of(starts, lengths)
    types = None if tokens.type_ids is None else tokens.type_ids[index]
    return Laid(Tokens(tokens.ids[index], offsets_of(lengths), types), after, texts)
