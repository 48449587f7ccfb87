"""In-batch negatives in both directions over batches of any size, by its older name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fourfold.losses.cached_multiple_negatives_ranking_loss import CachedMultipleNegativesRankingLoss
from fourfold.losses.multiple_negatives_symmetric_ranking_loss import SYMMETRIC, _warn
from fourfold.ops.similarity import cos_sim


class CachedMultipleNegativesSymmetricRankingLoss(CachedMultipleNegativesRankingLoss):
    """The symmetric loss with GradCache.

    Deprecated: :class:`CachedMultipleNegativesRankingLoss` with ``directions=("query_to_doc", "doc_to_query")`` and
    ``partition_mode="per_direction"`` is the same.

    Args:
        model: The encoder.
        scale: Factor of the similarities.
        similarity_fct: Of all rows with all rows.
        mini_batch_size: Rows that are embedded together.
        mini_batch_num_tokens: Tokens that are embedded together, instead of rows.
        gather_across_devices: Whether the rows of other processes are negatives too.
        show_progress_bar: Whether to show the mini-batches of each step.
    """

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        gather_across_devices: bool = False,
        show_progress_bar: bool = False,
    ) -> None:
        _warn(type(self).__name__, "CachedMultipleNegativesRankingLoss")
        super().__init__(
            model, scale, similarity_fct, mini_batch_size, mini_batch_num_tokens, gather_across_devices, SYMMETRIC,
            "per_direction", show_progress_bar,
        )  # fmt: skip
