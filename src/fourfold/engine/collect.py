"""Put the outputs of batches where the caller's order wants them, without a second copy of the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Terms

Array = Any
"""A numpy array or a torch tensor: both take ``buffer[rows] = values``."""


class Sink(ABC):
    """Takes the output of each batch.

    Attributes:
        shared: A ``SharedArray`` that other processes may write their rows into instead of sending them, or None.
        full: Whether no new window should be begun before rows have been taken out.
    """

    shared: Any = None
    full: bool = False

    @abstractmethod
    def put(self, rows: NDArray[np.int64], output: Any) -> None:
        """Take the outputs of the given rows of the input, in that order."""


class RowSink(Sink):
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


class ListSink(Sink, Generic[Item]):
    """Collects one object a row."""

    def __init__(self, count: int) -> None:
        self.items: list[Item] = [None] * count  # type: ignore[list-item]

    def put(self, rows: NDArray[np.int64], output: Sequence[Item]) -> None:
        """Place one object of ``output`` at each of the given rows."""
        for row, item in zip(rows.tolist(), output, strict=True):
            self.items[row] = item


Part = TypeVar("Part", bound=Sink)


class WindowSink(Sink, Generic[Part]):
    """Collects an input of unknown length, window by window, each into a sink of its own.

    Args:
        open_part: Makes the sink of a window from its number of rows.
    """

    def __init__(self, open_part: Callable[[int], Part]) -> None:
        self._open_part = open_part
        self._parts: deque[_Window[Part]] = deque()

    def begin(self, start: int, count: int) -> None:
        """Make room for the ``count`` rows from row ``start`` on."""
        self._parts.append(_Window(start, count, self._open_part(count)))

    @property
    def full(self) -> bool:  # type: ignore[override]
        """Whether two windows are open: one is being finished, one has begun."""
        return len(self._parts) > 1

    def put(self, rows: NDArray[np.int64], output: Any) -> None:
        """Hand the outputs to the window that holds these rows; a batch lies within one."""
        window = next(part for part in self._parts if part.start <= rows[0] < part.start + part.count)
        window.sink.put(rows - window.start, output)
        window.left -= len(rows)

    def finished(self) -> Iterator[Part]:
        """Yield the sinks of the leading windows whose rows are all there, and forget them."""
        while self._parts and self._parts[0].left == 0:
            yield self._parts.popleft().sink


class _Window(Generic[Part]):
    def __init__(self, start: int, count: int, sink: Part) -> None:
        self.start, self.count, self.sink = start, count, sink
        self.left = count


class TermsSink(Sink):
    """Collects sparse rows into one set of arrays, which grows as windows are done; nothing is held twice.

    Args:
        count: Number of rows of the whole result.
        parts: Ranges of rows that together make ``count``, each of which is filled by batches of its own.
    """

    def __init__(self, count: int, parts: Iterable[range]) -> None:
        self._windows = WindowSink(lambda count: _TermsWindow())
        for part in parts:
            self._windows.begin(part.start, len(part))
        self._offsets = np.zeros(count + 1, dtype=np.int64)
        self._filled = 0
        self._rows: Terms | None = None

    def put(self, rows: NDArray[np.int64], output: Terms) -> None:
        """Take the outputs of rows that lie in one part."""
        self._windows.put(rows, output)
        for window in self._windows.finished():
            self._append(window.rows())

    def _append(self, rows: Terms) -> None:
        """Add rows at the end; the arrays are lengthened in place, by the system moving pages, not copying them."""
        if self._rows is None:
            self._rows = replace(rows, terms=rows.terms[:0].copy(), weights=rows.weights[:0].copy())
        done, entries = self._filled, int(self._offsets[self._filled])
        for array, more in ((self._rows.terms, rows.terms), (self._rows.weights, rows.weights)):
            array.resize(entries + len(more), refcheck=False)
            array[entries:] = more
        self._offsets[done + 1 : done + 1 + len(rows)] = rows.offsets[1:] + entries
        self._filled += len(rows)

    def result(self) -> Terms:
        """Return all rows, once every one has been put."""
        count = len(self._offsets) - 1
        if self._rows is None or self._filled < count:
            raise RuntimeError(f"only {self._filled} of {count} rows were collected. This is a bug.")
        return replace(self._rows, offsets=self._offsets)


class _TermsWindow(Sink):
    """Collects the sparse rows of a window."""

    def __init__(self) -> None:
        self._parts: list[Terms] = []
        self._places: list[NDArray[np.int64]] = []

    def put(self, rows: NDArray[np.int64], output: Terms) -> None:
        self._parts.append(output)
        self._places.append(rows)

    def rows(self) -> Terms:
        """Return the rows in the order of the input."""
        whole = Terms.joined(self._parts)
        self._parts.clear()
        return whole.take(np.argsort(np.concatenate(self._places)))
