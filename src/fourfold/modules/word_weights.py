"""A weight for each word, such as its inverse document frequency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from fourfold.errors import InputError
from fourfold.modules._base import Features, Module, WeightedModule, needed
from fourfold.modules._segments import segments_of
from fourfold.modules.tokenizer._base import check_vocab
from fourfold.store.source import Source
from fourfold.store.weights import PICKLE_FILE, SAFETENSORS_FILE, load_into


class WordWeights(WeightedModule):
    """Multiply each token's vector by the weight of its word.

    A :class:`~fourfold.modules.Pooling` after it divides by the sum of the weights instead of the number of tokens.

    Args:
        vocab: Words by id, the vocabulary of the first module's tokenizer.
        word_weights: Weight of each word, as it is written or in lower case.
        unknown_word_weight: Weight of the words that ``word_weights`` does not hold.

    Raises:
        InputError: If the vocabulary holds anything but words, or a weight is no number.
    """

    config_keys: ClassVar[list[str]] = ["vocab", "word_weights", "unknown_word_weight"]
    packed = True

    def __init__(self, vocab: Sequence[str], word_weights: Mapping[str, float], unknown_word_weight: float = 1) -> None:
        super().__init__()
        self.vocab = check_vocab(vocab)
        self.word_weights = word_weights
        self.unknown_word_weight = unknown_word_weight
        weights = weights_by_id(self.vocab, word_weights, unknown_word_weight)
        self.emb_layer = nn.Embedding.from_pretrained(torch.tensor(weights)[:, None], freeze=False)

    @classmethod
    def example(cls) -> WordWeights:
        """Return a tiny instance for tests."""
        return cls(["a", "b", "C", "d"], {"a": 0.5, "c": 2.0}, 0.25)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Scale ``token_embeddings`` by the weights of ``input_ids`` and write each text's ``token_weights_sum``.

        ``token_embeddings`` is ``[rows, longest, width]`` with ``input_ids`` ``[rows, longest]`` and a mask, or packed,
        ``[1, tokens, width]`` with ``[1, tokens]``; what belongs to no text becomes zero. The sum is ``[rows]``.
        """
        tokens = needed(features, "token_embeddings", self)
        segments = segments_of(features, tokens)
        ids = segments.select(needed(features, "input_ids", self).flatten())
        weights = self.emb_layer(ids).squeeze(-1)
        factors = segments.spread(weights, tokens.shape[0] * tokens.shape[1])
        features["token_embeddings"] = tokens * factors.reshape(*tokens.shape[:2], 1)
        features["token_weights_sum"] = weights.new_zeros(segments.rows).index_add(0, segments.row, weights)
        return features

    @classmethod
    def from_source(cls, source: Source, init_defaults: dict[str, Any] | None = None, **options: Any) -> Module:
        """Build the module from its settings; weights that training has changed lie in a file, which may be absent."""
        module = super(WeightedModule, cls).from_source(source, init_defaults, **options)
        if any(source.file(name) for name in (SAFETENSORS_FILE, PICKLE_FILE)):
            load_into(module, source)
        return module


def weights_by_id(vocab: Sequence[str], word_weights: Mapping[str, float], unknown: float) -> list[float]:
    """Return the weight of each word of ``vocab``: its own, else that of its lower-cased form, else ``unknown``.

    Raises:
        InputError: If ``word_weights`` is no mapping, or a weight is no number.
    """
    if not isinstance(word_weights, Mapping):
        raise InputError(f"word_weights must map words to numbers, got {type(word_weights).__name__}")
    found = [word_weights.get(word, word_weights.get(word.lower(), unknown)) for word in vocab]
    for word, weight in zip(vocab, found, strict=True):
        if not isinstance(weight, (int, float)):
            raise InputError(f"the weight of {word!r} must be a number, got {weight!r}")
    return [float(weight) for weight in found]
