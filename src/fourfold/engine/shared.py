"""Arrays that several processes write: the result of a pool of workers lies here, and is handed out as it lies."""

from __future__ import annotations

import itertools
import mmap
import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.engine.collect import RowSink

_names = itertools.count()


class SharedArray:
    """A numpy array in memory that other processes can map.

    The memory has no name that a killed process could leave behind, and lives as long as some process holds an array
    over it: on Linux it is an anonymous file in memory, which the size of ``/dev/shm`` does not bound; elsewhere a
    temporary file that is deleted at once, on Windows paging-file memory.

    Pickling one and unpickling it in another process of the same program maps the same memory there.

    Args:
        shape: Shape of the array.
        dtype: Its data type.

    Attributes:
        array: The array, zeros at first. It may be kept after :meth:`close`.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        dtype = np.dtype(dtype)
        size = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        self._file: int | None = None
        self._tag: str | None = None
        if sys.platform == "win32":
            self._tag = f"fourfold-{os.getpid()}-{next(_names)}"
            memory = mmap.mmap(-1, size, tagname=self._tag)
        else:
            self._file = _anonymous_file()
            os.ftruncate(self._file, size)
            memory = mmap.mmap(self._file, size)
        self.array = _array(memory, shape, dtype)

    def close(self) -> None:
        """Stop offering the memory to other processes; arrays over it stay valid."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        handle: Any = self._tag
        if self._file is not None:
            handle = reduction.DupFd(self._file)
        return _attach, (handle, self.array.shape, self.array.dtype.str)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        try:
            return os.memfd_create("fourfold")
        except OSError:
            pass  # a sandbox may forbid it
    with tempfile.TemporaryFile(prefix="fourfold-") as file:
        return os.dup(file.fileno())


def _array(memory: mmap.mmap, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(memory, dtype, count).reshape(shape)


def _attach(handle: Any, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return the array over another process's memory."""
    kind = np.dtype(dtype)
    size = max(1, int(np.prod(shape, dtype=np.int64)) * kind.itemsize)
    if isinstance(handle, str):
        return _array(mmap.mmap(-1, size, tagname=handle), shape, kind)  # type: ignore[call-arg]
    file = handle.detach()
    try:
        return _array(mmap.mmap(file, size), shape, kind)
    finally:
        os.close(file)


class SharedRowSink(RowSink):
    """Collects vectors, numpy arrays, into memory that several processes write in place."""

    def __init__(self, count: int) -> None:
        super().__init__(count, self._share)

    def _share(self, shape: tuple[int, ...], like: NDArray[Any]) -> NDArray[Any]:
        self.shared = SharedArray(shape, like.dtype)
        return self.shared.array
