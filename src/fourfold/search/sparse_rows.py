"""Sparse rows of any kind as the one kind that an index takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fourfold.containers import Terms
from fourfold.errors import InputError

_LARGEST = 1e15  # products of two such weights, and sums of those, are still numbers in float32


def as_terms(rows: Any, *, argument: str = "rows") -> Terms:
    """Return sparse rows of any kind as they are, see :func:`tidied` for what an index needs besides.

    Args:
        rows: :class:`~fourfold.containers.Terms`; a torch tensor of any layout, ``[rows, width]`` or ``[width]`` for
            one row; a scipy matrix or array of any format; or a dense numpy array.
        argument: What an error calls them.

    Raises:
        InputError: if they are of another kind or shape.
    """
    found = rows if isinstance(rows, Terms) else _converted(rows, argument)
    if len(found.terms) != len(found.weights) or int(found.offsets[-1]) != len(found.terms):
        raise InputError(
            f"{argument} must have as many terms as weights and as the last offset says; "
            f"got {len(found.terms)}, {len(found.weights)} and {int(found.offsets[-1])}"
        )
    return found


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
    start = 0
    while start < len(rows):
        stop = int(np.searchsorted(rows.offsets, rows.offsets[start] + entries, side="right")) - 1
        stop = max(stop, start + 1)
        low, high = int(rows.offsets[start]), int(rows.offsets[stop])
        offsets = rows.offsets[start : stop + 1] - low
        yield Terms(offsets, rows.terms[low:high], rows.weights[low:high], rows.width)
        start = stop


def _converted(rows: Any, argument: str) -> Terms:
    shape = tuple(getattr(rows, "shape", ()))
    if len(shape) not in (1, 2) or not hasattr(rows, "dtype"):
        raise InputError(
            f"{argument} must be Terms, or a torch, scipy or numpy matrix [rows, width]; got "
            + (f"shape {shape}" if hasattr(rows, "shape") else type(rows).__name__)
        )
    if len(shape) == 1:
        rows = rows.unsqueeze(0) if hasattr(rows, "unsqueeze") else rows.reshape(1, -1)
    # By what they can do: neither torch nor scipy is imported for rows that are not their own.
    if hasattr(rows, "is_sparse_csr"):
        from fourfold.ops.sparse import terms_of

        return terms_of(rows)
    if hasattr(rows, "tocsr"):
        matrix = rows.tocsr()
        return Terms(matrix.indptr.astype(np.int64), matrix.indices, matrix.data, matrix.shape[1])
    return Terms.of(np.asarray(rows))


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
