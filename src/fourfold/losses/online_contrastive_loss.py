"""Contrastive loss of the hard pairs of a batch alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from fourfold.losses._base import Loss, Takes, check_columns, check_labels
from fourfold.losses.contrastive_loss import SiameseDistanceMetric, metric_name, zero_or_one


class OnlineContrastiveLoss(Loss):
    """Learn from positive pairs that are farther apart than the nearest negative pair, and the other way round.

    Columns: two texts; labels: 1 or 0.

    Args:
        model: The encoder.
        distance_metric: A member of :class:`~fourfold.losses.SiameseDistanceMetric`, or any function like them.
        margin: Negative pairs that are farther apart than this cost nothing.

    Raises:
        InputError: If there is not one label a row, or not two columns.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "two texts", "1 or 0")

    def __init__(
        self,
        model: Any,
        distance_metric: Callable[[Tensor, Tensor], Tensor] = SiameseDistanceMetric.COSINE_DISTANCE,
        margin: float = 0.5,
    ) -> None:
        super().__init__(model)
        self.distance_metric = distance_metric
        self.margin = margin

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of two columns ``[rows, width]`` with labels ``[rows]``."""
        check_columns(self, embeddings)
        labels = check_labels(self, labels, len(embeddings[0]))
        labels = zero_or_one(labels, type(self).__name__)
        distances = self.distance_metric(*embeddings)
        positives, negatives = distances[labels == 1], distances[labels == 0]
        # Of a batch with pairs of one kind only, those beyond the mean are the hard ones.
        near = negatives.min() if len(negatives) else positives.mean()
        far = positives.max() if len(positives) else negatives.mean()
        positives, negatives = positives[positives > near], negatives[negatives < far]
        return positives.square().sum() + functional.relu(self.margin - negatives).square().sum()

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {
            "distance_metric": metric_name(self.distance_metric, SiameseDistanceMetric),
            "margin": self.margin,
        }
