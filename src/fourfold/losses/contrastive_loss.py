"""Pull texts that belong together near to each other, and push others apart, up to a margin."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from fourfold.losses._base import Loss, Takes, check_columns, check_labels
from fourfold.losses._citations import entry


class SiameseDistanceMetric:
    """Distances ``[rows]`` of rows to rows."""

    @staticmethod
    def EUCLIDEAN(x: Tensor, y: Tensor) -> Tensor:
        """Return the Euclidean distances."""
        return functional.pairwise_distance(x, y, p=2)

    @staticmethod
    def MANHATTAN(x: Tensor, y: Tensor) -> Tensor:
        """Return the sums of absolute differences."""
        return functional.pairwise_distance(x, y, p=1)

    @staticmethod
    def COSINE_DISTANCE(x: Tensor, y: Tensor) -> Tensor:
        """Return one minus the cosines."""
        return 1 - functional.cosine_similarity(x, y)


def metric_name(metric: Callable[..., Any], namespace: type) -> str:
    """Return the name of a distance, with the class that it is a member of."""
    member = next((name for name, value in vars(namespace).items() if _function(value) is metric), None)
    return getattr(metric, "__name__", type(metric).__name__) if member is None else f"{namespace.__name__}.{member}"


def _function(member: Any) -> Any:
    return getattr(member, "__func__", member)


def zero_or_one(labels: Tensor, name: str) -> Tensor:
    """Return labels; other values than 0 and 1 are told once."""
    if bool(((labels != 0) & (labels != 1)).any()):
        warnings.warn(f"{name} expects labels of 1 (alike) and 0 (not); there are others", UserWarning, stacklevel=4)
    return labels


class ContrastiveLoss(Loss):
    """Shrink the squared distance of pairs with label 1, and widen that of pairs with label 0 up to a margin.

    Columns: two texts; labels: 1 or 0.

    Args:
        model: The encoder.
        distance_metric: A member of :class:`SiameseDistanceMetric`, or any function like them.
        margin: Pairs with label 0 that are farther apart than this cost nothing.
        size_average: Whether to take the mean rather than the sum.

    Raises:
        InputError: If there is not one label a row, or not two columns.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "two texts", "1 or 0")
    citation = entry(
        "inproceedings", "hadsell2006dimensionality",
        title="Dimensionality Reduction by Learning an Invariant Mapping",
        author="Hadsell, Raia and Chopra, Sumit and LeCun, Yann",
        booktitle="2006 IEEE Computer Society Conference on Computer Vision and Pattern Recognition (CVPR'06)",
        year=2006, volume=2, pages="1735-1742", doi="10.1109/CVPR.2006.100",
    )  # fmt: skip

    def __init__(
        self,
        model: Any,
        distance_metric: Callable[[Tensor, Tensor], Tensor] = SiameseDistanceMetric.COSINE_DISTANCE,
        margin: float = 0.5,
        size_average: bool = True,
    ) -> None:
        super().__init__(model)
        self.distance_metric = distance_metric
        self.margin = margin
        self.size_average = size_average

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of two columns ``[rows, width]`` with labels ``[rows]``."""
        check_columns(self, embeddings)
        labels = check_labels(self, labels, len(embeddings[0]))
        labels = zero_or_one(labels, type(self).__name__).float()
        distances = self.distance_metric(*embeddings)
        far = functional.relu(self.margin - distances)
        losses = 0.5 * (labels * distances.square() + (1 - labels) * far.square())
        return losses.mean() if self.size_average else losses.sum()

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {
            "distance_metric": metric_name(self.distance_metric, SiameseDistanceMetric),
            "margin": self.margin,
            "size_average": self.size_average,
        }
