"""The hardest negative of a very large batch, for each text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fourfold.losses._base import Loss, Takes, check_columns
from fourfold.losses._citations import entry
from fourfold.losses._columns import embed_columns
from fourfold.losses._gradient_cache import CachedLossMixin, Reps, check_mini_batches
from fourfold.modules._base import Features
from fourfold.ops.similarity import cos_sim


class MegaBatchMarginLoss(CachedLossMixin, Loss):
    """Bring positives above one margin and the hardest negative of the batch below another, by the cosine.

    Columns: text, positive; labels are not read. The larger the batch, the harder its negatives; mini-batches make
    that possible.

    Args:
        model: The encoder.
        positive_margin: Positives that are more alike than this cost nothing.
        negative_margin: Negatives that are less alike than this cost nothing.
        use_mini_batched_version: Whether to embed the batch in mini-batches, twice (GradCache).
        mini_batch_size: Rows that are embedded together.
        mini_batch_num_tokens: Tokens that are embedded together, instead of rows.
        show_progress_bar: Whether to show the mini-batches of each step.

    Raises:
        InputError: If a batch has not two columns, or the model's features cannot be cut into mini-batches.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "text, positive")
    config_keys: ClassVar[tuple[str, ...]] = (
        "positive_margin", "negative_margin", "mini_batch_size", "mini_batch_num_tokens",
    )  # fmt: skip
    citation = entry(
        "inproceedings", "wieting-gimpel-2018-paranmt",
        title="ParaNMT-50M: Pushing the Limits of Paraphrastic Sentence Embeddings with Millions of Machine "
        "Translations",
        author="Wieting, John and Gimpel, Kevin",
        booktitle="Proceedings of the 56th Annual Meeting of the Association for Computational Linguistics", year=2018,
        pages="451-462", doi="10.18653/v1/P18-1042",
    )  # fmt: skip

    def __init__(
        self,
        model: Any,
        positive_margin: float = 0.8,
        negative_margin: float = 0.3,
        use_mini_batched_version: bool = True,
        mini_batch_size: int = 50,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(model)
        self.positive_margin = positive_margin
        self.negative_margin = negative_margin
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar
        self.uses_gradient_cache = use_mini_batched_version
        if use_mini_batched_version:
            check_mini_batches(self, model)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of a batch."""
        run = self.forward_mini_batched if self.uses_gradient_cache else self.forward_non_mini_batched
        return run(sentence_features, labels)

    def forward_mini_batched(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of a batch that is embedded in mini-batches."""
        columns = list(sentence_features)
        check_columns(self, columns)
        return self.forward_cached(columns, labels)

    def forward_non_mini_batched(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of a batch that is embedded at once."""
        embeddings = embed_columns(self.model, list(sentence_features))
        check_columns(self, embeddings)
        return self._of(*embeddings)

    def calculate_loss(self, reps: Reps, labels: Any = None, *, with_backward: bool = False) -> Tensor:
        """Return the loss of vectors by column and mini-batch."""
        loss = self._of(*(torch.cat(column) for column in reps))
        if with_backward:
            loss.backward()
        return loss

    def _of(self, texts: Tensor, positives: Tensor) -> Tensor:
        cosines = cos_sim(texts, positives)
        own = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
        hardest = cosines.masked_fill(own, -torch.inf).amax(dim=1)
        far = functional.relu(self.positive_margin - cosines.diagonal())
        return (far + functional.relu(hardest - self.negative_margin)).mean()
