"""Pairs of sparse vectors in the order of their scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fourfold.losses.cosent_loss import CoSENTLoss
from fourfold.losses.sparse._inner import InnerLoss
from fourfold.ops.similarity import pairwise_cos_sim


class SparseCoSENTLoss(InnerLoss, CoSENTLoss):
    """:class:`~fourfold.losses.CoSENTLoss`, for use within a sparse loss; the model then compares by cosine.

    Args:
        model: The encoder.
        scale: Factor of the similarities.
        similarity_fct: Of rows with rows.
    """

    def __init__(
        self, model: Any, scale: float = 20.0, similarity_fct: Callable[[Any, Any], Tensor] = pairwise_cos_sim
    ) -> None:
        model.similarity_fn_name = "cosine"
        super().__init__(model, scale, similarity_fct)
