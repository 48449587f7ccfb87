"""Plain text and reStructuredText: paragraphs, and titles underlined with a row of marks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fourfold.search.readers._base import Block, Outline, lines

SUFFIXES = (".txt", ".text", ".rst", ".log", "")

_UNDERLINE = re.compile(r"([=\-~*^\"'`#+.:_])\1{2,}\s*$")
_PARAGRAPH_LIMIT = 400  # lines; a log without blank lines still streams


def read(path: Path) -> Iterator[Block]:
    """Yield the paragraphs of a text file."""
    outline, levels = Outline(), dict[str, int]()
    paragraph: list[str] = []
    first = 1
    for number, line in lines(path):
        mark = underline(paragraph, line)
        if mark:
            # As in reStructuredText, the first kind of underline met is the highest level.
            orphan = outline.enter(levels.setdefault(mark, len(levels) + 1), paragraph.pop().strip(), first)
            if orphan:
                yield orphan
        elif line.strip() and len(paragraph) < _PARAGRAPH_LIMIT and not (not paragraph and _UNDERLINE.match(line)):
            first = first if paragraph else number
            paragraph.append(line)
        elif paragraph:
            yield outline.block(first, "\n".join(paragraph))
            paragraph, first = ([line], number) if line.strip() else ([], number)
    if paragraph:
        yield outline.block(first, "\n".join(paragraph))
    if orphan := outline.close():
        yield orphan


def underline(paragraph: list[str], line: str) -> str:
    """Return the mark of an underline below a one-line paragraph, else an empty string."""
    if len(paragraph) != 1 or not _UNDERLINE.match(line):
        return ""
    title = paragraph[0].strip()
    return line[0] if len(title) <= min(100, len(line.strip()) + 2) else ""
