"""Sparse rows of any kind as the one kind that an index takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fourfold.containers import Terms
from fourfold.errors import InputError
from fourfold.ops.terms import bounded

_LARGEST = 1e15  # products of two such weights, and sums of those, are still numbers in float32


def tidied(rows: Terms, *, argument: str = "rows") -> Terms:
    """Return rows with each term once, ascending, float32 weights and no zeros; entries of the same term are added up.

    Raises:
        InputError: if a term is out of range, or a weight is not a real number of at most 1e15.
    """
    if len(rows.terms) and not 0 <= int(rows.terms.min()) <= int(rows.terms.max()) < rows.width:
        low, high = int(rows.terms.min()), int(rows.terms.max())
        raise InputError(f"{argument} must have terms from 0 to {rows.width - 1}; got {low} to {high}")
    weights = rows.weights
    # A maximum of numbers of which one is none is none, which is not below anything.
    if weights.dtype.kind not in "fiub" or (len(weights) and not np.abs(weights).max() <= _LARGEST):
        got = weights[np.argmax(~(np.abs(weights) <= _LARGEST))]
        raise InputError(f"{argument} must have finite real weights of at most {_LARGEST:g}; got {got}")
    return _merged(replace(rows, weights=weights.astype(np.float32, copy=False)))


def chunks(rows: Terms, entries: int) -> Iterator[Terms]:
    """Yield consecutive rows with about so many entries each, as views; at least one row each."""
    for start, stop in bounded(rows.lengths, entries):
        low, high = int(rows.offsets[start]), int(rows.offsets[stop])
        offsets = rows.offsets[start : stop + 1] - low
        yield Terms(offsets, rows.terms[low:high], rows.weights[low:high], rows.width)


def _merged(rows: Terms) -> Terms:
    falling = np.flatnonzero(np.diff(rows.terms) <= 0) + 1
    terms, weights, offsets = rows.terms, rows.weights, rows.offsets
    # A term may be lower than the one before it where a row begins.
    if len(falling) and not np.isin(falling, offsets).all():
        row = np.repeat(np.arange(len(rows)), rows.lengths)
        order = np.lexsort((terms, row))
        row, terms = row[order], terms[order]
        first = np.flatnonzero(np.diff(row, prepend=-1) | np.diff(terms, prepend=-1))
        row, terms, weights = row[first], terms[first], np.add.reduceat(weights[order], first)
        offsets = np.searchsorted(row, np.arange(len(rows) + 1))
    if not weights.all():
        kept = weights != 0
        offsets = np.concatenate([[0], np.cumsum(kept)])[offsets]
        terms, weights = terms[kept], weights[kept]
    return Terms(offsets, terms.astype(np.int32, copy=False), weights, rows.width)
