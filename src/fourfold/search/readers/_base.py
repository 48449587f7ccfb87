"""What every reader shares: the block it yields, how bytes become lines, and the trail of headings."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_LINE_LIMIT = 1 << 16


@dataclass(frozen=True)
class Block:
    """A run of text that a reader found, with the line it starts on.

    Attributes:
        line: One-based line of its first character (for PDF, the page).
        text: The text with its line breaks, so that lines can be counted inside it.
        heading: Where it stands, outermost first: ``"Guide > Install"``.
        kind: ``prose`` may be joined with its neighbours and is cut at sentences; ``code`` is cut at line ends;
            ``record`` stands alone.
    """

    line: int
    text: str
    heading: str = ""
    kind: Literal["prose", "code", "record"] = "prose"


class Unreadable(Exception):
    """A file has no text to read; the message says why."""


def _windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Decode only the bytes that are no UTF-8 as Windows-1252, the usual other encoding of Western text."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("fourfold.windows_1252", _windows_1252)


def encoding_of(path: Path) -> str:
    """Return the encoding of a text file by its first bytes; raises :class:`Unreadable` if they look binary."""
    with path.open("rb") as file:
        head = file.read(8192)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head:
        raise Unreadable("it is not text")
    return "utf-8-sig"


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield ``(line number, text)`` without line ends; an endless line comes in pieces of at most 64 KiB."""
    with path.open(encoding=encoding_of(path), errors="fourfold.windows_1252") as file:
        number, rest = 1, ""
        while piece := file.readline(_LINE_LIMIT):
            ended = piece.endswith("\n")
            # Only a piece as long as the limit goes on; one that is shorter is the last of its file.
            goes_on = not ended and len(piece) == _LINE_LIMIT
            piece = (rest + piece.removesuffix("\n")).replace("\0", " ")
            # Cut before the last word, which may go on in the next piece, unless it is no word at all by its length.
            cut = piece.rfind(" ") + 1 or len(piece) if goes_on else len(piece)
            yield number, piece[:cut]
            rest = piece[cut:]
            number += ended
        if rest:
            yield number, rest


class Outline:
    """The headings above the present line.

    >>> outline = Outline()
    >>> outline.enter(1, "Guide", 1), outline.enter(2, "Install", 3)
    (None, None)
    >>> outline.trail
    'Guide > Install'
    """

    def __init__(self) -> None:
        self._open: list[tuple[int, str, int]] = []
        self._used = True

    @property
    def trail(self) -> str:
        """The open headings, outermost first."""
        return " > ".join(title for _, title, _ in self._open)

    def enter(self, level: int, title: str, line: int) -> Block | None:
        """Open a heading; returns the one before it as a block if it had nothing under it, so that no word is lost."""
        orphan = self.close() if self._open and level <= self._open[-1][0] else None
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        self._open.append((level, title, line))
        self._used = False
        return orphan

    def block(self, line: int, text: str, kind: Literal["prose", "code", "record"] = "prose") -> Block:
        """Return a block that stands under the open headings."""
        self._used = True
        return Block(line, text, self.trail, kind)

    def close(self) -> Block | None:
        """Return the last heading as a block if nothing stood under it."""
        if self._used or not self._open:
            return None
        above, (_, title, line) = self._open[:-1], self._open[-1]
        self._used = True
        return Block(line, title, " > ".join(t for _, t, _ in above), "record")
