"""What losses of cross encoders share: columns of texts become pairs, and pairs scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.losses._base import Takes, check_columns, check_labels
from fourfold.ops.device import batch_to_device
from fourfold.ops.names import fullname


class PairLoss(nn.Module):
    """A loss on the scores of pairs of texts.

    Args:
        model: A cross encoder.
        activation_fn: Applied to the scores; None changes nothing.
        one_label: Whether the model must give one score a pair.

    Raises:
        InputError: If it is no cross encoder, or gives several scores where one is needed.
    """

    takes: ClassVar[Takes | None] = None

    def __init__(self, model: Any, activation_fn: nn.Module | None = None, *, one_label: bool = True) -> None:
        super().__init__()
        self.model = model
        self.activation_fn = nn.Identity() if activation_fn is None else activation_fn
        name = type(self).__name__
        if getattr(model, "model_type", None) != "CrossEncoder":
            raise InputError(f"{name} needs a CrossEncoder, got {type(model).__name__}")
        if one_label and model.num_labels != 1:
            raise InputError(f"{name} needs a model with one label, this one has {model.num_labels}")

    def scores(self, pairs: Sequence[Any], prompt: str | None = None, task: str | None = None) -> Tensor:
        """Return the model's scores ``[pairs, labels]``, before any activation."""
        given = {name: value for name, value in (("prompt", prompt), ("task", task)) if value is not None}
        features = self.model.batch_features(list(pairs), **given)
        return self.model(batch_to_device(features, self.model.device))["scores"]

    def pairs_of(self, inputs: Sequence[Sequence[Any]], labels: Tensor | None) -> tuple[list[list[Any]], Tensor]:
        """Return the pairs of two columns, and their labels.

        Raises:
            InputError: If there are other columns, or not one label a row.
        """
        check_columns(self, inputs)
        return [list(pair) for pair in zip(*inputs, strict=True)], check_labels(self, labels, len(inputs[0]))

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {"activation_fn": fullname(self.activation_fn)}
