"""The cosine of sparse vectors near to a given number."""

from __future__ import annotations

from typing import Any

from torch import nn

from fourfold.losses.cosine_similarity_loss import CosineSimilarityLoss
from fourfold.losses.sparse._inner import InnerLoss


class SparseCosineSimilarityLoss(InnerLoss, CosineSimilarityLoss):
    """:class:`~fourfold.losses.CosineSimilarityLoss`, for use within a sparse loss; the model then compares by cosine.

    Args:
        model: The encoder.
        loss_fct: Compares numbers with labels; None is the mean squared error.
        cos_score_transformation: Applied to the cosines first; None changes nothing.
    """

    def __init__(
        self, model: Any, loss_fct: nn.Module | None = None, cos_score_transformation: nn.Module | None = None
    ) -> None:
        model.similarity_fn_name = "cosine"
        super().__init__(model, loss_fct, cos_score_transformation)
