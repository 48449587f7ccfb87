"""Read texts from files one at a time: lines, JSON Lines or CSV, each also gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fourfold.errors import InputError, did_you_mean

_JSON_LINES = (".jsonl", ".ndjson")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


class TextFile:
    """A file of texts, as an iterable that can say how far into the file it has read.

    Args:
        path: The file. Its suffix says how it is read: ``.jsonl`` and ``.ndjson`` hold one JSON object a line, ``.csv``
            and ``.tsv`` a header and rows; anything else holds one text a line. ``.gz`` after any of these is unpacked.
        field: Key or column that holds the text; lines of plain text have none.
    """

    def __init__(self, path: Path, field: str = "text") -> None:
        self.path = path
        self.field = field
        suffixes = [suffix.lower() for suffix in path.suffixes]
        self.is_gzip = suffixes[-1:] == [".gz"]
        self.kind = next(iter(suffixes[-2:-1] if self.is_gzip else suffixes[-1:]), "")
        self.size = path.stat().st_size
        self._raw: BinaryIO | None = None

    def position(self) -> int:
        """Return how many bytes of the file have been read from the disk."""
        return 0 if self._raw is None or self._raw.closed else self._raw.tell()

    def __iter__(self) -> Iterator[str]:
        with self.path.open("rb") as raw:
            self._raw = raw
            stream: Any = gzip.GzipFile(fileobj=raw) if self.is_gzip else raw
            # Only \n ends a line: a text may hold \r, or any of the characters that str.splitlines would split at.
            newline = "" if self.kind in _DELIMITERS else "\n"
            try:
                with io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline) as lines:
                    yield from self._read(lines)
            except UnicodeDecodeError as error:
                strange = error.object[error.start]
                raise InputError(f"{self.path} is not UTF-8 text: byte {strange:#04x} cannot be read") from None
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise InputError(f"{self.path} is not a whole gzip file: {error}") from None

    def _read(self, lines: io.TextIOWrapper) -> Iterator[str]:
        if self.kind in _JSON_LINES:
            return self._json_lines(lines)
        if self.kind in _DELIMITERS:
            return self._table(lines, _DELIMITERS[self.kind])
        return (line.rstrip("\r\n") for line in lines)

    def _json_lines(self, lines: io.TextIOWrapper) -> Iterator[str]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{self.path}, line {number} is not valid JSON: {error}") from None
            if not isinstance(row, dict):
                raise InputError(f"{self.path}, line {number} must hold a JSON object, got {type(row).__name__}")
            yield self._text(row, number)

    def _table(self, lines: io.TextIOWrapper, delimiter: str) -> Iterator[str]:
        # The default limit of 128 KiB a field is there for memory's sake; a document may be longer.
        csv.field_size_limit(1 << 30)
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                yield self._text(row, reader.line_num)
        except csv.Error as error:
            raise InputError(f"{self.path}, line {reader.line_num} is not valid CSV: {error}") from None

    def _text(self, row: dict[str, Any], number: int) -> str:
        if self.field not in row:
            names = [str(name) for name in row if name is not None]
            hint = did_you_mean(self.field, names) or " Choose one with --field."
            raise InputError(
                f"{self.path}, line {number} has no field {self.field!r}; it has: {', '.join(names)}.{hint}"
            )
        text = row[self.field]
        if not isinstance(text, str):
            raise InputError(f"{self.path}, line {number}: field {self.field!r} must hold a text, got {text!r}")
        return text


def texts_of(argument: str) -> list[str]:
    """Return the lines of the file that ``argument`` names, or ``argument`` itself as the only text.

    Raises:
        InputError: If the file holds no texts.
    """
    try:
        is_file = Path(argument).is_file()
    except (OSError, ValueError):
        is_file = False  # too long for a path, or holding a character that no path has: a text
    if not is_file:
        return [argument]
    texts = [text for text in TextFile(Path(argument)) if text.strip()]
    if not texts:
        raise InputError(f"{argument} holds no texts")
    return texts
