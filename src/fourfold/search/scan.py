"""Find the files below a folder and notice which have changed."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

State = tuple[int, int]
"""``(size, mtime_ns)`` of a file."""

RECHECK = -2
"""Stands for the time of a file that was too young to trust: the next look compares its contents."""

_SKIPPED_FOLDERS = {"__pycache__", "node_modules"}
_BINARY = set(
    ".7z .a .aac .ai .avi .bin .bmp .bz2 .class .ckpt .db .dll .dmg .doc .docx .dylib .eot .exe .flac .gguf .gif "  # noqa: SIM905
    ".gz .h5 .heic .icns .ico .iso .jar .jpeg .jpg .lz4 .m4a .mkv .mo .mov .mp3 .mp4 .npy .npz .o .obj .odt .ogg "
    ".onnx .otf .parquet .pickle .pkl .png .pptx .psd .pt .pth .pyc .pyd .pyo .rar .rlib .safetensors .so .sqlite "
    ".sqlite3 .svg .tar .tgz .tif .tiff .ttf .wasm .wav .webm .webp .whl .woff .woff2 .xls .xlsx .xz .zip "
    ".zst".split()
)


def scan(root: Path, below: str = "") -> dict[str, State]:
    """Return the state of every readable file in ``root``, or in its subfolder ``below``, by its name from ``root``.

    Hidden files and folders, caches, virtual environments and files that are binary by their suffix are left out.
    Links to files are followed, links to folders are not: they may lead back up.
    """
    found: dict[str, State] = {}
    folders = [below + "/" if below else ""]
    base = os.fspath(root)
    while folders:
        prefix = folders.pop()
        try:
            with os.scandir(os.path.join(base, prefix)) as listing:  # noqa: PTH118 - half the time of Path over many files
                entries = list(listing)
        except OSError:
            if prefix in ("", below + "/"):
                raise
            continue  # a folder that may not be listed, or that has just gone
        if prefix and any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    if name not in _SKIPPED_FOLDERS:
                        folders.append(f"{prefix}{name}/")
                elif os.path.splitext(name)[1].lower() not in _BINARY and entry.is_file():  # noqa: PTH122
                    status = entry.stat()
                    found[prefix + name] = (status.st_size, status.st_mtime_ns)
            except OSError:
                continue
    return found


def trusted(state: State) -> State:
    """Return ``state``, or one that no file has if the file may still change within the same tick of its clock."""
    size, mtime_ns = state
    # Whole seconds mean a file system that keeps no finer times; others tick every few milliseconds.
    tick = 2_000_000_000 if mtime_ns % 1_000_000_000 == 0 else 50_000_000
    return (size, RECHECK) if time.time_ns() - mtime_ns < tick else state


def digest(path: Path) -> bytes:
    """Return 16 bytes that stand for a file's contents."""
    sums = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            sums.update(piece)
    return sums.digest()
