"""One feature a word: how often it occurs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from fourfold.modules._base import Features, InputModule
from fourfold.modules.tokenizer._base import check_vocab
from fourfold.modules.tokenizer.whitespace_tokenizer import WhitespaceTokenizer
from fourfold.modules.word_weights import weights_by_id
from fourfold.text.inputs import check_single_texts
from fourfold.text.prompts import prepend


class BoW(InputModule):
    """Count the words of a text, each times its weight: the bag of words.

    Args:
        vocab: The words, one feature each; of a word that occurs twice the first place counts.
        word_weights: Weight of each word, as it is written or in lower case, such as its inverse document frequency.
        unknown_word_weight: Weight of the words that ``word_weights`` does not hold.
        cumulative_term_frequency: Whether each occurrence adds the weight; otherwise a word counts once.

    Raises:
        InputError: If the vocabulary holds anything but words, or a weight is no number.

    >>> bow = BoW(["fox", "dog"], {"dog": 0.5})
    >>> bow.preprocess(["a dog, another dog and a Fox"])["sentence_embedding"]
    tensor([[1., 1.]])
    """

    config_keys: ClassVar[list[str]] = ["vocab", "word_weights", "unknown_word_weight", "cumulative_term_frequency"]
    save_in_root: ClassVar[bool] = False

    def __init__(
        self,
        vocab: Iterable[str],
        word_weights: Mapping[str, float] | None = None,
        unknown_word_weight: float = 1,
        cumulative_term_frequency: bool = True,
    ) -> None:
        super().__init__()
        self.vocab = list(dict.fromkeys(check_vocab(vocab)))
        self.word_weights = {} if word_weights is None else word_weights
        self.unknown_word_weight = unknown_word_weight
        self.cumulative_term_frequency = cumulative_term_frequency
        self.weights = weights_by_id(self.vocab, self.word_weights, unknown_word_weight)
        self._weights = torch.tensor(self.weights)
        self.tokenizer = WhitespaceTokenizer(self.vocab, stop_words=())

    @classmethod
    def example(cls) -> BoW:
        """Return a tiny instance for tests."""
        return cls(["a", "b", "c"], {"a": 0.5}, 2.0)

    @property
    def sentence_embedding_dimension(self) -> int:
        """Number of words."""
        return len(self.vocab)

    def get_embedding_dimension(self) -> int:
        """Return the number of words."""
        return len(self.vocab)

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn texts into ``sentence_embedding``, float32 ``[rows, words]``."""
        texts = check_single_texts(prepend(prompt, inputs), "BoW")
        return self.get_sentence_features([self.tokenizer.tokenize(text) for text in texts])

    def get_sentence_features(self, tokenized_texts: Sequence[Sequence[int]], pad_seq_length: int = 0) -> Features:
        """Return ``sentence_embedding``, float32 ``[rows, words]``, of texts given by the ids of their words.

        Args:
            tokenized_texts: Ids of each text's words.
            pad_seq_length: Not used: nothing is padded.
        """
        ids = torch.tensor([number for text in tokenized_texts for number in text], dtype=torch.int64)
        rows = torch.repeat_interleave(torch.tensor([len(text) for text in tokenized_texts], dtype=torch.int64))
        vectors = torch.zeros(len(tokenized_texts), len(self.vocab))
        weights = self._weights[ids]
        return {"sentence_embedding": vectors.index_put_((rows, ids), weights, self.cumulative_term_frequency)}

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Return the features: :meth:`preprocess` has made the vectors."""
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings."""
        self.save_config(output_path)
