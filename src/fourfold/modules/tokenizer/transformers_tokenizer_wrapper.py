"""A transformers tokenizer as the tokenizer of word vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fourfold.containers import Tokens
from fourfold.errors import require
from fourfold.modules._processor import load_tokenizer
from fourfold.modules.tokenizer._base import WordTokenizer
from fourfold.store.source import Source
from fourfold.text.tokenizer import FastTokenizer


class TransformersTokenizerWrapper(WordTokenizer):
    """Give the ids of a transformers tokenizer, its special tokens included.

    Args:
        tokenizer: A tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._fast = None if backend is None else FastTokenizer(backend)

    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Do nothing: the tokenizer has its own vocabulary."""

    def get_vocab(self, vocab: Iterable[str] | None = None) -> dict[str, int]:
        """Return the id of each token."""
        return self.tokenizer.get_vocab()

    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        """Return the ids of a text."""
        return self.tokenizer(text, **kwargs)["input_ids"]

    def pack(self, texts: Sequence[str], max_length: int | None = None) -> Tokens:
        """Return the packed ids of texts, at most ``max_length`` of each; the cut may take special tokens."""
        if self._fast is None:
            return super().pack(texts, max_length)
        return self._fast.encode(texts).cut(max_length)

    def save(self, output_path: str) -> None:
        """Write the tokenizer's files."""
        self.tokenizer.save_pretrained(output_path)

    @classmethod
    def load(cls, input_path: str) -> TransformersTokenizerWrapper:
        """Read a tokenizer from its folder."""
        return cls.from_source(Source(input_path))

    @classmethod
    def from_source(cls, source: Source, *, trust_remote_code: bool = False) -> TransformersTokenizerWrapper:
        """Read a tokenizer from a module's folder."""
        require("transformers", "torch", "TransformersTokenizerWrapper")
        return cls(load_tokenizer(source, trust_remote_code=trust_remote_code))
