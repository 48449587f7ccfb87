"""Vectors that can be cut to several widths and read off any layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from fourfold.losses.adaptive_layer_loss import AdaptiveLayerLoss, LayerWeighting
from fourfold.losses.matryoshka_loss import MatryoshkaLoss


class Matryoshka2dLoss(AdaptiveLayerLoss):
    """:class:`AdaptiveLayerLoss` of :class:`MatryoshkaLoss` of a loss.

    Args:
        model: An encoder whose first module is a Transformer.
        loss: The loss of vectors.
        matryoshka_dims: The widths.
        matryoshka_weights: The weight of each; None is 1.
        n_layers_per_step: How many earlier layers a step computes; -1 is all.
        n_dims_per_step: How many widths a step computes; -1 is all.
        last_layer_weight: Weight of the last layer.
        prior_layers_weight: Weight of the earlier ones together.
        kl_div_weight: Weight of the divergence of the earlier layers' vectors from the last one's.
        kl_temperature: Divides vectors before their softmax.
        layer_weighting: Weight of each earlier layer.
    """

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
        n_layers_per_step: int = 1,
        n_dims_per_step: int = 1,
        last_layer_weight: float = 1.0,
        prior_layers_weight: float = 1.0,
        kl_div_weight: float = 1.0,
        kl_temperature: float = 0.3,
        layer_weighting: LayerWeighting | Callable[[int], float] = "uniform",
    ) -> None:
        widths = MatryoshkaLoss(model, loss, matryoshka_dims, matryoshka_weights, n_dims_per_step)
        super().__init__(
            model, widths, n_layers_per_step, last_layer_weight, prior_layers_weight, kl_div_weight, kl_temperature,
            layer_weighting,
        )  # fmt: skip
        self._widths_config = widths.get_config_dict()

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {**super().get_config_dict(), **self._widths_config}
