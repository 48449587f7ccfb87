"""Arrays that several processes write: the result of a pool of workers lies here, and is handed out as it lies."""

from __future__ import annotations

import itertools
import mmap
import os
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import reduction
from pathlib import Path
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

    Args:
        shape: Shape of the array.
        dtype: Its data type.

    Attributes:
        array: The array, zeros at first. It may be kept after :meth:`close`.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        size = _size(shape, dtype)
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

    def handle(self) -> Handle:
        """Return what another process of this program needs to map the memory; it can be pickled."""
        shape, dtype = self.array.shape, self.array.dtype.str
        if self._file is None:
            return Handle(shape, dtype, tag=self._tag)
        path = Path("/proc", str(os.getpid()), "fd", str(self._file))
        if path.exists():
            return Handle(shape, dtype, path=str(path), number=os.fstat(self._file).st_ino)
        return Handle(shape, dtype, duplicate=reduction.DupFd(self._file))

    def close(self) -> None:
        """Stop offering the memory to other processes; arrays over it stay valid."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True)
class Handle:
    """Where another process finds a :class:`SharedArray`.

    Attributes:
        shape: Shape of the array.
        dtype: Its data type.
        path: The open file, as ``/proc`` shows it.
        number: The file's number in its file system: the path may lead to another file once this one is closed.
        duplicate: The open file, where there is no ``/proc``.
        tag: Name of the memory on Windows.
    """

    shape: tuple[int, ...]
    dtype: str
    path: str | None = None
    number: int | None = None
    duplicate: Any = None
    tag: str | None = None

    def attach(self) -> NDArray[Any]:
        """Return the array over the other process's memory.

        Raises:
            OSError: If the memory is no longer offered, or this process may not open it.
        """
        size = _size(self.shape, self.dtype)
        if sys.platform == "win32":
            return _array(mmap.mmap(-1, size, tagname=self.tag), self.shape, self.dtype)
        file = self.duplicate.detach() if self.path is None else os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if self.number not in (None, os.fstat(file).st_ino):
                raise FileNotFoundError(f"{self.path} is another file by now")
            return _array(mmap.mmap(file, size), self.shape, self.dtype)
        finally:
            os.close(file)


def _size(shape: tuple[int, ...], dtype: Any) -> int:
    return max(1, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)


def _array(memory: mmap.mmap, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    return np.frombuffer(memory, dtype, int(np.prod(shape, dtype=np.int64))).reshape(shape)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        try:
            return os.memfd_create("fourfold")
        except OSError:
            pass  # a sandbox may forbid it
    with tempfile.TemporaryFile(prefix="fourfold-") as file:
        return os.dup(file.fileno())


class SharedRowSink(RowSink):
    """Collects vectors, numpy arrays, into memory that several processes write in place."""

    def __init__(self, count: int) -> None:
        super().__init__(count, self._share)

    def _share(self, shape: tuple[int, ...], like: NDArray[Any]) -> NDArray[Any]:
        self.shared = SharedArray(shape, like.dtype)
        return self.shared.array
