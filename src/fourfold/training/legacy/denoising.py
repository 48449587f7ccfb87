"""Texts beside what is left of them after most words have been dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from itertools import compress

import numpy as np
from torch.utils.data import Dataset

from fourfold.errors import require
from fourfold.notices import warn_once
from fourfold.text.example import InputExample

logger = logging.getLogger(__name__)


def delete(text: str, del_ratio: float = 0.6) -> str:
    """Drop each word of a text with the same chance, and keep one at least.

    The global generator of numpy draws. Words and punctuation are told apart by nltk. Where its data for finding
    sentences (``punkt_tab``) is not installed, a text counts as one sentence: a full stop within it then stays with the
    word before it.

    Args:
        text: The text; one without words comes back as it is.
        del_ratio: The chance of each word, from 0, which keeps all, to 1, which keeps one.

    Raises:
        MissingExtraError: If nltk is not installed.

    >>> delete("Two cats, one dog.", del_ratio=0)
    'Two cats, one dog.'
    """
    words = _words(text)
    if not words:
        return text
    from nltk.tokenize.treebank import TreebankWordDetokenizer

    kept = np.random.rand(len(words)) > del_ratio  # noqa: NPY002  a script seeds the global generator
    if not kept.any():
        kept[np.random.choice(len(words))] = True  # noqa: NPY002
    return TreebankWordDetokenizer().detokenize(list(compress(words, kept)))


def _words(text: str) -> list[str]:
    _check_nltk()
    from nltk import word_tokenize

    return word_tokenize(text, preserve_line=not _finds_sentences())


@cache
def _finds_sentences() -> bool:
    """Whether nltk has its data for that; looking for it takes longer than a text does."""
    from nltk import word_tokenize

    try:
        word_tokenize("A text.")
    except LookupError:
        warn_once(
            logger,
            "nltk's data for finding sentences is not installed: a full stop within a text stays with its word; "
            "for the older library's results, run: python -c \"import nltk; nltk.download('punkt_tab')\"",
        )
        return False
    return True


def _check_nltk() -> None:
    require("nltk", "words", "DenoisingAutoEncoderDataset")


class DenoisingAutoEncoderDataset(Dataset[InputExample]):
    """Pairs of a damaged text and the text itself, for a loss that learns to restore it.

    An item is an ``InputExample`` of two texts, ``[damaged, original]``, damaged anew each time.

    Args:
        sentences: The texts.
        noise_fn: Damages a text; :func:`delete`, with its chance of 0.6, by default.

    Raises:
        MissingExtraError: If nltk is not installed.

    >>> DenoisingAutoEncoderDataset(["a text"], noise_fn=str.upper)[0].texts
    ['A TEXT', 'a text']
    """

    def __init__(self, sentences: Sequence[str], noise_fn: Callable[[str], str] = delete) -> None:
        _check_nltk()
        self.sentences = sentences
        self.noise_fn = noise_fn

    def __getitem__(self, index: int) -> InputExample:
        text = self.sentences[index]
        return InputExample(texts=[self.noise_fn(text), text])

    def __len__(self) -> int:
        return len(self.sentences)

    delete = staticmethod(delete)
