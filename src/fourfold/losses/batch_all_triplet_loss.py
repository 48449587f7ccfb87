"""All triplets of a batch that violate the margin."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from fourfold.losses.batch_hard_triplet_loss import BatchHardTripletLoss

_SMALLEST = 1e-16


class BatchAllTripletLoss(BatchHardTripletLoss):
    """Average over all triplets of a batch that cost anything.

    Columns: one text; labels: its class.

    Args:
        model: The encoder.
        distance_metric: Distances of all rows.
        margin: By how much a negative should be farther away.
    """

    def of_distances(self, distances: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of distances ``[rows, rows]``."""
        nearer = distances[:, :, None] - distances[:, None, :] + self.triplet_margin
        losses = functional.relu(nearer * self.get_triplet_mask(labels))
        return losses.sum() / ((losses > _SMALLEST).sum() + _SMALLEST)
