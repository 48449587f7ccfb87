"""Triplets of a batch whose negative is farther away than the positive, but not by the margin."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from fourfold.losses.batch_hard_triplet_loss import BatchHardTripletLoss


class BatchSemiHardTripletLoss(BatchHardTripletLoss):
    """Compare each positive pair with the nearest negative that is farther away than the positive.

    Where there is none, the farthest negative takes its place. Columns: one text; labels: its class.

    Args:
        model: The encoder.
        distance_metric: Distances of all rows.
        margin: By how much a negative should be farther away.
    """

    def of_distances(self, distances: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of distances ``[rows, rows]``."""
        negative = self.get_anchor_negative_triplet_mask(labels)
        # By anchor, positive and negative.
        beyond = negative[:, None, :] & (distances[:, None, :] > distances[:, :, None])
        largest = distances.amax(dim=1)
        nearest_beyond = distances[:, None, :].where(beyond, largest[:, None, None]).amin(dim=2)
        smallest = distances.amin(dim=1, keepdim=True)
        farthest = distances.where(negative, smallest).amax(dim=1, keepdim=True)
        chosen = nearest_beyond.where(beyond.any(dim=2), farthest)
        positive = self.get_anchor_positive_triplet_mask(labels)
        losses = functional.relu(distances - chosen + self.triplet_margin) * positive
        return losses.sum() / positive.sum().clamp(min=1e-16)
