"""CoSENT with the difference of angles in a complex space as similarity."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from fourfold.errors import InputError
from fourfold.losses._base import Takes, check_columns, check_labels
from fourfold.losses._citations import entry
from fourfold.losses.cosent_loss import CoSENTLoss, ranking_loss
from fourfold.ops.similarity import pairwise_angle_sim


class AnglELoss(CoSENTLoss):
    """:class:`CoSENTLoss` by :func:`~fourfold.ops.similarity.pairwise_angle_sim`, which saturates less than the cosine.

    Columns: two texts with a score a row; or query, positive and any number of columns of negatives, without labels:
    then positives count 1 and negatives 0.

    Args:
        model: The encoder.
        scale: Factor of the similarities.

    Raises:
        InputError: If there are two columns and not one label a row.
    """

    takes: ClassVar[Takes | None] = Takes(
        range(2, 3), "two texts, or query, positive, negatives", "a score", optional=True
    )
    config_keys: ClassVar[tuple[str, ...]] = ("scale", "similarity_fct")
    citation = entry(
        "inproceedings", "li-li-2024-aoe",
        title="AoE: Angle-optimized Embeddings for Semantic Textual Similarity",
        author="Li, Xianming and Li, Jing",
        booktitle="Proceedings of the 62nd Annual Meeting of the Association for Computational Linguistics", year=2024,
        doi="10.18653/v1/2024.acl-long.101",
    )  # fmt: skip

    def __init__(self, model: Any, scale: float = 20.0) -> None:
        super().__init__(model, scale, pairwise_angle_sim)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of two columns with labels, or of three and more, each ``[rows, width]``."""
        check_columns(self, embeddings)
        if len(embeddings) == 2:
            if labels is None:
                raise InputError(
                    "AnglELoss needs labels for pairs of texts: a column named label, labels, score or scores"
                )
            return super().compute_loss_from_embeddings(embeddings, labels)
        first, *others = embeddings
        labels = first.new_ones(len(first)) if labels is None else labels
        labels = check_labels(self, labels, len(first))
        labels = labels.int() if labels.dtype == torch.bool else labels
        scores = torch.cat([self.similarity_fct(first, other) for other in others])
        every = torch.cat([labels, *(1 - labels for _ in others[1:])])
        return ranking_loss(self._scaled(scores), every)
