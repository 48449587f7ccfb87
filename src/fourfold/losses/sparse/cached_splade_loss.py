"""A loss of sparse vectors and what keeps them sparse, over batches of any size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fourfold.losses._gradient_cache import GRAD_CACHE, CachedLossMixin, Reps, check_mini_batches
from fourfold.losses.sparse.splade_loss import SpladeLoss
from fourfold.modules._base import Features


class CachedSpladeLoss(CachedLossMixin, SpladeLoss):
    """:class:`SpladeLoss` with GradCache: the same numbers and gradients in the memory of a mini-batch.

    Of the parts that it returns the first one carries the gradients of all.

    Args:
        model: The encoder; not one with static embeddings.
        loss: As for :class:`SpladeLoss`, like all that is not named here.
        document_regularizer_weight: As there.
        query_regularizer_weight: As there.
        document_regularizer: As there.
        query_regularizer: As there.
        document_regularizer_threshold: As there.
        query_regularizer_threshold: As there.
        use_document_regularizer_only: As there.
        mini_batch_size: Rows that are embedded together.
        mini_batch_num_tokens: Tokens that are embedded together, instead of rows.
        show_progress_bar: Whether to show the mini-batches of each step.
    """

    citation = f"{GRAD_CACHE}\n{SpladeLoss.citation}"

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        document_regularizer_weight: float,
        query_regularizer_weight: float | None = None,
        document_regularizer: nn.Module | None = None,
        query_regularizer: nn.Module | None = None,
        document_regularizer_threshold: int | None = None,
        query_regularizer_threshold: int | None = None,
        use_document_regularizer_only: bool = False,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(
            model, loss, document_regularizer_weight, query_regularizer_weight, document_regularizer, query_regularizer,
            document_regularizer_threshold, query_regularizer_threshold, use_document_regularizer_only,
        )  # fmt: skip
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar
        check_mini_batches(self, model)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the loss of a batch and its regularisers, by name."""
        return self.forward_cached(sentence_features, labels)

    def calculate_loss(self, reps: Reps, labels: Any = None, *, with_backward: bool = False) -> dict[str, Tensor]:
        """Return the losses of vectors by column and mini-batch; they add up to the whole."""
        losses = self.compute_loss_from_embeddings([torch.cat(column) for column in reps], labels)
        total = torch.stack([part.float() for part in losses.values()]).sum()
        if with_backward:
            total.backward()
        first, *others = losses
        rest = {name: losses[name].detach().float() for name in others}
        return {first: total - sum(rest.values()), **rest}

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        sizes = {"mini_batch_size": self.mini_batch_size, "mini_batch_num_tokens": self.mini_batch_num_tokens}
        return {**super().get_config_dict(), **sizes}
