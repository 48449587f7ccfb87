"""Tokenise many texts by looking words up: in a corpus nearly every word has been seen before.

A tokenizer that never looks across white space and punctuation gives a text the ids of its words, one after another.
Then each distinct word is tokenised once, and the rest is a look-up, several times faster than tokenising.
"""

from __future__ import annotations

import re
import string
import threading
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from tokenizers import AddedToken, Tokenizer

from fourfold.containers import Tokens
from fourfold.text.tokenizer import FastTokenizer

# BertNormalizer keeps this white space, and BertPreTokenizer parts all ASCII punctuation. Other white space,
# punctuation and control characters may stay inside a piece: the tokenizer itself sees to them.
_SPACE, _PUNCTUATION = r" \t\n\r", re.escape(string.punctuation)
# More distinct words than this are forgotten together: a corpus of random strings must not fill the memory.
_MOST_WORDS = 1 << 19


def looks_at_words_alone(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer is of the kind of BERT's, where white space and punctuation always part tokens."""
    parts = [type(part).__name__ for part in (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model)]
    added = tokenizer.get_added_tokens_decoder().values()
    return parts == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and all(map(_stays_within_words, added))


def _stays_within_words(token: AddedToken) -> bool:
    """Whether an added token is found where texts are cut into words: it begins at a cut, or lies within a word."""
    if token.lstrip or token.rstrip or token.single_word or token.normalized or re.search(r"\s", token.content):
        return False
    return token.content[0] in string.punctuation or not set(token.content) & set(string.punctuation)


def _words_of(tokenizer: Tokenizer) -> Callable[[str], list[str]]:
    """Return the function that cuts a text: added tokens, single punctuation marks, and what stands between them."""
    added = [re.escape(token.content) for token in tokenizer.get_added_tokens_decoder().values()]
    pieces = [*sorted(added, key=len, reverse=True), f"[{_PUNCTUATION}]", f"[^{_SPACE}{_PUNCTUATION}]+"]
    return re.compile("|".join(pieces)).findall


class WordCache:
    """Token ids of texts through those of their words.

    Args:
        tokenizer: Adds no special tokens.
        base: What it was made from, which :func:`looks_at_words_alone`.
    """

    def __init__(self, tokenizer: FastTokenizer, base: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._words = _words_of(base)
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._number: dict[str, int] = {}
        self._ids = Tokens.of([])

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Return the packed token ids of texts, exactly as the tokenizer itself gives them."""
        words = [self._words(text) for text in texts]
        with self._lock:
            if len(self._number) > _MOST_WORDS:
                self._forget()
            self._learn(dict.fromkeys(word for row in words for word in row if word not in self._number))
            number, ids = self._number, self._ids
        rows = np.fromiter(map(number.__getitem__, chain.from_iterable(words)), dtype=np.int64)
        packed = ids.take(rows)
        ends = np.cumsum([0, *map(len, words)])
        return Tokens(packed.ids, packed.offsets[ends])

    def _learn(self, words: dict[str, None]) -> None:
        if not words:
            return
        new = self._tokenizer.encode(list(words))
        known = self._ids
        # A new array instead of a grown one: another thread may be reading the old.
        offsets = np.concatenate([known.offsets, known.offsets[-1] + new.offsets[1:]])
        self._ids = Tokens(np.concatenate([known.ids, new.ids]), offsets)
        self._number.update(zip(words, range(len(self._number), len(self._number) + len(words)), strict=True))
