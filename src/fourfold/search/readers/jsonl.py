"""JSON lines: one record a line, its strings as text, its title as heading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fourfold.search.readers._base import Block, lines

SUFFIXES = (".jsonl", ".ndjson", ".jsonlines")

_TITLES = ("title", "name", "heading", "subject")
_LABELS = {"_id", "id", "uid", "uuid", "url", "href", "hash", "doc_id", "docid"}


def read(path: Path) -> Iterator[Block]:
    """Yield one record a line; a line that is not JSON is taken as it stands."""
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            yield Block(number, line.strip(), kind="record")
            continue
        title = ""
        if isinstance(record, dict):
            key = next((key for key in _TITLES if isinstance(record.get(key), str)), None)
            title = _clean(record.pop(key)) if key else ""
        text = "\n".join(filter(None, (_clean(value) for value in _strings(record))))
        if text or title:
            yield Block(number, text or title, title if text else "", "record")


def _clean(text: str) -> str:
    """Strip, put on one line (a record is one line of its file), and replace halves of surrogate pairs."""
    return " ".join(text.split()).encode("utf-8", "replace").decode()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in _LABELS:
                yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
