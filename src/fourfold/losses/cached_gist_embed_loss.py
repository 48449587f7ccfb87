"""In-batch negatives that a guide has looked at, over batches of any size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from fourfold.losses._base import Takes, check_columns
from fourfold.losses._gradient_cache import CachedLossMixin, Reps, check_mini_batches, send_back
from fourfold.losses._guided import Columns, MarginStrategy
from fourfold.losses.gist_embed_loss import GISTEmbedLoss
from fourfold.modules._base import Features


class CachedGISTEmbedLoss(CachedLossMixin, GISTEmbedLoss):
    """:class:`GISTEmbedLoss` with GradCache; it takes any number of columns of negatives.

    Args:
        model: The encoder; not one with static embeddings.
        guide: As for :class:`GISTEmbedLoss`, like all that is not named here.
        temperature: As there.
        mini_batch_size: Rows that are embedded together.
        mini_batch_num_tokens: Tokens that are embedded together, instead of rows.
        show_progress_bar: Whether to show the mini-batches of each step.
        margin_strategy: As there.
        margin: As there.
        contrast_anchors: As there.
        contrast_positives: As there.
        gather_across_devices: As there.
    """

    takes: ClassVar[Takes | None] = Takes(range(2, 3), "query, positive, negatives")
    config_keys: ClassVar[tuple[str, ...]] = (
        "temperature", "mini_batch_size", "mini_batch_num_tokens", "margin_strategy", "margin", "contrast_anchors",
        "contrast_positives", "gather_across_devices",
    )  # fmt: skip

    citation: str | None = None  # it is two methods, neither of which describes it alone

    def __init__(
        self,
        model: Any,
        guide: Any,
        temperature: float = 0.01,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
        margin_strategy: MarginStrategy = "absolute",
        margin: float = 0.0,
        contrast_anchors: bool = True,
        contrast_positives: bool = True,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(
            model, guide, temperature, margin_strategy, margin, contrast_anchors, contrast_positives,
            gather_across_devices,
        )  # fmt: skip
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar
        check_mini_batches(self, model)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of a batch."""
        columns = list(sentence_features)
        check_columns(self, columns)
        guided = [[self._runs_guide(self.guide, part) for part in self._parts(column)] for column in columns]
        return self.forward_cached(columns, guided)

    def calculate_loss(self, reps: Reps, reps_guided: Any = None, *, with_backward: bool = False) -> Tensor:
        """Return the loss of the model's and the guide's vectors, computed a mini-batch of rows at a time."""
        guided = self.guided()
        whole = guided.columns([torch.cat(column) for column in reps])
        theirs = guided.columns([torch.cat(column) for column in reps_guided])
        # Each part's graph ends at these, and is gone before the next one's is made.
        leaves = Columns(
            *([tensor.detach().requires_grad_(with_backward) for tensor in some] for some in (whole.own, whole.every))
        )
        loss = self.of_row_parts(len(whole.own[0]), lambda rows: guided.loss(leaves, theirs, rows), with_backward)
        if with_backward:
            send_back([*whole.own, *whole.every], [*leaves.own, *leaves.every])
        return loss
