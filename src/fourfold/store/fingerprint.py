"""A short name for the content of a model folder, to tell whether stored vectors are still this model's."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fourfold.store.source import Source

_WHOLE = 1 << 20
_SAMPLES = 64
_SAMPLE_BYTES = 4096
_NOT_CONTENT = {".md", ".pdf", ".png", ".gitattributes"}


def fingerprint(source: Source) -> str:
    """Return 16 hexadecimal digits that change with the folder's settings, tokenizer or weights.

    Small files count whole; of large ones the size and evenly spread samples, so that a model of gigabytes takes
    milliseconds.
    """
    anchor = source.file("modules.json") or source.need("config.json")
    root = anchor.parent
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        hidden = any(part.startswith((".", "__pycache__")) for part in relative.parts)
        if not path.is_file() or hidden or path.suffix in _NOT_CONTENT:
            continue
        digest.update(relative.as_posix().encode() + b"\0")
        _add(digest, path)
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, path: Path) -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        if size <= _WHOLE:
            digest.update(file.read())
            return
        for i in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
