"""One writer at a time: a lock on a file, which the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fourfold.errors import SearchIndexError

if sys.platform == "win32":
    import msvcrt

    def _try(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(folder: Path, timeout: float, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the writers' lock of an index.

    Args:
        folder: The index's folder, which exists.
        timeout: Seconds to wait for another writer.
        waiting: Called once when there is another.

    Raises:
        SearchIndexError: if the other is still writing after ``timeout``.
    """
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        give_up = time.monotonic() + timeout
        told = False
        while True:
            try:
                _try(handle)
                break
            except OSError as error:
                if time.monotonic() > give_up:
                    raise SearchIndexError(
                        f"another process has been writing the index in {folder} for {timeout:.0f} s; try again later"
                    ) from error
            if waiting and not told:
                waiting()
                told = True
            time.sleep(0.02)
        yield
    finally:
        os.close(handle)
