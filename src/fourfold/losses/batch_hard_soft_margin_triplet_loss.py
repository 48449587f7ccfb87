"""The hardest triplets of a batch, with a soft margin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from fourfold.losses.batch_hard_triplet_loss import (
    BatchHardTripletLoss,
    BatchHardTripletLossDistanceFunction,
    hardest,
)


class BatchHardSoftMarginTripletLoss(BatchHardTripletLoss):
    """:class:`BatchHardTripletLoss` without a margin: ``mean(log(1 + exp(farthest positive - nearest negative)))``.

    Args:
        model: The encoder.
        distance_metric: Distances of all rows.
    """

    config_keys: ClassVar[tuple[str, ...]] = ("distance_metric",)

    def __init__(
        self,
        model: Any,
        distance_metric: Callable[[Tensor], Tensor] = BatchHardTripletLossDistanceFunction.euclidean_distance,
    ) -> None:
        super().__init__(model, distance_metric)

    def of_distances(self, distances: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of distances ``[rows, rows]``."""
        farthest, nearest = hardest(distances, labels)
        return functional.softplus(farthest - nearest).mean()
