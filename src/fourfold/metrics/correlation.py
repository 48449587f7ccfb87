"""How far two lists of numbers rise together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import InputError

Numbers = Sequence[float] | NDArray[Any]


def pearson(first: Numbers, second: Numbers) -> float:
    """Return the correlation of two lists, from -1 to 1; NaN if either is constant.

    Args:
        first: ``[rows]``.
        second: ``[rows]``.

    Raises:
        InputError: If there are fewer than two rows, or the lists differ in length.

    >>> round(pearson([1, 2, 4], [3, 5, 8]), 4)
    0.9972
    """
    a, b = _pair(first, second)
    if _constant(a) or _constant(b):
        return float("nan")
    a, b = (values - values.mean() for values in (a, b))
    a, b = (values / np.linalg.norm(values) for values in (a, b))
    return float(np.clip(a @ b, -1.0, 1.0))


def spearman(first: Numbers, second: Numbers) -> float:
    """Return the correlation of the ranks in two lists, from -1 to 1; NaN if either is constant or holds a NaN.

    Args:
        first: ``[rows]``.
        second: ``[rows]``.

    Raises:
        InputError: If there are fewer than two rows, or the lists differ in length.

    >>> spearman([1, 2, 4, 3], [10, 20, 1000, 30])
    1.0
    """
    a, b = _pair(first, second)
    if np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    return pearson(ranks(a), ranks(b))


def ranks(values: Numbers) -> NDArray[np.float64]:
    """Return the place of each number in ascending order, from 1; equal numbers share the mean of their places.

    Args:
        values: ``[rows]``.

    >>> ranks([0.5, 0.1, 0.5]).tolist()
    [2.5, 1.0, 2.5]
    """
    _, group, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[group]


def _pair(first: Numbers, second: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise InputError(
            f"a correlation needs two lists with the same number of rows, at least 2; got the shapes {list(a.shape)} "
            f"and {list(b.shape)}"
        )
    return a, b


def _constant(values: NDArray[np.float64]) -> bool:
    return bool((values == values[0]).all())
