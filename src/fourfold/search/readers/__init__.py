"""Readers: one file a format, found by the suffix it names; each yields the blocks of a file.

A reader is a module with ``SUFFIXES`` and ``read(path)``. A file whose suffix no reader names is read as plain text if
its first bytes look like text.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from fourfold.search.readers._base import Block, Unreadable

__all__ = ["Block", "Unreadable", "read_blocks"]


@cache
def _readers() -> dict[str, Callable[[Path], Iterator[Block]]]:
    found = {}
    for entry in pkgutil.iter_modules(__path__):
        if not entry.name.startswith("_"):
            module = importlib.import_module(f"{__name__}.{entry.name}")
            found.update(dict.fromkeys(module.SUFFIXES, module.read))
    return found


def read_blocks(path: Path) -> Iterator[Block]:
    """Yield the blocks of a file.

    Raises:
        Unreadable: if it is not text and no reader knows it.
        OSError: if it cannot be opened.
    """
    readers = _readers()
    return readers.get(path.suffix.lower(), readers[""])(path)
