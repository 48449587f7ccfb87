"""Triplets found within a batch: each text with its farthest positive and its nearest negative."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fourfold.losses._base import Takes, check_labels
from fourfold.losses._columns import embed_columns
from fourfold.losses.triplet_loss import TRIPLETS
from fourfold.modules._base import Features
from fourfold.ops.similarity import cos_sim

# What is added to a squared distance of zero before its root, whose gradient there is infinite.
_EPSILON = 1e-16


class BatchHardTripletLossDistanceFunction:
    """Distances ``[rows, rows]`` of all rows of a batch."""

    @staticmethod
    def cosine_distance(embeddings: Tensor) -> Tensor:
        """Return one minus the cosines."""
        return 1 - cos_sim(embeddings, embeddings)

    @staticmethod
    def euclidean_distance(embeddings: Tensor, squared: bool = False) -> Tensor:
        """Return the Euclidean distances, or their squares."""
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            wide = embeddings.float() if embeddings.element_size() < 4 else embeddings
            dots = wide @ wide.T
            squares = dots.diagonal()
            distances = (squares[None, :] - 2.0 * dots + squares[:, None]).clamp(min=0)
            if squared:
                return distances
            zero = distances == 0
            return (distances + zero * _EPSILON).sqrt() * ~zero

    eucledian_distance = euclidean_distance  # as it has also been spelt


class _BatchTriplets(nn.Module):
    """The part of the losses that find triplets within a batch: one column of texts, and a class of each.

    Args:
        model: The encoder.
        distance_metric: Distances of all rows.
        margin: By how much a negative should be farther away.
    """

    takes: ClassVar[Takes | None] = Takes(range(1, 2), "a text", "the class of a text")
    citation = TRIPLETS
    config_keys: ClassVar[tuple[str, ...]] = ("distance_metric", "margin")

    def __init__(
        self,
        model: Any,
        distance_metric: Callable[[Tensor], Tensor] = BatchHardTripletLossDistanceFunction.euclidean_distance,
        margin: float = 5,
    ) -> None:
        super().__init__()
        self.sentence_embedder = model
        self.distance_metric = distance_metric
        self.triplet_margin = margin

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of the first column with the class of each row."""
        columns = list(sentence_features)[:1]
        return self.compute_loss_from_embeddings(embed_columns(self.sentence_embedder, columns), labels)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of one column ``[rows, width]`` with the class of each row."""
        labels = check_labels(self, labels, len(embeddings[0]))
        return self.of_distances(self.distance_metric(embeddings[0]), labels)

    def of_distances(self, distances: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of distances ``[rows, rows]``."""
        raise NotImplementedError

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        shown = {"distance_metric": self.distance_metric.__name__, "margin": self.triplet_margin}
        return {key: shown[key] for key in self.config_keys}


def alike(labels: Tensor) -> Tensor:
    """Return whether two rows have one class, ``[rows, rows]``."""
    return labels[:, None] == labels[None, :]


class BatchHardTripletLoss(_BatchTriplets):
    """Compare each text with its farthest positive and its nearest negative in the batch.

    Columns: one text; labels: its class. A batch needs at least two texts of each of two classes, which
    ``BatchSamplers.GROUP_BY_LABEL`` provides.

    Args:
        model: The encoder.
        distance_metric: A member of :class:`BatchHardTripletLossDistanceFunction`, or any function like them.
        margin: By how much the negative should be farther away.

    Raises:
        InputError: If there is not one label a row.
    """

    def of_distances(self, distances: Tensor, labels: Tensor) -> Tensor:
        """Return ``mean(relu(farthest positive - nearest negative + margin))``."""
        farthest, nearest = hardest(distances, labels)
        return functional.relu(farthest - nearest + self.triplet_margin).mean()

    @staticmethod
    def get_triplet_mask(labels: Tensor) -> Tensor:
        """Return which ``[text, positive, negative]`` of a batch are triplets of three different rows."""
        same = alike(labels)
        positive = BatchHardTripletLoss.get_anchor_positive_triplet_mask(labels)
        return positive[:, :, None] & ~same[:, None, :]

    @staticmethod
    def get_anchor_positive_triplet_mask(labels: Tensor) -> Tensor:
        """Return which pairs of different rows have one class."""
        return alike(labels) & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)

    @staticmethod
    def get_anchor_negative_triplet_mask(labels: Tensor) -> Tensor:
        """Return which pairs of rows have different classes."""
        return ~alike(labels)


def hardest(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's distance ``[rows]`` to its farthest positive, 0 if it has none, and to its nearest negative."""
    positive = BatchHardTripletLoss.get_anchor_positive_triplet_mask(labels)
    farthest = (distances * positive).amax(dim=1)
    # What is no negative lies farther away than any row, so that it is nearest only where there is none.
    beyond = distances.amax(dim=1, keepdim=True) * alike(labels)
    return farthest, (distances + beyond).amin(dim=1)
