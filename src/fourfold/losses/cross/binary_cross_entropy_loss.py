"""Pairs that belong together, or not."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from fourfold.losses._base import Takes
from fourfold.losses.cross._pairs import PairLoss


class BinaryCrossEntropyLoss(PairLoss):
    """The binary cross entropy of scores with labels of 0 to 1.

    Columns: two texts; labels: 0 or 1, or a share.

    Args:
        model: A cross encoder with one label.
        activation_fn: Applied to the scores before the sigmoid that is part of the loss; None changes nothing.
        pos_weight: Weight of pairs with label 1.
        **kwargs: Further arguments of ``torch.nn.BCEWithLogitsLoss``.

    Raises:
        InputError: If the model is another, or a batch has not two columns and one label a row.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "two texts", "a score")

    def __init__(
        self, model: Any, activation_fn: nn.Module | None = None, pos_weight: Tensor | None = None, **kwargs: Any
    ) -> None:
        super().__init__(model, activation_fn)
        self.pos_weight = pos_weight
        self.bce_with_logits_loss = nn.BCEWithLogitsLoss(pos_weight=pos_weight, **kwargs)

    def forward(
        self, inputs: list[list[Any]], labels: Tensor | None, prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        """Return the loss of two columns of texts."""
        pairs, labels = self.pairs_of(inputs, labels)
        logits = self.activation_fn(self.scores(pairs, prompt, task).view(-1))
        return self.bce_with_logits_loss(logits, labels.to(logits))

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        weight = None if self.pos_weight is None else self.pos_weight.item()
        return {**super().get_config_dict(), "pos_weight": weight}
