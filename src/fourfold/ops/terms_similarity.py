"""How alike sparse rows are, in numpy: the formulas of :mod:`~fourfold.ops.similarity` over entries.

Neither side becomes dense. The entries of one side are sorted by term, once; those of the other meet those of their own
term, some at a time, so that memory above the result stays bounded. Everything is added up in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Terms
from fourfold.errors import InputError, ShapeError, did_you_mean
from fourfold.ops.terms import bounded, normalized, sums

Numbers = NDArray[np.float64]

# Pairs of entries, and numbers of the result, that are worked on at a time: some 50 MB.
_PAIRS = 2**20


def _least(x: Numbers, y: Numbers) -> Numbers:
    """Return what two weights share of an L1 length: the smaller absolute value, if they are of one sign."""
    return np.minimum(np.abs(x), np.abs(y)) * (x * y > 0)


# What a term adds that both rows hold, and what a row brings by itself.
_TOGETHER: dict[str, Callable[[Numbers, Numbers], Numbers]] = {
    "cosine": np.multiply,
    "dot": np.multiply,
    "euclidean": np.multiply,
    "manhattan": _least,
}
_ALONE: dict[str, Callable[[Numbers], Numbers]] = {"euclidean": np.square, "manhattan": np.abs}


def compare_terms(name: str, a: Terms, b: Terms, *, pairwise: bool = False) -> NDArray[Any]:
    """Return similarities of sparse rows, float32 unless some weights are float64.

    Args:
        name: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``; the last two are negative distances.
        a: Sparse rows.
        b: As ``a``, of the same width.
        pairwise: Compare row ``i`` of ``a`` with row ``i`` of ``b``, instead of every row with every row.

    Returns:
        ``[rows of a, rows of b]``, or ``[rows]`` if pairwise.

    Raises:
        InputError: If the name is unknown.
        ShapeError: If the widths differ, or the numbers of rows that are paired.

    >>> rows = Terms.of(np.array([[1.0, 0, 2], [0, 3, 1]], np.float32))
    >>> compare_terms("dot", rows, rows).tolist()
    [[5.0, 2.0], [2.0, 10.0]]
    """
    if name not in _TOGETHER:
        raise InputError(
            f"similarity must be one of {', '.join(_TOGETHER)}; got {name!r}.{did_you_mean(name, _TOGETHER)}"
        )
    if a.width != b.width:
        raise ShapeError(f"rows to compare must be of one width, got {a.width} and {b.width}")
    if pairwise and len(a) != len(b):
        raise ShapeError(f"rows to compare in pairs must be as many on both sides, got {len(a)} and {len(b)}")
    dtype = np.result_type(a.weights.dtype, b.weights.dtype, np.float32)
    a, b = (replace(rows, weights=rows.weights.astype(np.float64)) for rows in (a, b))
    if name == "cosine":
        a, b = normalized(a), normalized(b)
    if pairwise:
        return _finished(name, _paired(a, b, _TOGETHER[name]), a, b).astype(dtype)
    scores = np.empty((len(a), len(b)), dtype)
    # Sorting costs more than meeting: the side with fewer entries is sorted.
    turned = len(a.terms) < len(b.terms)
    first, second = (b, a) if turned else (a, b)
    for start, stop, met in _met(first, second, _TOGETHER[name]):
        some = first.take(np.arange(start, stop))
        found = _finished(name, met, some, second)
        if turned:
            scores[:, start:stop] = found.T
        else:
            scores[start:stop] = found
    return scores


def _finished(name: str, met: Numbers, a: Terms, b: Terms) -> Numbers:
    """Return similarities from what terms add that both rows hold, ``[rows of a, rows of b]`` or ``[rows]``."""
    if name not in _ALONE:
        return met
    first, second = (sums(rows, _ALONE[name](rows.weights)) for rows in (a, b))
    distance = np.maximum((first[:, None] if met.ndim == 2 else first) + second - 2 * met, 0)
    return -np.sqrt(distance) if name == "euclidean" else -distance


def _met(a: Terms, b: Terms, together: Callable[[Numbers, Numbers], Numbers]) -> Iterator[tuple[int, int, Numbers]]:
    """Yield runs of rows of ``a``, from one row to before another, with ``[rows of the run, rows of b]``."""
    order = np.argsort(b.terms, kind="stable")
    row = np.repeat(np.arange(len(b)), b.lengths)[order]
    weights = b.weights[order]
    counts = np.bincount(b.terms, minlength=b.width)
    starts = np.cumsum(counts) - counts
    pairs = counts[a.terms]
    step = max(1, _PAIRS // max(1, len(b)))
    for start in range(0, len(a), step):
        stop = min(start + step, len(a))
        found = np.zeros((stop - start) * len(b))
        base, end = int(a.offsets[start]), int(a.offsets[stop])
        place_of = np.repeat(np.arange(stop - start) * len(b), a.lengths[start:stop])
        for low, high in bounded(pairs[base:end], _PAIRS):
            low, high = base + low, base + high
            number = pairs[low:high]
            mine = np.repeat(np.arange(low, high), number)
            # Where an entry's partners begin, and which of them each pair has.
            theirs = np.arange(len(mine)) + np.repeat(starts[a.terms[low:high]] - np.cumsum(number) + number, number)
            place = place_of[mine - base] + row[theirs]
            found += np.bincount(place, together(a.weights[mine], weights[theirs]), minlength=len(found))
        yield start, stop, found.reshape(stop - start, len(b))


def _paired(a: Terms, b: Terms, together: Callable[[Numbers, Numbers], Numbers]) -> Numbers:
    """Return what the terms add that a row of ``a`` and the same row of ``b`` hold, ``[rows]``."""
    keys, wanted = (np.repeat(np.arange(len(rows)), rows.lengths) * rows.width + rows.terms for rows in (a, b))
    place = np.searchsorted(keys, wanted)
    there = np.flatnonzero(place < len(keys))
    there = there[keys[place[there]] == wanted[there]]
    numbers = np.zeros(len(wanted))
    numbers[there] = together(a.weights[place[there]], b.weights[there])
    return sums(b, numbers)
