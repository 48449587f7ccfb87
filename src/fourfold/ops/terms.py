"""Arithmetic on sparse rows in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Terms, offsets_of
from fourfold.errors import InputError, check_positive


def as_terms(rows: Any, *, argument: str = "rows") -> Terms:
    """Return sparse rows of any kind as they are.

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


def check_active(most: Any, origin: str = "max_active_dims") -> int | None:
    """Return how many entries a row keeps, or None for all.

    Raises:
        InputError: Unless it is a whole number above 0 or None; the message calls it ``origin``.
    """
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise InputError(f"{origin} must be a whole number of at least 1, or None; got {most!r}")
    return most


def strongest(rows: Terms, most: int | None) -> Terms:
    """Return rows with their entries of largest absolute weight alone.

    Args:
        rows: Sparse rows.
        most: How many entries a row keeps; None keeps all.

    >>> kept = strongest(Terms.of(np.array([[1.0, -3.0, 2.0], [0.0, 0.5, 0.0]])), 2)
    >>> kept.dense().tolist()
    [[0.0, -3.0, 2.0], [0.0, 0.5, 0.0]]
    """
    if most is None or int(rows.lengths.max(initial=0)) <= most:
        return rows
    size = np.abs(rows.weights)
    kept: list[NDArray[np.int64]] = []
    for start, stop in zip(rows.offsets[:-1].tolist(), rows.offsets[1:].tolist(), strict=True):
        if stop - start <= most:
            kept.append(np.arange(start, stop))
        else:
            chosen = np.argpartition(size[start:stop], stop - start - most)[stop - start - most :]
            kept.append(np.sort(chosen) + start)
    offsets, index = offsets_of(np.minimum(rows.lengths, most)), np.concatenate(kept)
    return Terms(offsets, rows.terms[index], rows.weights[index], rows.width)


def normalized(rows: Terms) -> Terms:
    """Return rows scaled to length 1; one without entries stays as it is.

    >>> normalized(Terms.of(np.array([[3.0, 4.0], [0.0, 0.0]]))).dense().tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    weights = rows.weights.astype(np.float64)
    norms = np.repeat(np.sqrt(sums(rows, weights * weights)), rows.lengths)
    return Terms(rows.offsets, rows.terms, (rows.weights / norms).astype(rows.weights.dtype), rows.width)


def bounded(costs: NDArray[np.integer], most: int) -> Iterator[tuple[int, int]]:
    """Yield where runs of neighbours that together cost at most so much start and stop; one alone may cost more.

    >>> list(bounded(np.array([3, 1, 4, 9, 1]), 5))
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    ends = np.cumsum(costs)
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + most, side="right")), start + 1)
        yield start, stop
        start = stop


def sums(rows: Terms, numbers: NDArray[Any]) -> NDArray[Any]:
    """Return for each row the sum of numbers, of which there is one an entry: ``[rows]``."""
    found = np.zeros(len(rows), numbers.dtype)
    filled = rows.lengths > 0
    if filled.any():
        found[filled] = np.add.reduceat(numbers, rows.offsets[:-1][filled])
    return found


def heaviest(rows: Terms, top_k: int | None = None) -> Iterator[tuple[NDArray[np.int32], NDArray[Any]]]:
    """Yield each row's terms and weights, the largest weight first, equal ones by their terms; all, or so many.

    Raises:
        InputError: If ``top_k`` is below 1.
    """
    if top_k is not None:
        check_positive(top_k=top_k)
    return (_heaviest(*rows.row(number), top_k) for number in range(len(rows)))


def _heaviest(
    terms: NDArray[np.int32], weights: NDArray[Any], top_k: int | None
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    order = np.argsort(-weights, kind="stable")[:top_k]
    return terms[order], weights[order]


def sparsity(rows: Terms) -> dict[str, float]:
    """Return the mean number of entries of a row as ``active_dims``, and the share of zeros as ``sparsity_ratio``.

    >>> sparsity(Terms.of(np.array([[1.0, 0, 0, 0], [1.0, 2, 0, 0]])))
    {'active_dims': 1.5, 'sparsity_ratio': 0.625}
    """
    if not len(rows) or not rows.width:
        return {"active_dims": 0.0, "sparsity_ratio": 1.0}
    active = len(rows.terms) / len(rows)
    return {"active_dims": active, "sparsity_ratio": 1 - active / rows.width}
