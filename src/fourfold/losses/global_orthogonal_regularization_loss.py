"""Spread vectors out: two texts of a batch should be as unlike as two random directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fourfold.errors import InputError
from fourfold.losses._base import Loss, Takes
from fourfold.losses._citations import article
from fourfold.ops.similarity import cos_sim


class GlobalOrthogonalRegularizationLoss(Loss):
    """Bring the mean of the similarities within each column to 0, and their second moment below one over the width.

    Columns: any; labels are not read. It is meant beside another loss: a loss of your own can add what
    :meth:`compute_loss_from_embeddings` gives.

    Args:
        model: The encoder.
        similarity_fct: Of all rows with all rows.
        mean_weight: Weight of the squared mean; None or 0 leaves it out.
        second_moment_weight: Weight of the second moment; None or 0 leaves it out.
        aggregation: ``mean`` or ``sum`` over the columns.

    Raises:
        InputError: If both weights are left out, or the aggregation is another.
    """

    takes: ClassVar[Takes | None] = Takes(range(1, 2), "texts")
    config_keys: ClassVar[tuple[str, ...]] = ("similarity_fct", "mean_weight", "second_moment_weight", "aggregation")
    citation = article(
        "zhang2017learningspreadoutlocalfeature", "1708.06320", 2017, "Learning Spread-out Local Feature Descriptors",
        "Xu Zhang and Felix X. Yu and Sanjiv Kumar and Shih-Fu Chang", "cs.CV",
    )  # fmt: skip

    def __init__(
        self,
        model: Any,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        mean_weight: float | None = 1.0,
        second_moment_weight: float | None = 1.0,
        aggregation: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__(model)
        if not mean_weight and not second_moment_weight:
            raise InputError("mean_weight and second_moment_weight are both left out; give at least one")
        if aggregation not in ("mean", "sum"):
            raise InputError(f"aggregation must be 'mean' or 'sum', got {aggregation!r}")
        self.similarity_fct = similarity_fct
        self.mean_weight = mean_weight
        self.second_moment_weight = second_moment_weight
        self.aggregation = aggregation

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``gor_mean`` and ``gor_second_moment`` of columns ``[rows, width]``, as far as they have a weight."""
        moments = torch.stack([torch.stack(self._moments(column)) for column in embeddings])
        mean, second = moments.mean(0) if self.aggregation == "mean" else moments.sum(0)
        found = {}
        if self.mean_weight:
            found["gor_mean"] = self.mean_weight * mean
        if self.second_moment_weight:
            found["gor_second_moment"] = self.second_moment_weight * second
        return found

    def _moments(self, column: Tensor) -> tuple[Tensor, Tensor]:
        rows, width = column.shape
        others = ~torch.eye(rows, dtype=torch.bool, device=column.device)
        similarities = self.similarity_fct(column, column) * others
        pairs = max(rows * (rows - 1), 1)
        mean, second = similarities.sum() / pairs, similarities.square().sum() / pairs
        return mean.square(), functional.relu(second - 1.0 / width)
