"""Tokenizers of models that are made of words, one a file, found by :data:`registry`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fourfold.registry import Registry

if TYPE_CHECKING:
    from fourfold.modules.tokenizer._base import ENGLISH_STOP_WORDS as ENGLISH_STOP_WORDS
    from fourfold.modules.tokenizer._base import WordTokenizer as WordTokenizer
    from fourfold.modules.tokenizer.phrase_tokenizer import PhraseTokenizer as PhraseTokenizer
    from fourfold.modules.tokenizer.transformers_tokenizer_wrapper import (
        TransformersTokenizerWrapper as TransformersTokenizerWrapper,
    )
    from fourfold.modules.tokenizer.whitespace_tokenizer import WhitespaceTokenizer as WhitespaceTokenizer

registry = Registry("fourfold.modules.tokenizer", "word tokenizer")


def __getattr__(name: str) -> Any:
    if name in ("WordTokenizer", "ENGLISH_STOP_WORDS"):
        from fourfold.modules.tokenizer import _base

        return getattr(_base, name)
    if name[:1].isupper() and name in registry and (part := registry.get(name)).__name__ == name:
        return part
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
