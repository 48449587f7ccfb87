"""Mix the layers of a transformer with learned weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fourfold.errors import InputError, ShapeError
from fourfold.modules._base import Features, WeightedModule
from fourfold.notices import renamed_keywords


class WeightedLayerPooling(WeightedModule):
    """Replace each token's vector by the weighted mean of what the layers made of it.

    The transformer before it must return all its layers: ``config_kwargs={"output_hidden_states": True}``.

    Args:
        embedding_dimension: Width of the token vectors.
        num_hidden_layers: Number of the transformer's layers.
        layer_start: First layer that takes part; 0 is the token embeddings, before the first layer.
        layer_weights: ``[num_hidden_layers + 1 - layer_start]``, first value of the weights; ones by default.

    Raises:
        InputError: If ``layer_start`` is no layer, or the number of weights is another than that of the layers.
    """

    config_keys: ClassVar[list[str]] = ["embedding_dimension", "layer_start", "num_hidden_layers"]
    config_key_renames: ClassVar[dict[str, str]] = {"word_embedding_dimension": "embedding_dimension"}
    packed = True

    @renamed_keywords(word_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        embedding_dimension: int,
        num_hidden_layers: int = 12,
        layer_start: int = 4,
        layer_weights: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= layer_start <= num_hidden_layers:
            raise InputError(
                f"layer_start must be from 0 to num_hidden_layers={num_hidden_layers}, got {layer_start!r}"
            )
        self.embedding_dimension = embedding_dimension
        self.num_hidden_layers = num_hidden_layers
        self.layer_start = layer_start
        layers = num_hidden_layers + 1 - layer_start
        weights = torch.ones(layers) if layer_weights is None else torch.as_tensor(layer_weights).detach().float()
        if weights.shape != (layers,):
            raise InputError(
                f"layer_weights must hold one number for each of the {layers} layers from {layer_start} to "
                f"{num_hidden_layers}, got shape {tuple(weights.shape)}"
            )
        self.layer_weights = layer_weights if isinstance(layer_weights, nn.Parameter) else nn.Parameter(weights)

    @classmethod
    def example(cls) -> WeightedLayerPooling:
        """Return a tiny instance for tests."""
        return cls(8, num_hidden_layers=2, layer_start=1, layer_weights=[1.0, 3.0])

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Write the mean of ``all_layer_embeddings`` to ``token_embeddings``; without them do nothing.

        All are ``[rows, longest, width]`` padded or ``[1, tokens, width]`` packed; sums run in float32 for half
        precision.

        Raises:
            ShapeError: If the transformer has another number of layers.
        """
        if "all_layer_embeddings" not in features:
            return features
        layers = features["all_layer_embeddings"][self.layer_start :]
        if len(layers) != len(self.layer_weights):
            raise ShapeError(
                f"WeightedLayerPooling has num_hidden_layers={self.num_hidden_layers}, the transformer before it "
                f"returned {len(layers) + self.layer_start - 1} layers"
            )
        wide = torch.promote_types(layers[0].dtype, torch.float32)
        weights = self.layer_weights.to(wide)
        total = sum(weight * layer.to(wide) for weight, layer in zip(weights, layers, strict=True))
        features["token_embeddings"] = (total / weights.sum()).to(layers[0].dtype)
        return features

    def get_embedding_dimension(self) -> int:
        """Return the width of the token vectors."""
        return self.embedding_dimension
