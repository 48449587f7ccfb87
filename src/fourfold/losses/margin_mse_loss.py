"""Learn by how much a teacher prefers one document to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from fourfold.errors import InputError
from fourfold.losses._base import Loss, Takes, check_columns, check_labels
from fourfold.losses._citations import article
from fourfold.ops.similarity import pairwise_dot_score

MARGINS = article(
    "hofstätter2021improving", "2010.02666", 2021,
    "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation",
    "Sebastian Hofstätter and Sophia Althammer and Michael Schröder and Mete Sertkan and Allan Hanbury", "cs.IR",
)  # fmt: skip


class MarginMSELoss(Loss):
    """Compare the margin between a query's positive and each of its negatives with the teacher's.

    Columns: query, positive, and one or more columns of negatives; labels: the teacher's margins ``[rows]`` or
    ``[rows, negatives]``, or its scores ``[rows, 1 + negatives]``.

    Args:
        model: The encoder.
        similarity_fct: Of rows with rows.

    Raises:
        InputError: If the labels have another shape, or there are fewer than three columns.
    """

    takes: ClassVar[Takes | None] = Takes(range(3, 4), "query, positive, negatives", "the teacher's margins or scores")
    config_keys: ClassVar[tuple[str, ...]] = ("similarity_fct",)
    citation = MARGINS

    def __init__(self, model: Any, similarity_fct: Callable[[Any, Any], Tensor] = pairwise_dot_score) -> None:
        super().__init__(model)
        self.similarity_fct = similarity_fct

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of queries and documents, each ``[rows, width]``."""
        check_columns(self, embeddings)
        query, positive, *negatives = embeddings
        labels = check_labels(self, labels, len(query))
        best = self.similarity_fct(query, positive)
        margins = torch.stack([best - self.similarity_fct(query, negative) for negative in negatives], dim=1)
        return (
            (margins - teacher_margins(labels, len(negatives), type(self).__name__).to(margins.dtype)).square().mean()
        )


def teacher_margins(labels: Tensor, negatives: int, name: str) -> Tensor:
    """Return the teacher's margins ``[rows, negatives]`` from margins or scores, without gradients.

    Raises:
        InputError: If the labels have another shape.
    """
    labels = labels.detach()
    if labels.ndim == 1 and negatives == 1:
        return labels[:, None]
    if labels.ndim == 2 and labels.shape[1] == negatives:
        return labels
    if labels.ndim == 2 and labels.shape[1] == negatives + 1:
        return labels[:, :1] - labels[:, 1:]
    raise InputError(
        f"{name} with {negatives} negatives a row needs labels of {negatives} margins or {negatives + 1} scores a row, "
        f"got the shape {tuple(labels.shape)}"
    )
