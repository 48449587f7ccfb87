"""Texts to token ids, for backends that look up each token and need no special ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fourfold.containers import Tokens
from fourfold.text.inputs import check_texts
from fourfold.text.tokenizer import FastTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from fourfold.text.word_cache import WordCache

# Fewer texts than this repeat too few words for remembering them to pay.
_MANY = 64


class TextBackend:
    """The half of a backend that tokenises.

    Args:
        tokenizer: Texts to ids, without special tokens.
        max_length: Most tokens of a text; None is no limit.
        base: What the tokenizer was made from, to remember the words of many texts where it allows that.
    """

    packed = True

    def __init__(self, tokenizer: FastTokenizer, max_length: int | None = None, base: Tokenizer | None = None) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._base = base

    @property
    def tokenizer(self) -> FastTokenizer:
        """What tells where tokens stand in a text."""
        return self._tokenizer

    @property
    def max_length(self) -> int | None:
        """Tokens after which a text is cut; None is no limit."""
        return self._max_length

    @property
    def best_tokens(self) -> int:
        """Tokens of a batch: 8192 float32 vectors of 256 numbers are 8 MB, which stay in the processor's cache."""
        return 8192

    @cached_property
    def _words(self) -> WordCache | None:
        """The memory of words, made for the first large batch: a single question starts sooner without it."""
        from fourfold.text.word_cache import WordCache, looks_at_words_alone

        usable = self._base is not None and looks_at_words_alone(self._base)
        return WordCache(self._tokenizer, self._base) if self._base is not None and usable else None

    def prepare(self, items: Sequence[Any]) -> Tokens:
        """Tokenise texts."""
        texts = check_texts(items)
        if len(texts) < _MANY or self._words is None or not all(isinstance(text, str) for text in texts):
            return self._tokenizer.encode(texts, self._max_length)
        return self._words.encode(texts).cut(self._max_length, left=self._tokenizer.truncation_side == "left")

    def out_of_memory(self, error: Exception) -> bool:
        """Whether numpy could not allocate."""
        return isinstance(error, MemoryError)
