"""A text should be nearer to its positive than to its negative, by a margin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from fourfold.losses._base import Loss, Takes, check_columns
from fourfold.losses._citations import article
from fourfold.losses.contrastive_loss import metric_name
from fourfold.ops.similarity import pairwise_cos_sim, pairwise_euclidean_sim, pairwise_manhattan_sim

TRIPLETS = article(
    "hermans2017defense", "1703.07737", 2017, "In Defense of the Triplet Loss for Person Re-Identification",
    "Alexander Hermans and Lucas Beyer and Bastian Leibe", "cs.CV",
)  # fmt: skip


class TripletDistanceMetric:
    """Distances ``[rows]`` of rows to rows."""

    @staticmethod
    def COSINE(x: Tensor, y: Tensor) -> Tensor:
        """Return one minus the cosines."""
        return 1 - pairwise_cos_sim(x, y)

    @staticmethod
    def EUCLIDEAN(x: Tensor, y: Tensor) -> Tensor:
        """Return the Euclidean distances."""
        return -pairwise_euclidean_sim(x, y)

    @staticmethod
    def MANHATTAN(x: Tensor, y: Tensor) -> Tensor:
        """Return the sums of absolute differences."""
        return -pairwise_manhattan_sim(x, y)


class TripletLoss(Loss):
    """``mean(relu(distance to the positive - distance to the negative + margin))``.

    Columns: text, positive, negative. Labels are not read.

    Args:
        model: The encoder.
        distance_metric: A member of :class:`TripletDistanceMetric`, or any function like them.
        triplet_margin: By how much the negative should be farther away.

    Raises:
        InputError: If there are not three columns.
    """

    takes: ClassVar[Takes | None] = Takes((3,), "text, positive, negative")
    citation = TRIPLETS

    def __init__(
        self,
        model: Any,
        distance_metric: Callable[[Tensor, Tensor], Tensor] = TripletDistanceMetric.EUCLIDEAN,
        triplet_margin: float = 5,
    ) -> None:
        super().__init__(model)
        self.distance_metric = distance_metric
        self.triplet_margin = triplet_margin

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of texts, positives and negatives, each ``[rows, width]``."""
        check_columns(self, embeddings)
        text, positive, negative = embeddings
        nearer = self.distance_metric(text, positive) - self.distance_metric(text, negative)
        return functional.relu(nearer + self.triplet_margin).mean()

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {
            "distance_metric": metric_name(self.distance_metric, TripletDistanceMetric),
            "triplet_margin": self.triplet_margin,
        }
