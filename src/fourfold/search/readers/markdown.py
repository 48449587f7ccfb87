"""Markdown: both kinds of heading, paragraphs, and fenced code kept whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fourfold.search.readers._base import Block, Outline, lines

SUFFIXES = (".md", ".markdown", ".mdx", ".qmd", ".rmd")

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^`]*)$")
_PARAGRAPH_LIMIT = 400


def read(path: Path) -> Iterator[Block]:
    """Yield paragraphs and fenced code under their headings."""
    page = _Page()
    for number, line in lines(path):
        yield from filter(None, page.take(number, line))
    yield from filter(None, [page.end_block(), page.outline.close()])


class _Page:
    """The lines held back until their block ends."""

    def __init__(self) -> None:
        self.outline = Outline()
        self._held: list[str] = []
        self._first = 1
        self._fence = ""

    def end_block(self) -> Block | None:
        held, self._held = self._held, []
        if not any(map(str.strip, held)):
            return None
        return self.outline.block(self._first, "\n".join(held), "code" if self._fence else "prose")

    def take(self, number: int, line: str) -> Iterator[Block | None]:
        if self._fence:
            if line.strip().startswith(self._fence) and not line.strip().strip(self._fence[0]):
                yield self.end_block()
                self._fence = ""
            else:
                self._held.append(line)
        elif len(self._held) == 1 and (setext := _SETEXT.match(line)):
            title = self._held.pop().strip()
            yield self.outline.enter(1 if setext[1][0] == "=" else 2, title, self._first)
        elif opening := _FENCE.match(line):
            yield self.end_block()
            self._fence, self._first = opening[1], number + 1
        elif heading := _HEADING.match(line):
            yield self.end_block()
            yield self.outline.enter(len(heading[1]), (heading[2] or "").strip(), number)
        else:
            if not line.strip() or len(self._held) >= _PARAGRAPH_LIMIT:
                yield self.end_block()
            if line.strip():
                self._first = self._first if self._held else number
                self._held.append(line)
