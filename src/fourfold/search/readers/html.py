"""HTML: the visible text by block element, under the page's headings; scripts and styles are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from fourfold.search.readers._base import Block, Outline, lines

SUFFIXES = (".html", ".htm", ".xhtml")

_SILENT = {"script", "style", "template", "svg", "math", "object"}
_INLINE = set(
    "a abbr b bdi bdo big br button cite code data del dfn em font i img input ins kbd label mark meter q s samp "  # noqa: SIM905
    "small span strike strong sub sup time tt u var wbr".split()
)
_SPACES = re.compile(r"[^\S\n]+")


def read(path: Path) -> Iterator[Block]:
    """Yield the text of each block element."""
    page = _Page()
    for number, line in lines(path):
        # A piece of an endless line has the number of the one before it, and no line break after it.
        page.feed(("\n" * (number - page.fed) if number > page.fed else "") + line)
        page.fed = number
        yield from page.take()
    page.close()
    page.end_block()
    yield from page.take()
    if orphan := page.outline.close():
        yield orphan


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.fed = 1
        self.outline = Outline()
        self._done: list[Block] = []
        self._silent = self._verbatim = 0
        self._text = ""
        self._first = self._last = 1

    def take(self) -> list[Block]:
        done, self._done = self._done, []
        return done

    def end_block(self, heading: int | None = None) -> None:
        text = self._text if self._verbatim else _SPACES.sub(" ", self._text)
        self._text = ""
        body = text.strip()
        if not body:
            return
        first = self._first + text[: len(text) - len(text.lstrip())].count("\n")
        if heading is None:
            self._done.append(self.outline.block(first, body, "code" if self._verbatim else "prose"))
        elif orphan := self.outline.enter(heading, " ".join(body.split()), first):
            self._done.append(orphan)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag in _SILENT:
            self._silent += 1
        elif tag == "br":
            self._text += " " * bool(self._text)
        elif tag not in _INLINE:
            self.end_block()
            self._verbatim += tag == "pre"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SILENT and tag != "pre":
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == "title":
            self.end_block(heading=0)
        elif len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
            self.end_block(heading=int(tag[1]))
        elif tag not in _INLINE:
            self.end_block()
            self._verbatim = max(0, self._verbatim - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        line = self.getpos()[0]
        if not self._text:
            self._first = self._last = line
        # Line breaks inside tags are text lines too: keep the count true.
        self._text += "\n" * (line - self._last) + data
        self._last = line + data.count("\n")
