"""Pieces of markdown that model cards are made of."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any


def code(text: str, language: str = "") -> str:
    """Return a block of code."""
    return f"```{language}\n{text.strip()}\n```"


def json_code(value: Any, indent: str = "") -> str:
    """Return a value as a block of JSON, each line indented."""
    block = code(json.dumps(value, indent=4, default=str), "json")
    return "\n".join(indent + line for line in block.splitlines())


def bullets(values: dict[str, Any]) -> str:
    """Return names in code type and their values, a line each."""
    return "\n".join(f"- `{name}`: {value}" for name, value in values.items())


def folded(text: str) -> str:
    """Return a text that a reader unfolds."""
    return f"<details><summary>Click to expand</summary>\n\n{text}\n\n</details>"


def number(value: Any) -> str:
    """Return a value as a cell: numbers with at most four decimals, nothing as a dash.

    >>> number(0.123456), number(3), number(None)
    ('0.1235', '3', '-')
    """
    if value is None:
        return "-"
    return str(round(value, 4)) if isinstance(value, float) else str(value)


def cell(value: Any, longest: int = 1000) -> str:
    """Return a sample as the code of a cell: cut, on one line, and without what would end the cell.

    >>> cell("a <b>")
    '<code>a &lt;b&gt;</code>'
    """
    text = str(value)
    text = text if len(text) <= longest else f"{text[:longest]}..."
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")
    return f"<code>{text.replace(chr(13), '').replace(chr(10), '<br>')}</code>"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    bold: Collection[int] = (),
    centred: bool = False,
    indent: str = "",
) -> str:
    """Return a table whose columns are padded to their widest cell.

    Args:
        header: Names of the columns.
        rows: Cells; each is shown as :func:`number` says.
        bold: Positions of the rows to set in bold.
        centred: Whether columns are centred rather than set to the left.
        indent: Put before each line.
    """
    cells = [[number(value) for value in row] for row in rows]
    cells = [[f"**{text}**" for text in row] if i in bold else row for i, row in enumerate(cells)]
    widths = [max(3, *(len(row[i]) for row in (list(header), *cells))) for i in range(len(header))]
    rule = [":" + "-" * (width + (0 if centred else 1)) + (":" if centred else "") for width in widths]
    lines = [_row(header, widths), f"|{'|'.join(rule)}|", *(_row(row, widths) for row in cells)]
    return "\n".join(indent + line for line in lines)


def _row(texts: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)) + " |"
