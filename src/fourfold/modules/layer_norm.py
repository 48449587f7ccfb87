"""Layer normalisation of the text's vector."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from fourfold.errors import InputError
from fourfold.modules._base import Features, WeightedModule, needed


class LayerNorm(WeightedModule):
    """Bring each vector to mean 0 and variance 1, then scale and shift each feature (Ba 2016, arXiv:1607.06450).

    Args:
        dimension: Width of the vectors.

    Raises:
        InputError: If the width is no positive number.
    """

    config_keys: ClassVar[list[str]] = ["dimension"]
    packed = True

    def __init__(self, dimension: int) -> None:
        super().__init__()
        if not isinstance(dimension, int) or dimension < 1:
            raise InputError(f"dimension must be a positive number of features, got {dimension!r}")
        self.dimension = dimension
        self.norm = nn.LayerNorm(dimension)

    @classmethod
    def example(cls) -> LayerNorm:
        """Return a tiny instance for tests."""
        return cls(8)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Normalise ``sentence_embedding`` ``[rows, dimension]`` in place."""
        features["sentence_embedding"] = self.norm(needed(features, "sentence_embedding", self, self.dimension))
        return features

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors."""
        return self.dimension
