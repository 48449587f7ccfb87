"""CSV and TSV: one record a row, each value after its column's name."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from fourfold.search.readers._base import Block, encoding_of

SUFFIXES = (".csv", ".tsv", ".tab")


def read(path: Path) -> Iterator[Block]:
    """Yield one record a row."""
    with path.open(encoding=encoding_of(path), errors="fourfold.windows_1252", newline="") as file:
        head = file.read(4096).split("\n", 1)[0]
        file.seek(0)
        delimiter = "\t" if path.suffix.lower() != ".csv" else max(",;\t|", key=head.count)
        rows = csv.reader((line.replace("\0", " ") for line in file), delimiter=delimiter)
        columns: list[str] | None = None
        line = 1
        while (row := _next(rows)) is not None:
            start, line = line, rows.line_num + 1
            if columns is None and _is_header(row):
                columns = row
                continue
            columns = columns or []
            names = columns + [""] * (len(row) - len(columns))
            # A quoted value may span lines; one line a value keeps the shown text tidy.
            values = [(name.strip(), " ".join(value.split())) for name, value in zip(names, row, strict=False)]
            text = "\n".join(f"{name}: {value}" if name else value for name, value in values if value)
            if text:
                yield Block(start, text, kind="record")


def _next(rows: Iterator[list[str]]) -> list[str] | None:
    """Return the next row that can be read; a value beyond the csv module's limit is passed over."""
    while True:
        try:
            return next(rows, None)
        except csv.Error:
            continue


def _is_header(row: list[str]) -> bool:
    """Tell whether a first row holds names: short, distinct, filled and no numbers."""
    names = [value.strip() for value in row]
    numeric = any(name.replace(".", "", 1).replace("-", "", 1).isdigit() for name in names)
    return all(0 < len(name) <= 40 for name in names) and len(set(names)) == len(names) and not numeric
