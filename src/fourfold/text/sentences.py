"""Where sentences end, by marks and a list of abbreviations; no model, no language needed."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BOUNDARY = re.compile(
    r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W_a-z])"  # a mark, then what can begin a sentence
    r"|(?<=[。！？])"  # no space follows these
    r"|\n(?=[ \t]*(?:[-*+•]|\d+[.)])[ \t])"  # an item of a list
)
_ABBREVIATIONS = set(
    "mr mrs ms dr prof rev gen sen rep st sr jr vs fig figs no nos vol pp p ed eds al ca cf dept approx est inc ltd co "  # noqa: SIM905
    "corp e.g i.e viz resp eq sec ch ref refs u.s u.k ph.d".split()
)
_LAST_WORD = re.compile(r"([^\s(\[\"'“‘]+)\.[\"'”’)\]]*\s*$")


def sentences(text: str) -> Iterator[str]:
    """Cut ``text`` at the ends of sentences; the pieces joined are ``text`` again.

    >>> list(sentences("Dr. Who left. Did he? Yes."))
    ['Dr. Who left. ', 'Did he? ', 'Yes.']
    """
    start = 0
    for match in _BOUNDARY.finditer(text):
        stop = match.end()
        word = _LAST_WORD.search(text, max(start, stop - 40), stop)
        if word and (word[1].lower() in _ABBREVIATIONS or (len(word[1]) == 1 and word[1].isalpha() and word[1] != "I")):
            continue
        if stop > start:
            yield text[start:stop]
            start = stop
    if start < len(text):
        yield text[start:]
