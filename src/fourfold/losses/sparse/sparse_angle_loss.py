"""Pairs of sparse vectors in the order of their scores, by angles."""

from __future__ import annotations

from typing import Any

from fourfold.losses.angle_loss import AnglELoss
from fourfold.losses.sparse.sparse_cosent_loss import SparseCoSENTLoss
from fourfold.ops.similarity import pairwise_angle_sim


class SparseAnglELoss(SparseCoSENTLoss):
    """:class:`SparseCoSENTLoss` by :func:`~fourfold.ops.similarity.pairwise_angle_sim`.

    Args:
        model: The encoder.
        scale: Factor of the similarities.
    """

    citation = AnglELoss.citation

    def __init__(self, model: Any, scale: float = 20.0) -> None:
        super().__init__(model, scale, pairwise_angle_sim)
