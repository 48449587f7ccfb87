"""Dropout on the text's vector, in training only."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from fourfold.errors import InputError
from fourfold.modules._base import Features, Module, needed


class Dropout(Module):
    """In training set each feature to zero with a fixed probability and scale up the others; otherwise do nothing.

    Args:
        dropout: The probability, from 0 to 1.

    Raises:
        InputError: If it is no number from 0 to 1.
    """

    config_keys: ClassVar[list[str]] = ["dropout"]
    packed = True

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        if not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
            raise InputError(f"dropout must be a probability from 0 to 1, got {dropout!r}")
        self.dropout = dropout
        self.dropout_layer = nn.Dropout(dropout)

    @classmethod
    def example(cls) -> Dropout:
        """Return a tiny instance for tests."""
        return cls(0.5)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Drop features of ``sentence_embedding`` ``[rows, width]`` while the module is in training."""
        features["sentence_embedding"] = self.dropout_layer(needed(features, "sentence_embedding", self))
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings."""
        self.save_config(output_path)
