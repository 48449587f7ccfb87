"""In-batch negatives in both directions, by its older name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor

from fourfold.losses.multiple_negatives_ranking_loss import MultipleNegativesRankingLoss
from fourfold.ops.similarity import cos_sim

SYMMETRIC = ("query_to_doc", "doc_to_query")


class MultipleNegativesSymmetricRankingLoss(MultipleNegativesRankingLoss):
    """Tell each query's document from all others, and each document's query.

    Deprecated: :class:`MultipleNegativesRankingLoss` with ``directions=("query_to_doc", "doc_to_query")`` and
    ``partition_mode="per_direction"`` is the same.

    Args:
        model: The encoder.
        scale: Factor of the similarities.
        similarity_fct: Of all rows with all rows.
        gather_across_devices: Whether the rows of other processes are negatives too.
    """

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        gather_across_devices: bool = False,
    ) -> None:
        _warn(type(self).__name__, "MultipleNegativesRankingLoss")
        super().__init__(model, scale, similarity_fct, gather_across_devices, SYMMETRIC, "per_direction")


def _warn(name: str, other: str) -> None:
    message = f"{name} is deprecated; use {other}(directions={SYMMETRIC}, partition_mode='per_direction')"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
