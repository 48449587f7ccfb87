"""Rows of vectors that grow on disk and survive a kill.

Rows are appended to ``OUT.part``. A small JSON file beside it, ``OUT.progress``, holds how many rows are safely on the
disk, how many bytes they take, and a fingerprint of what makes them. A second run with the same fingerprint cuts the
file to that size and goes on; any other run starts afresh.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Terms, offsets_of
from fourfold.errors import InputError
from fourfold.store.files import write_json

if TYPE_CHECKING:
    from typing_extensions import Self

HEADER = 128
_SECONDS_BETWEEN_CHECKPOINTS = 1.0


class Spool(ABC):
    """The rows written so far; a context manager.

    Args:
        out: Name of the finished file; the spool's two files lie beside it.
        fingerprint: Names everything that the rows depend on.
    """

    head = b""
    """What the file begins with."""

    def __init__(self, out: Path, fingerprint: str) -> None:
        self.part = out.with_name(f"{out.name}.part")
        self._progress = out.with_name(f"{out.name}.progress")
        self.fingerprint = fingerprint
        self.rows = 0
        self.width = 0
        self._saved = time.monotonic()

    def __enter__(self) -> Self:
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.part.open("r+b" if self.part.exists() else "x+b")
        try:
            _lock(self._file, self.part)
            self.rows, self.width, size = self._resumable()
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(size)
        self._file.seek(0, os.SEEK_END)
        if not self.rows:
            self._file.write(self.head)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None and not self.rows:
            self.forget()
        elif kind is not None and not self._file.closed:
            # Whatever stopped the run, what has been computed is kept; on a full disk the last checkpoint stands.
            with contextlib.suppress(OSError):
                self._checkpoint()
        self._file.close()

    def append(self, rows: Any) -> None:
        """Add rows, dense or sparse, ``[rows, width]``."""
        count, width, parts = self._packed(rows)
        self.width = self.width or width
        for part in parts:
            self._file.write(part)
        self.rows += count
        if time.monotonic() - self._saved >= _SECONDS_BETWEEN_CHECKPOINTS:
            self._checkpoint()

    @abstractmethod
    def _packed(self, rows: Any) -> tuple[int, int, list[Any]]:
        """Return the number of rows, their width, and what is written for them."""

    def finish(self) -> None:
        """Close the file, whole on the disk."""
        self._sync()
        self._file.close()

    def forget(self) -> None:
        """Remove both files, where they still are."""
        self._file.close()
        self.part.unlink(missing_ok=True)
        self._progress.unlink(missing_ok=True)

    def _checkpoint(self) -> None:
        # Order matters: a count may only name rows that are on the disk already.
        self._sync()
        state = {"fingerprint": self.fingerprint, "rows": self.rows, "width": self.width, "bytes": self._file.tell()}
        write_json(self._progress, state)
        self._saved = time.monotonic()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _resumable(self) -> tuple[int, int, int]:
        try:
            state = json.loads(self._progress.read_bytes())
            rows, width, size = (int(state[key]) for key in ("rows", "width", "bytes"))
            same = state["fingerprint"] == self.fingerprint
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0, 0
        whole = self.part.stat().st_size >= size > 0
        return (rows, width, size) if same and whole and rows > 0 and width > 0 else (0, 0, 0)


class DenseSpool(Spool):
    """Vectors; the finished file is a whole ``.npy`` file of float32 ``[rows, width]``."""

    head = bytes(HEADER)

    def _packed(self, rows: NDArray[Any]) -> tuple[int, int, list[Any]]:
        block = np.ascontiguousarray(rows, dtype="<f4")
        return len(block), block.shape[1], [block.data]

    def finish(self) -> None:
        """Write the final header and close."""
        self._file.seek(0)
        self._file.write(npy_header(self.rows, self.width))
        super().finish()

    def beside(self, windows: Iterable[list[str]]) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield each window of texts with its numbers, flat float32 ``[rows * width]``; for after :meth:`finish`.

        The file is read rather than mapped: a map of all of it would count as memory of this process.
        """
        with self.part.open("rb") as file:
            file.seek(HEADER)
            for window in windows:
                yield window, np.fromfile(file, "<f4", len(window) * self.width)


class SparseSpool(Spool):
    """Sparse rows, a block for each time that some were added: its sizes, lengths of rows, terms and weights."""

    def _packed(self, rows: Terms) -> tuple[int, int, list[Any]]:
        parts = (rows.lengths.astype("<i4"), rows.terms.astype("<i4"), rows.weights.astype("<f4"))
        sizes = np.array([len(rows), len(rows.terms)], "<i8")
        return len(rows), rows.width, [np.ascontiguousarray(part).data for part in (sizes, *parts)]

    def blocks(self) -> Iterator[Terms]:
        """Yield the rows as they were added; for after :meth:`finish`."""
        with self.part.open("rb") as file:
            while len(sizes := np.fromfile(file, "<i8", 2)):
                count, entries = sizes.tolist()
                offsets = offsets_of(np.fromfile(file, "<i4", count))
                yield Terms(offsets, np.fromfile(file, "<i4", entries), np.fromfile(file, "<f4", entries), self.width)


@contextlib.contextmanager
def written(output: Path) -> Iterator[Path]:
    """Give the name of a file that becomes ``output`` once it is whole."""
    temporary = output.with_name(f"{output.name}.writing")
    try:
        yield temporary
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


def npy_header(rows: int, width: int) -> bytes:
    """Return the header of a float32 ``.npy`` file, always :data:`HEADER` bytes: it is rewritten in place."""
    description = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}"
    length = HEADER - 10
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + description.ljust(length - 1).encode() + b"\n"


def fingerprint(*parts: object, file: Path) -> str:
    """Return a digest of ``parts`` and of the content of ``file``."""
    digest = hashlib.sha256(repr(parts).encode())
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _lock(file: Any, path: Path) -> None:
    """Hold the file for this process; the system lets go of it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: two runs with one output are then the user's to avoid
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"another run is writing {path}; wait for it, or choose another output") from None
