"""Turn the logits of a masked language model into one weight for each word of the vocabulary."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch

from fourfold.errors import InputError, did_you_mean
from fourfold.modules._base import Features, Module, needed
from fourfold.modules._segments import segments_of
from fourfold.notices import renamed_keywords
from fourfold.ops import splade
from fourfold.ops.splade import VocabularyLogits

logger = logging.getLogger(__name__)


class SpladePooling(Module):
    """Pool logits in ``token_embeddings`` into ``sentence_embedding`` (SPLADE; Formal et al. 2021, arXiv:2109.10086).

    Args:
        pooling_strategy: ``max``, ``sum`` or ``mean`` of a text's tokens.
        activation_function: Of each logit: ``relu`` is log(1 + relu), ``log1p_relu`` the logarithm of that once more,
            ``identity`` leaves it.
        embedding_dimension: Size of the vocabulary; None is found out at the first forward.
        chunk_size: Most tokens whose activations are held at a time where whole logits are summed; None, or less than
            1, is no limit. Packed texts need none: their logits are never held.

    Raises:
        InputError: If a strategy or activation is unknown, or a dimension below 1.
    """

    config_keys: ClassVar[list[str]] = ["pooling_strategy", "activation_function", "embedding_dimension"]
    config_key_renames: ClassVar[dict[str, str]] = {"word_embedding_dimension": "embedding_dimension"}
    packed = True

    @renamed_keywords(word_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        pooling_strategy: str = "max",
        activation_function: str = "relu",
        embedding_dimension: int | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        _check("pooling_strategy", pooling_strategy, splade.STRATEGIES)
        _check("activation_function", activation_function, tuple(splade.ACTIVATIONS))
        if isinstance(embedding_dimension, bool) or (embedding_dimension is not None and embedding_dimension < 1):
            raise InputError(f"embedding_dimension must be at least 1, or None; got {embedding_dimension!r}")
        self.pooling_strategy = pooling_strategy
        self.activation_function = activation_function
        self.embedding_dimension = embedding_dimension
        self.chunk_size = chunk_size

    @classmethod
    def example(cls) -> SpladePooling:
        """Return a tiny instance for tests."""
        return cls("sum", "log1p_relu")

    def get_embedding_dimension(self) -> int | None:
        """Return the size of the vocabulary; None before it is known."""
        return self.embedding_dimension

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Pool ``token_embeddings``, logits ``[rows, longest, words]`` with a mask or packed ``[1, tokens, words]``."""
        logits = features.get("token_embeddings")
        how = {"strategy": self.pooling_strategy, "activation": self.activation_function}
        try:
            if isinstance(logits, VocabularyLogits):
                segments = segments_of(features, logits.states)
                flat = VocabularyLogits(logits.states.flatten(0, -2), logits.weight, logits.bias)
                pooled = splade.pool_states(flat, segments, **how)
            else:
                logits = needed(features, "token_embeddings", self)
                segments = segments_of(features, logits)
                pooled = splade.pool(logits.flatten(0, -2), segments, **how, chunk_size=self.chunk_size)
        except torch.OutOfMemoryError:
            logger.warning("SPLADE pooling ran out of memory; a smaller batch_size or chunk_size needs less")
            raise
        features["sentence_embedding"] = pooled
        self.embedding_dimension = pooled.shape[-1]
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings."""
        self.save_config(output_path)


def _check(name: str, got: Any, known: tuple[str, ...]) -> None:
    if got not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}; got {got!r}.{did_you_mean(got, known)}")
