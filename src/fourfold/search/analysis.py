"""Text to index terms: words, without stop words, reduced to their stems."""

from __future__ import annotations

import re
from functools import lru_cache

import Stemmer

VERSION = 1
"""Part of every index; raised when the same text would give other terms."""

# The list of Lucene and bm25s.
STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "  # noqa: SIM905
    "to was will with".split()
)

words = re.compile(r"\w\w+").findall
"""Every word of a text as it stands there; one-letter words say too little."""

_stem = Stemmer.Stemmer("english").stemWord
_PARTS = re.compile(r"[^\W\d_]+?(?=[A-Z][a-z]{2})|[a-z]+(?=[A-Z])|[^\W_]+")
_JOINED = re.compile(r"[^_]_+[^_]|[a-z][A-Z]|[A-Z]{2}[a-z]{2}")


@lru_cache(maxsize=1 << 16)
def terms_of(word: str) -> tuple[str, ...]:
    """Return the terms of one word; an identifier is found by its whole and by its parts.

    >>> terms_of("Running"), terms_of("the"), terms_of("read_csv")
    (('run',), (), ('read_csv', 'read', 'csv'))
    """
    lower = word.strip("_").lower()
    if len(lower) < 2 or lower in STOP_WORDS:
        return ()
    whole = _stem(lower)
    if not _JOINED.search(word):
        return (whole,)
    parts = [_stem(part.lower()) for part in _PARTS.findall(word) if len(part) > 1 and part.lower() not in STOP_WORDS]
    return (whole, *(part for part in parts if part != whole))


def terms(text: str) -> list[str]:
    """Return the terms of ``text`` in order, repetitions included.

    >>> terms("The runner was running to the runners.")
    ['runner', 'run', 'runner']
    """
    return [term for word in words(text) for term in terms_of(word)]
