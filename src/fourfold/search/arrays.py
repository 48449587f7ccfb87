"""Named numpy arrays in one memory-mapped file, and lists of strings inside such a file.

The layout is that of safetensors (eight bytes of header length, a JSON header, the arrays), so any tool that reads
safetensors can look into an index. A file is written whole under another name and renamed, hence never half there.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from fourfold.errors import SearchIndexError

_NAMES = {"U8": "u1", "U16": "<u2", "I32": "<i4", "I64": "<i8", "F32": "<f4"}
MEND = "Build the index anew with --rebuild, or delete its folder"

_CODES = {np.dtype(code): name for name, code in _NAMES.items()}


def replace_file(target: Path, parts: Iterable[bytes | np.ndarray]) -> None:
    """Write ``parts`` to a temporary file beside ``target`` and rename it, each step durable before the next."""
    temporary = target.with_name(f"{target.name}.tmp")
    with temporary.open("wb") as file:
        for part in parts:
            file.write(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable, where the platform can open a folder."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class Pieces:
    """An array that is made piece by piece while it is written, so that it is never in memory whole.

    Attributes:
        dtype: Of the array.
        shape: Of the array.
        make: Yields the pieces in order.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    make: Callable[[], Iterator[np.ndarray]]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def save_arrays(target: Path, arrays: Mapping[str, np.ndarray | Pieces], metadata: Mapping[str, Any]) -> None:
    """Write ``arrays`` and JSON ``metadata`` to ``target`` in one atomic step."""
    header: dict[str, Any] = {"__metadata__": {"json": json.dumps(metadata)}}
    # Wide items first: every array then starts at a multiple of its item size without holes between them.
    ordered = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    start = 0
    for name in ordered:
        array = arrays[name]
        stop = start + array.nbytes
        header[name] = {"dtype": _CODES[array.dtype], "shape": list(array.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    replace_file(target, chain([len(text).to_bytes(8, "little"), text], _pieces(arrays[name] for name in ordered)))


def _pieces(arrays: Iterable[np.ndarray | Pieces]) -> Iterator[np.ndarray]:
    for array in arrays:
        if isinstance(array, Pieces):
            yield from array.make()
        else:
            yield array


class ArrayFile:
    """The arrays of one file as read-only views into its memory map.

    Args:
        path: The file.
        mapped: False reads it into memory, for a file that others replace: Windows lets none replace a mapped one.

    Raises:
        SearchIndexError: if the file is not such a file or is shorter than its header says.
        FileNotFoundError: if it does not exist.
    """

    def __init__(self, path: Path, *, mapped: bool = True) -> None:
        self._map: mmap.mmap | bytes
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8:
                raise SearchIndexError(f"{path} is damaged: it holds only {size} bytes. {MEND}")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if mapped else file.read()
        begin = 8 + int.from_bytes(self._map[:8], "little")
        try:
            header: dict[str, Any] = json.loads(self._map[8:begin] if begin <= size else b"")
            self.metadata: dict[str, Any] = json.loads(header.pop("__metadata__")["json"])
            self._arrays = {name: self._view(size, begin, **entry) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SearchIndexError(f"{path} is damaged: its header does not fit its contents. {MEND}") from error

    def _view(self, size: int, begin: int, *, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
        start, stop = data_offsets
        if not 0 <= start <= stop <= size - begin:
            raise ValueError("truncated")
        kind = np.dtype(_NAMES[dtype])
        return np.frombuffer(self._map, kind, (stop - start) // kind.itemsize, begin + start).reshape(shape)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]


class Strings:
    """A list of strings as one blob of UTF-8 and the offset where each ends; nothing is decoded before it is asked for.

    Args:
        blob: ``[bytes]`` uint8.
        ends: ``[strings]`` int64.
    """

    def __init__(self, blob: np.ndarray, ends: np.ndarray) -> None:
        self._blob, self._ends = blob, ends

    @staticmethod
    def pack(name: str, strings: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the two arrays of ``strings`` under the names that :meth:`unpack` looks for."""
        encoded = [text.encode("utf-8", "surrogateescape") for text in strings]
        ends = np.cumsum([len(text) for text in encoded], dtype="<i8")
        return {f"{name}.blob": np.frombuffer(b"".join(encoded), "u1"), f"{name}.ends": ends}

    @classmethod
    def unpack(cls, name: str, arrays: ArrayFile) -> Strings:
        """Return the strings stored under ``name``."""
        return cls(arrays[f"{name}.blob"], arrays[f"{name}.ends"])

    def __len__(self) -> int:
        return len(self._ends)

    def bytes_at(self, index: int) -> bytes:
        """Return the UTF-8 bytes of one string."""
        start = self._ends[index - 1] if index else 0
        return self._blob[start : self._ends[index]].tobytes()

    def __getitem__(self, index: int) -> str:
        return self.bytes_at(index).decode("utf-8", "surrogateescape")

    def find(self, text: str) -> int:
        """Return the position of ``text`` among strings sorted by their bytes, or -1."""
        wanted, low, high = text.encode("utf-8", "surrogateescape"), 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.bytes_at(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self.bytes_at(low) == wanted else -1

    def all(self) -> list[str]:
        """Return every string."""
        blob, start, found = self._blob.tobytes(), 0, []
        for stop in self._ends.tolist():
            found.append(blob[start:stop].decode("utf-8", "surrogateescape"))
            start = stop
        return found
