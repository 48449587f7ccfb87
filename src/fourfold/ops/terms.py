"""Arithmetic on sparse rows in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Terms
from fourfold.errors import InputError


def check_active(most: int | None) -> None:
    """Raise :class:`~fourfold.errors.InputError` unless ``max_active_dims`` leaves a row something."""
    if most is not None and most < 1:
        raise InputError(f"max_active_dims must be at least 1, got {most}")


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
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(np.minimum(rows.lengths, most), out=offsets[1:])
    index = np.concatenate(kept)
    return Terms(offsets, rows.terms[index], rows.weights[index], rows.width)


def normalized(rows: Terms) -> Terms:
    """Return rows scaled to length 1; one without entries stays as it is.

    >>> normalized(Terms.of(np.array([[3.0, 4.0], [0.0, 0.0]]))).dense().tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    squares = np.zeros(len(rows), np.float64)
    filled = rows.lengths > 0
    if filled.any():
        weights = rows.weights.astype(np.float64)
        squares[filled] = np.add.reduceat(weights * weights, rows.offsets[:-1][filled])
    norms = np.repeat(np.sqrt(squares), rows.lengths)
    return Terms(rows.offsets, rows.terms, (rows.weights / norms).astype(rows.weights.dtype), rows.width)


def joined(parts: Sequence[Terms]) -> Terms:
    """Return the rows of all parts, one part's after the other's."""
    offsets = np.zeros(sum(map(len, parts)) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([part.lengths for part in parts]), out=offsets[1:])
    terms, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("terms", "weights"))
    return Terms(offsets, terms, weights, parts[0].width)
