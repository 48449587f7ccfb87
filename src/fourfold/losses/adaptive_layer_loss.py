"""Vectors that can be read off any layer of a transformer: any loss, on the last layer and on earlier ones."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fourfold.errors import InputError
from fourfold.losses._base import Loss, scaled
from fourfold.losses._citations import article
from fourfold.losses._columns import column_merging_disabled
from fourfold.losses._forwards import forward_replaced
from fourfold.losses._gradient_cache import uses_gradient_cache
from fourfold.modules._base import Features
from fourfold.modules.transformer import Transformer

logger = logging.getLogger(__name__)

LayerWeighting = Literal["uniform", "log", "linear"]

TWO_DIMENSIONS = article(
    "li20242d", "2402.14776", 2024, "2D Matryoshka Sentence Embeddings",
    "Xianming Li and Zongxi Li and Jing Li and Haoran Xie and Qing Li", "cs.CL",
)  # fmt: skip

_WEIGHTS: dict[str, Callable[[int], float]] = {
    "uniform": lambda layer: 1.0,
    "log": lambda layer: 1 / (1 + math.log(1 + layer)),
    "linear": lambda layer: 1 / (1 + layer),
}


class AdaptiveLayerLoss(Loss):
    """Add to a loss of the last layer's vectors that of earlier layers', and the distance of these to the last one's.

    Columns and labels are those of the inner loss. The transformer runs once a column.

    Args:
        model: An encoder whose first module is a Transformer.
        loss: The loss of vectors.
        n_layers_per_step: How many earlier layers a step computes, drawn at random; -1 is all.
        last_layer_weight: Weight of the last layer.
        prior_layers_weight: Weight of the earlier ones together.
        kl_div_weight: Weight of the divergence of the earlier layers' vectors from the last one's.
        kl_temperature: Divides vectors before their softmax; 0 leaves the divergence out.
        layer_weighting: Weight of each earlier layer, 0 being the word vectors: ``uniform``, ``log``, ``linear``, or a
            function of its number.

    Raises:
        InputError: If the model begins with another module, or the weighting is unknown.
    """

    citation = TWO_DIMENSIONS

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        n_layers_per_step: int = 1,
        last_layer_weight: float = 1.0,
        prior_layers_weight: float = 1.0,
        kl_div_weight: float = 1.0,
        kl_temperature: float = 0.3,
        layer_weighting: LayerWeighting | Callable[[int], float] = "uniform",
    ) -> None:
        super().__init__(model)
        if not isinstance(model[0], Transformer):
            raise InputError(f"AdaptiveLayerLoss needs a model with a Transformer first, got {type(model[0]).__name__}")
        if not callable(layer_weighting) and layer_weighting not in _WEIGHTS:
            raise InputError(
                f"layer_weighting must be one of {', '.join(_WEIGHTS)}, or a function; got {layer_weighting!r}"
            )
        if uses_gradient_cache(loss):
            logger.warning("AdaptiveLayerLoss cannot look into the layers of %s", type(loss).__name__)
        self.loss = loss
        self.n_layers_per_step = n_layers_per_step
        self.last_layer_weight = last_layer_weight
        self.prior_layers_weight = prior_layers_weight
        self.kl_div_weight = kl_div_weight
        self.kl_temperature = kl_temperature
        self.layer_weighting = layer_weighting

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Any:
        """Return the weighted sum over the layers."""
        columns = list(sentence_features)
        model = getattr(self.model, "module", self.model)  # what a distributed model wraps
        with column_merging_disabled(), _layers(model) as layers:
            total = scaled(self.last_layer_weight, self.loss(columns, labels))
            final = layers.vectors()
            chosen = self._chosen(layers.count - 1)
            for layer in chosen:
                layers.read(layer)
                share = self.prior_layers_weight * self._weight(layer) / len(chosen)
                total = _added(total, scaled(share, self.loss(columns, labels)))
                if self.kl_temperature > 0:
                    total = _added(total, self._divergence(layers.vectors(), final))
        return total

    def _chosen(self, count: int) -> list[int]:
        if 0 < self.n_layers_per_step < count:
            return random.sample(range(count), self.n_layers_per_step)
        return list(range(count))

    def _weight(self, layer: int) -> float:
        weigh = self.layer_weighting
        return weigh(layer) if callable(weigh) else _WEIGHTS[weigh](layer)

    def _divergence(self, vectors: Tensor, final: Tensor) -> Tensor:
        student = functional.log_softmax(vectors / self.kl_temperature, dim=-1)
        teacher = functional.softmax(final.detach() / self.kl_temperature, dim=-1)
        divergence = functional.kl_div(student, teacher, reduction="batchmean")
        return self.kl_div_weight * self.kl_temperature * divergence

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        weighting = self.layer_weighting
        return {
            "loss": type(self.loss).__name__,
            "n_layers_per_step": self.n_layers_per_step,
            "last_layer_weight": self.last_layer_weight,
            "prior_layers_weight": self.prior_layers_weight,
            "kl_div_weight": self.kl_div_weight,
            "kl_temperature": self.kl_temperature,
            "layer_weighting": getattr(weighting, "__name__", "custom") if callable(weighting) else weighting,
        }


def _added(total: Any, more: Any) -> Any:
    if isinstance(total, dict) and isinstance(more, dict):
        return {name: total[name] + more[name] for name in total}
    if isinstance(total, dict):
        first = next(iter(total))
        return {**total, first: total[first] + more}
    return total + more


class _Layers:
    """What a model's forwards have given, and from which layer later ones read.

    The first forward of each column runs the transformer and keeps the states of all layers; later ones, in the same
    order, take those of a layer in the place of the last one's.
    """

    def __init__(self) -> None:
        self.layer: int | None = None
        self.kept: list[tuple[Features, tuple[Tensor, ...]]] = []
        self._place = 0
        self._given: list[Tensor] = []

    @property
    def count(self) -> int:
        return len(self.kept[0][1])

    def read(self, layer: int) -> None:
        self.layer, self._place, self._given = layer, 0, []

    def vectors(self) -> Tensor:
        """Return the vectors of all columns since the layer was chosen."""
        return torch.cat(self._given)

    def transformed(self, real: Callable[..., Features], features: Features, *args: Any, **kwargs: Any) -> Features:
        if self.layer is None:
            output = real(features, *args, **kwargs)
            self.kept.append((dict(output), tuple(output["all_layer_embeddings"])))
            return output
        output, states = self.kept[self._place]
        self._place += 1
        return {**output, "token_embeddings": states[self.layer]}

    def given(self, output: Features) -> Features:
        self._given.append(output["sentence_embedding"])
        return output


@contextmanager
def _layers(model: Any) -> Iterator[_Layers]:
    """Let the transformer of a model keep the states of its layers inside the block, and give those of any of them."""
    layers, first = _Layers(), model[0]
    real_first, real_model = first.forward, model.forward
    hidden, first.config.output_hidden_states = first.config.output_hidden_states, True

    def transformed(features: Features, *args: Any, **kwargs: Any) -> Features:
        return layers.transformed(real_first, features, *args, **kwargs)

    def given(*args: Any, **kwargs: Any) -> Features:
        return layers.given(real_model(*args, **kwargs))

    try:
        with forward_replaced(first, transformed), forward_replaced(model, given):
            yield layers
    finally:
        first.config.output_hidden_states = hidden
