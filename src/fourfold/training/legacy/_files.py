"""Lines and rows of text files, plain or gzipped, with errors that name the file and the line."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, TypeVar, cast

from fourfold.errors import InputError

logger = logging.getLogger(__name__)

_Item = TypeVar("_Item")

_GZIP = b"\x1f\x8b"  # no UTF-8 text begins with these bytes, so a file's name need not say that it is packed


def lines(path: str | Path) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file, each with its end as ``\n``.

    Args:
        path: The file, plain or gzipped, whatever it is called.

    Raises:
        InputError: If the file cannot be read, or is not UTF-8 text.
    """
    number = 0
    try:
        with Path(path).open("rb") as raw:
            stream: Any = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP else raw
            with io.TextIOWrapper(stream, encoding="utf-8") as text:
                for line in text:
                    number += 1
                    yield line
    except UnicodeDecodeError as error:
        # Text is decoded some lines ahead of the one that is read.
        number += len((error.object[: error.start] + b"?").splitlines())
        strange = error.object[error.start]
        raise InputError(f"{path}, line {number}: expected UTF-8 text, got the byte {strange:#04x}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}, after line {number}: expected a whole gzip file: {error}") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; expected a text file, plain or gzipped"
        ) from None


def lines_together(paths: Sequence[str | Path]) -> Iterator[tuple[str, ...]]:
    """Yield the first lines of several files, then the second lines, until one file ends; that is told if others go on.

    Args:
        paths: The files.
    """
    for number, texts in enumerate(zip_longest(*map(lines, paths)), 1):
        if None in texts:
            short = paths[texts.index(None)]
            logger.warning("%s ends after line %d, other files go on; the rest of them is not read", short, number - 1)
            return
        yield texts


@dataclass(frozen=True)
class Row:
    """One line of a file, cut into columns.

    Attributes:
        path: The file.
        line: Number of the line, counted from 1.
        columns: The texts of the line.
    """

    path: str | Path
    line: int
    columns: list[str]

    def text(self, column: int, meaning: str) -> str:
        """Return the text of a column.

        Args:
            column: Its place, counted from 0.
            meaning: What the column holds, for errors.

        Raises:
            InputError: If the line is too short.
        """
        try:
            return self.columns[column]
        except IndexError:
            raise InputError(
                f"{self.path}, line {self.line}: expected the {meaning} in column {column}, counted from 0; the line "
                f"has {len(self.columns)} columns"
            ) from None

    def number(self, column: int, meaning: str) -> float:
        """Return the number in a column; raises :class:`~fourfold.errors.InputError` if there is none."""
        text = self.text(column, meaning)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(
                f"{self.path}, line {self.line}: expected a number as the {meaning}, in column {column}, got {text!r}; "
                "a header is to be removed, and a delimiter or columns of another kind are arguments of the reader"
            )
        return number


def rows(path: str | Path, *, delimiter: str, quoting: int) -> Iterator[Row]:
    """Yield the rows of a delimited file.

    Args:
        path: The file, plain or gzipped.
        delimiter: What stands between columns.
        quoting: One of the constants of the ``csv`` module.

    Raises:
        InputError: If the file cannot be read.
    """
    reader = csv.reader(lines(path), delimiter=delimiter, quoting=cast(Any, quoting))
    while True:
        try:
            columns = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: expected delimited columns: {error}") from None
        if columns is None:
            return
        yield Row(path, reader.line_num, columns)


def split_rows(path: str | Path, *, separator: str) -> Iterator[Row]:
    """Yield the lines of a file, without the whitespace around them, cut at each separator; quotes mean nothing."""
    for number, line in enumerate(lines(path), 1):
        yield Row(path, number, line.strip().split(separator))


def at_most(items: Iterable[_Item], most: int | None) -> Iterator[_Item]:
    """Yield the first items; 0, less or None is no limit.

    >>> list(at_most("abc", 2)), list(at_most("abc", 0))
    (['a', 'b'], ['a', 'b', 'c'])
    """
    return islice(items, most if most is not None and most > 0 else None)
