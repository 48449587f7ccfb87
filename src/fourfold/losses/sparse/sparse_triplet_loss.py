"""Triplets of sparse vectors."""

from __future__ import annotations

from fourfold.losses.sparse._inner import InnerLoss
from fourfold.losses.triplet_loss import TripletLoss


class SparseTripletLoss(InnerLoss, TripletLoss):
    """:class:`~fourfold.losses.TripletLoss`, for use within a sparse loss.

    Args:
        model: The encoder.
        distance_metric: A member of :class:`~fourfold.losses.TripletDistanceMetric`, or any function like them.
        triplet_margin: By how much the negative should be farther away.
    """
