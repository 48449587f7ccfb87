"""Put the outputs of batches where the caller's order wants them, without a second copy of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Output = TypeVar("Output", contravariant=True)
Array = Any
"""A numpy array or a torch tensor: both take ``buffer[rows] = values``."""


class Sink(Protocol[Output]):
    """Takes the output of each batch."""

    def put(self, rows: NDArray[np.int64], output: Output) -> None:
        """Take the outputs of the given rows of the input, in that order."""


class RowSink:
    """Collects vectors into one array that is allocated when the first batch tells its width and dtype.

    Args:
        count: Number of rows of the whole result.
        allocate: Makes the empty result for a shape, given the first batch's output.
    """

    def __init__(self, count: int, allocate: Callable[[tuple[int, ...], Array], Array]) -> None:
        self.count = count
        self._allocate = allocate
        self.rows: Array | None = None

    def put(self, rows: NDArray[np.int64], output: Array) -> None:
        """Copy ``output`` ``[batch, width]`` to the given rows."""
        if self.rows is None:
            self.rows = self._allocate((self.count, *output.shape[1:]), output)
        self.rows[rows] = output

    def result(self) -> Array:
        """Return the whole result, once every row has been put."""
        if self.rows is None:
            raise RuntimeError("no batch was collected. This is a bug.")
        return self.rows


def numpy_rows(shape: tuple[int, ...], like: NDArray[Any]) -> NDArray[Any]:
    """Allocate a numpy result of a batch's dtype."""
    return np.empty(shape, dtype=like.dtype)


Item = TypeVar("Item")


class ListSink(Generic[Item]):
    """Collects one object a row."""

    def __init__(self, count: int) -> None:
        self.items: list[Item] = [None] * count  # type: ignore[list-item]

    def put(self, rows: NDArray[np.int64], output: Sequence[Item]) -> None:
        """Place one object of ``output`` at each of the given rows."""
        for row, item in zip(rows.tolist(), output, strict=True):
            self.items[row] = item
