"""Words, and phrases of several words where the vocabulary has them."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any, ClassVar

from fourfold.errors import require
from fourfold.modules.tokenizer._base import ENGLISH_STOP_WORDS, VocabularyTokenizer


class PhraseTokenizer(VocabularyTokenizer):
    """Split a text into words and punctuation, and join what the vocabulary knows as one phrase, longest first.

    An entry of the vocabulary such as ``new_york`` is a phrase, and joins the words "new York". What is left counts as
    it is, else in lower case, else that without the punctuation around it: the first of these that is a stop word is
    left out, the first that has an id gives it.

    Args:
        vocab: Words and phrases by id.
        stop_words: Words and phrases that are left out.
        do_lower_case: Saved and not used.
        ngram_separator: What joins the words of a phrase.
        max_ngram_length: Most words of a phrase.

    Raises:
        MissingExtraError: If nltk, which splits the texts, is not installed.
    """

    config_file_name: ClassVar[str] = "phrasetokenizer_config.json"
    config_keys: ClassVar[tuple[str, ...]] = (
        *VocabularyTokenizer.config_keys, "ngram_separator", "max_ngram_length",
    )  # fmt: skip

    def __init__(
        self,
        vocab: Iterable[str] = (),
        stop_words: Iterable[str] = ENGLISH_STOP_WORDS,
        do_lower_case: bool = False,
        ngram_separator: str = "_",
        max_ngram_length: int = 5,
    ) -> None:
        require("nltk", "words", "PhraseTokenizer")
        self.ngram_separator = ngram_separator
        self.max_ngram_length = max_ngram_length
        super().__init__(vocab, stop_words, do_lower_case)

    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Take the words and phrases, each with its place as its id."""
        super().set_vocab(vocab)
        separator = self.ngram_separator
        lengths = {
            word: word.count(separator) + 1
            for word in self.vocab
            if separator and separator in word and separator * 2 not in word
        }
        self.ngram_lookup = {word for word, length in lengths.items() if length <= self.max_ngram_length}
        self.ngram_lengths = {lengths[word] for word in self.ngram_lookup}

    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        """Return the ids of a text's words and phrases."""
        from nltk import word_tokenize

        words = word_tokenize(text, preserve_line=True)
        for length in sorted(self.ngram_lengths, reverse=True):
            words = self._joined(words, length)
        ids = []
        for word in words:
            lower = word.lower()
            bare = lower.strip(string.punctuation)
            found = self.first_known(word, lower, bare) if bare else self.first_known(word, lower)
            if found is not None:
                ids.append(found)
        return ids

    def _joined(self, words: list[str], length: int) -> list[str]:
        """Return the words with every phrase of ``length`` words made one, from the left."""
        joined, place = [], 0
        while place < len(words):
            phrase = self.ngram_separator.join(words[place : place + length])
            known = next((form for form in (phrase, phrase.lower()) if form in self.ngram_lookup), None)
            if known is None or place + length > len(words):
                joined.append(words[place])
                place += 1
            else:
                joined.append(known)
                place += length
        return joined
