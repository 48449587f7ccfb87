"""In-batch negatives for sparse vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from fourfold.losses._in_batch import HardnessMode, PartitionMode
from fourfold.losses.multiple_negatives_ranking_loss import MultipleNegativesRankingLoss
from fourfold.losses.sparse._inner import InnerLoss
from fourfold.ops.similarity import dot_score


class SparseMultipleNegativesRankingLoss(InnerLoss, MultipleNegativesRankingLoss):
    """:class:`~fourfold.losses.MultipleNegativesRankingLoss` by the dot product, for use within a sparse loss.

    Args:
        model: The encoder.
        scale: Factor of the similarities.
        similarity_fct: Of all rows with all rows.
        gather_across_devices: Whether the documents of other processes are negatives too.
        directions: What is compared with what.
        partition_mode: ``joint`` or ``per_direction``.
        hardness_mode: Which negatives weigh more.
        hardness_strength: How much more.
    """

    def __init__(
        self,
        model: Any,
        scale: float = 1.0,
        similarity_fct: Callable[[Any, Any], Tensor] = dot_score,
        gather_across_devices: bool = False,
        directions: Iterable[str] = ("query_to_doc",),
        partition_mode: PartitionMode = "joint",
        hardness_mode: HardnessMode | None = None,
        hardness_strength: float = 0.0,
    ) -> None:
        super().__init__(
            model, scale, similarity_fct, gather_across_devices, directions, partition_mode, hardness_mode,
            hardness_strength,
        )  # fmt: skip
