"""Pairs that have one of several labels."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from fourfold.losses._base import Takes
from fourfold.losses.cross._pairs import PairLoss


class CrossEntropyLoss(PairLoss):
    """The cross entropy of the scores of several labels.

    Columns: two texts; labels: the number of a class, or the share of each.

    Args:
        model: A cross encoder.
        activation_fn: Applied to the scores; None changes nothing.
        **kwargs: Arguments of ``torch.nn.CrossEntropyLoss``.

    Raises:
        InputError: If the model is another, or a batch has not two columns and one label a row.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "two texts", "the class of the pair")

    def __init__(self, model: Any, activation_fn: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(model, activation_fn, one_label=False)
        self.ce_loss = nn.CrossEntropyLoss(**kwargs)

    def forward(
        self, inputs: list[list[Any]], labels: Tensor | None, prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        """Return the loss of two columns of texts."""
        pairs, labels = self.pairs_of(inputs, labels)
        logits = self.activation_fn(self.scores(pairs, prompt, task))
        labels = labels.to(logits.device)
        if labels.is_floating_point():
            return self.ce_loss(logits, labels.to(logits.dtype))
        return self.ce_loss(logits, labels.view(-1) if labels.shape != logits.shape else labels)
