"""Blocks to passages: joined under a heading, cut at sentences, 120 to 180 words each, no word lost or doubled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fourfold.search.readers._base import Block
from fourfold.text.sentences import sentences

ENOUGH = 120
"""A passage this long, in words, ends at the next paragraph."""
LIMIT = 180
"""No passage is longer, in words (eight characters count as a word where words are longer, as in tables or Chinese)."""

_BLANK_LINES = re.compile(r"\A\s*\n")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True)
class Passage:
    """What one search result shows: a text, its heading, and the line of its first character."""

    line: int
    text: str
    heading: str = ""


def size_of(text: str) -> int:
    """Return the length in words."""
    return max(len(text.split()), len(text) // 8)


def split(blocks: Iterable[Block]) -> Iterator[Passage]:
    """Turn the blocks of one file into passages."""
    held: list[str] = []
    size, line, heading = 0, 1, ""

    def passage() -> Iterator[Passage]:
        text = "".join(held)
        body = _BLANK_LINES.sub("", text)
        if body.strip():
            # The first line keeps its indent: in code it carries meaning.
            yield Passage(line + text[: len(text) - len(body)].count("\n"), body.rstrip(), heading)

    for block in blocks:
        if held and (block.heading != heading or block.kind == "record" or size >= ENOUGH):
            yield from passage()
            held, size = [], 0
        if held:
            # Blank lines, as many as lie between in the file, so that lines can be counted inside the passage too.
            held.append("\n" * max(1, block.line - line - "".join(held).count("\n")))
        at = block.line
        whole = size_of(block.text)
        # Most paragraphs fit as they are and need not be looked at sentence by sentence.
        pieces = (
            [(block.text, whole)] if size + whole <= LIMIT else ((piece, size_of(piece)) for piece in _pieces(block))
        )
        for piece, more in pieces:
            if held and size + more > LIMIT:
                yield from passage()
                held, size = [], 0
            if not held:
                line, heading = at, block.heading
            held.append(piece)
            size += more
            at += piece.count("\n")
        if block.kind == "record":
            yield from passage()
            held, size = [], 0
    if held:
        yield from passage()


def _pieces(block: Block) -> Iterator[str]:
    """Cut a block into sentences, or lines of code, none above the limit."""
    units = _LINE.findall(block.text) if block.kind == "code" else sentences(block.text)
    for unit in units:
        if size_of(unit) <= LIMIT:
            yield unit
            continue
        # A table or a text without marks is cut between lines, an endless line between words.
        for line in _LINE.findall(unit):
            yield from [line] if size_of(line) <= LIMIT else _word_runs(line)


def _word_runs(line: str) -> Iterator[str]:
    piece, size = "", 0
    for word in re.findall(r"\s*\S{1,1024}\s*|\s+", line):
        more = size_of(word)
        if piece and size + more > LIMIT:
            yield piece
            piece, size = "", 0
        piece += word
        size += more
    yield piece
