"""In-batch negatives over batches of any size, in the memory of a mini-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fourfold.losses._base import Loss, Takes
from fourfold.losses._gradient_cache import GRAD_CACHE, CachedLossMixin, Reps, check_mini_batches, send_back
from fourfold.losses._in_batch import HardnessMode, PartitionMode
from fourfold.losses.multiple_negatives_ranking_loss import MultipleNegativesRankingLoss
from fourfold.modules._base import Features
from fourfold.ops.similarity import cos_sim

_OF_THE_INNER_LOSS = MultipleNegativesRankingLoss.config_keys


class CachedMultipleNegativesRankingLoss(CachedLossMixin, Loss):
    """:class:`MultipleNegativesRankingLoss` with GradCache: the same number and the same gradients.

    A batch is embedded in mini-batches, twice, which costs a forward more and no memory: batches may have thousands of
    rows.

    Args:
        model: The encoder; not one with static embeddings.
        scale: As for :class:`MultipleNegativesRankingLoss`, like all that is not named here.
        similarity_fct: As there.
        mini_batch_size: Rows that are embedded together.
        mini_batch_num_tokens: Tokens that are embedded together, instead of rows.
        gather_across_devices: As there.
        directions: As there.
        partition_mode: As there.
        show_progress_bar: Whether to show the mini-batches of each step.
        hardness_mode: As there.
        hardness_strength: As there.

    Raises:
        InputError: If an argument is unusable.
    """

    takes: ClassVar[Takes | None] = MultipleNegativesRankingLoss.takes
    config_keys: ClassVar[tuple[str, ...]] = (
        "scale", "similarity_fct", "mini_batch_size", "mini_batch_num_tokens", "gather_across_devices", "directions",
        "partition_mode", "hardness_mode", "hardness_strength",
    )  # fmt: skip
    citation = GRAD_CACHE

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        gather_across_devices: bool = False,
        directions: Iterable[str] = ("query_to_doc",),
        partition_mode: PartitionMode = "joint",
        show_progress_bar: bool = False,
        hardness_mode: HardnessMode | None = None,
        hardness_strength: float = 0.0,
    ) -> None:
        super().__init__(model)
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar
        self.loss = MultipleNegativesRankingLoss(
            model, scale, similarity_fct, gather_across_devices, directions, partition_mode, hardness_mode,
            hardness_strength,
        )  # fmt: skip
        check_mini_batches(self, model)

    def __getattr__(self, name: str) -> Any:
        if name in (*_OF_THE_INNER_LOSS, "temperature"):
            return getattr(super().__getattr__("loss"), name)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_THE_INNER_LOSS:
            setattr(self.loss, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of a batch."""
        return self.forward_cached(sentence_features, labels)

    def calculate_loss(self, reps: Reps, labels: Any = None, *, with_backward: bool = False) -> Tensor:
        """Return the loss of vectors by column and mini-batch, computed a mini-batch of rows at a time."""
        whole = self.loss.candidates([torch.cat(column) for column in reps])
        tensors = [field.name for field in fields(whole) if field.name != "offset"]
        # Each part's graph ends at these, and is gone before the next one's is made.
        leaves = {name: getattr(whole, name).detach().requires_grad_(with_backward) for name in tensors}
        candidates = replace(whole, **leaves)
        loss = self.of_row_parts(
            len(whole.queries), lambda rows: self.loss.loss_of_rows(candidates, rows), with_backward
        )
        if with_backward:
            send_back([getattr(whole, name) for name in tensors], list(leaves.values()))
        return loss
