"""How a passage is shown: the part of it that answers, and which of its words were found."""

from __future__ import annotations

import re
import textwrap

from fourfold.search import analysis
from fourfold.text.sentences import sentences


def found_words(text: str, question: str) -> list[tuple[int, int]]:
    """Return where words of ``text`` stand that share a stem with the question.

    >>> found_words("He runs.", "running")
    [(3, 7)]
    """
    wanted = set(analysis.terms(question))
    spans = (match.span() for match in re.finditer(r"\w\w+", text))
    return [span for span in spans if not wanted.isdisjoint(analysis.terms_of(text[slice(*span)]))]


def excerpt(text: str, question: str, limit: int = 60) -> str:
    """Return the run of sentences, up to ``limit`` words, that holds most distinct words of the question.

    The indent that all its lines share is left out.
    """
    text = textwrap.dedent(text)
    if len(text.split()) <= limit:
        return text
    pieces = [piece for sentence in sentences(text) for piece in re.findall(r"[^\n]*\n|[^\n]+", sentence)]
    sizes = [len(piece.split()) for piece in pieces]
    stems = [set(analysis.terms(piece)) & set(analysis.terms(question)) for piece in pieces]
    best, chosen = -1.0, (0, 1)
    for start in range(len(pieces)):
        stop, size, seen = start, 0, set[str]()
        while stop < len(pieces) and (stop == start or size + sizes[stop] <= limit):
            size, seen, stop = size + sizes[stop], seen | stems[stop], stop + 1
        # Among equals the window that begins with a found word, then the earliest.
        value = len(seen) + 0.5 * bool(stems[start])
        if value > best:
            best, chosen = value, (start, stop)
    start, stop = chosen
    shown = textwrap.dedent("".join(pieces[start:stop]).strip("\n").rstrip())
    return f"{'… ' if start else ''}{shown}{' …' if stop < len(pieces) else ''}"
