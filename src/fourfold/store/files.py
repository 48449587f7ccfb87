"""Write files and folders so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file through a temporary neighbour and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _give_usual_mode(Path(temporary))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, *, indent: int | None = 4, sort_keys: bool = False) -> None:
    """Write JSON as UTF-8 through a temporary neighbour and a rename."""
    write_bytes(path, json.dumps(value, indent=indent, sort_keys=sort_keys).encode())


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder whose content becomes the content of ``path`` when the block ends without an error.

    A new folder appears by one rename. In an existing one each file is replaced by a rename, ``modules.json`` last, and
    files that were not written anew stay, as they do with sentence-transformers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.saving-"))
    try:
        yield temporary
        for place in (temporary, *temporary.rglob("*")):
            _give_usual_mode(place)
        if not path.exists():
            temporary.rename(path)
        else:
            _move_into(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into(source: Path, target: Path) -> None:
    files = [file for file in source.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: file.name == "modules.json"):
        destination = target / file.relative_to(source)
        destination.parent.mkdir(parents=True, exist_ok=True)
        file.replace(destination)


def _give_usual_mode(path: Path) -> None:
    # tempfile and safetensors make private files; what is saved gets the mode that open() or mkdir() would have given.
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
