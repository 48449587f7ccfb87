"""Lay out text in columns of a terminal, where a Chinese character is two columns wide and an accent none."""

from __future__ import annotations

import unicodedata


def width(text: str) -> int:
    """Return how many columns a terminal gives to ``text``."""
    return sum(_columns(character) for character in text)


def fit(text: str, columns: int, *, right: bool = False) -> str:
    """Return ``text`` on one line, padded or cut with an ellipsis to exactly ``columns``.

    >>> fit("a long sentence", 8), fit("mat", 5, right=True)
    ('a long …', '  mat')
    """
    text = one_line(text)
    if width(text) > columns:
        text = _cut(text, columns - 1) + "…"
    padding = " " * (columns - width(text))
    return padding + text if right else text + padding


def one_line(text: str) -> str:
    """Return ``text`` with runs of white space as one space, and without characters that would move the cursor."""
    return " ".join("".join(c for c in text if c.isspace() or unicodedata.category(c) != "Cc").split())


def _cut(text: str, columns: int) -> str:
    used = 0
    for position, character in enumerate(text):
        used += _columns(character)
        if used > columns:
            return text[:position]
    return text


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
