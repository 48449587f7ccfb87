"""In-batch negatives for cross encoders: some documents of other rows are what a query is not answered by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fourfold.losses._base import Takes, check_columns
from fourfold.losses.cross._pairs import PairLoss
from fourfold.ops.names import fullname


class MultipleNegativesRankingLoss(PairLoss):
    """Tell each query's own document from others of the batch, drawn at random, and from its own negatives.

    Columns: query, positive, and any number of columns of negatives; labels are not read. Every negative costs a
    forward.

    Args:
        model: A cross encoder with one label.
        num_negatives: How many documents of other rows are drawn for each query; None takes all.
        scale: Factor of the scores after the activation.
        activation_fn: Applied to the scores; the sigmoid by default, and None changes nothing.

    Raises:
        InputError: If the model is another, or a batch has fewer than two columns.
    """

    takes: ClassVar[Takes | None] = Takes(range(2, 3), "query, positive, negatives")

    def __init__(
        self,
        model: Any,
        num_negatives: int | None = 4,
        scale: float = 10.0,
        activation_fn: nn.Module | None = nn.Sigmoid(),  # noqa: B008 - it holds nothing
    ) -> None:
        super().__init__(model, activation_fn)
        self.num_negatives = num_negatives
        self.scale = scale

    def forward(
        self,
        inputs: list[list[Any]],
        labels: Tensor | None = None,
        prompt: str | None = None,
        task: str | None = None,
    ) -> Tensor:
        """Return the loss of columns of texts."""
        pairs = self.candidates(inputs)
        return self.of_scores(self.scores(pairs, prompt, task).view(-1), len(inputs[0]))

    def candidates(self, inputs: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Return the pairs to be scored: each query with its positive, then with drawn negatives, then with its own."""
        check_columns(self, inputs)
        queries, positives, *negatives = inputs
        groups = [positives, *self._drawn(inputs[1:]), *negatives]
        return [[query, document] for group in groups for query, document in zip(queries, group, strict=True)]

    def _drawn(self, columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Return columns of documents of other rows, each drawn at most once for a query."""
        rows = len(columns[0])
        pool = [document for column in columns for document in column]
        own = torch.eye(rows, dtype=torch.bool).repeat(1, len(columns))
        others = len(columns) * (rows - 1)
        wanted = others if self.num_negatives is None else min(self.num_negatives, others)
        if wanted <= 0:
            return []
        if wanted == others:
            chosen = (~own).nonzero()[:, 1].view(rows, others)
        else:
            chosen = torch.multinomial((~own).float(), wanted)
        return [[pool[place] for place in column] for column in chosen.T.tolist()]

    def of_scores(self, scores: Tensor, rows: int) -> Tensor:
        """Return the loss of the scores of :meth:`candidates`."""
        logits = scores.view(-1, rows).T
        if self.activation_fn is not None:
            logits = self.activation_fn(logits)
        if self.scale:
            logits = logits * self.scale
        return functional.cross_entropy(logits, torch.zeros(rows, dtype=torch.long, device=logits.device))

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {
            "scale": self.scale, "num_negatives": self.num_negatives, "activation_fn": fullname(self.activation_fn)
        }  # fmt: skip
