"""The contract of a word tokenizer: one text to the ids of its words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fourfold.containers import Tokens
from fourfold.errors import InputError, MissingFileError
from fourfold.modules._settings import construct
from fourfold.store.files import write_json
from fourfold.store.source import Source
from fourfold.text.inputs import short

ENGLISH_STOP_WORDS: list[str] = Path(__file__).with_name("stop_words.txt").read_text(encoding="utf-8").splitlines()
"""Punctuation and frequent English words, which word tokenizers leave out unless told otherwise."""


class WordTokenizer(ABC):
    """Turns a text into ids; a word without an id is left out."""

    @abstractmethod
    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Take the words, each with its place as its id."""

    @abstractmethod
    def get_vocab(self) -> Any:
        """Return the words."""

    @abstractmethod
    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        """Return the ids of a text."""

    @abstractmethod
    def save(self, output_path: str) -> None:
        """Write the tokenizer's files into a folder."""

    @staticmethod
    @abstractmethod
    def load(input_path: str) -> Any:
        """Read a tokenizer from its folder."""

    def pack(self, texts: Sequence[str], max_length: int | None = None) -> Tokens:
        """Return the packed ids of texts, at most ``max_length`` of each."""
        return Tokens.of([self.tokenize(text)[:max_length] for text in texts])

    @classmethod
    def from_source(cls, source: Source, *, trust_remote_code: bool = False) -> WordTokenizer:
        """Read a tokenizer from a module's folder, on this machine or on the hub.

        Raises:
            MissingFileError: If there is no such folder.
        """
        folder = source.folder()
        if folder is None:
            raise MissingFileError(f"{source.pretty()} is missing; the model folder is incomplete")
        return cls.load(str(folder))


def check_vocab(words: Iterable[str], argument: str = "vocab") -> list[str]:
    """Return words as a list; raises :class:`~fourfold.errors.InputError` if there is anything but words."""
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise InputError(f"{argument} must be a list of words, got {short(words)}")
    found = list(words)
    for place, word in enumerate(found):
        if not isinstance(word, str):
            raise InputError(f"{argument} must be a list of words, got {short(word)} at position {place}")
    return found


class VocabularyTokenizer(WordTokenizer):
    """A tokenizer that is its vocabulary and a few settings, saved as one JSON file.

    Args:
        vocab: Words by id. Of a word that occurs twice the later place counts.
        stop_words: Words that are left out.
        do_lower_case: Whether texts are lower-cased first.
    """

    config_file_name: ClassVar[str]
    config_keys: ClassVar[tuple[str, ...]] = ("vocab", "stop_words", "do_lower_case")

    def __init__(
        self,
        vocab: Iterable[str] = (),
        stop_words: Iterable[str] = ENGLISH_STOP_WORDS,
        do_lower_case: bool = False,
    ) -> None:
        self.stop_words = set(check_vocab(stop_words, "stop_words"))
        self.do_lower_case = do_lower_case
        self.set_vocab(vocab)

    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Take the words, each with its place as its id."""
        self.vocab = check_vocab(vocab)
        self.word2idx = {word: place for place, word in enumerate(self.vocab)}

    def get_vocab(self) -> list[str]:
        """Return the words by id."""
        return self.vocab

    def first_known(self, *forms: str) -> int | None:
        """Return the id of a word by the first of its forms that is a stop word, which has none, or has an id."""
        for form in forms:
            if form in self.stop_words:
                return None
            if form in self.word2idx:
                return self.word2idx[form]
        return None

    def save(self, output_path: str) -> None:
        """Write the settings and the vocabulary as one JSON file."""
        config = {key: getattr(self, key) for key in self.config_keys} | {"stop_words": sorted(self.stop_words)}
        write_json(Path(output_path, self.config_file_name), config, indent=None)

    @classmethod
    def load(cls, input_path: str) -> Any:
        """Read a tokenizer from its folder."""
        return cls.from_source(Source(input_path))

    @classmethod
    def from_source(cls, source: Source, *, trust_remote_code: bool = False) -> WordTokenizer:
        """Read a tokenizer from a module's folder; only its own file is asked for."""
        source.need(cls.config_file_name)
        return construct(cls, source.object(cls.config_file_name), source.pretty(cls.config_file_name))
