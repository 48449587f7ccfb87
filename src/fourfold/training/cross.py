"""Training of cross encoders."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.families.cross import CrossEncoder
from fourfold.families.model_card import CrossEncoderModelCardData
from fourfold.losses.cross.binary_cross_entropy_loss import BinaryCrossEntropyLoss
from fourfold.losses.cross.cross_entropy_loss import CrossEntropyLoss
from fourfold.notices import warn_once
from fourfold.training._datasets import NAME_COLUMN, members
from fourfold.training.arguments import CrossEncoderTrainingArguments
from fourfold.training.callbacks.model_card import CrossEncoderModelCardCallback
from fourfold.training.collator import CrossEncoderDataCollator
from fourfold.training.trainer import BaseTrainer, logger

_ASIDE = ("label", "prompt", "task", NAME_COLUMN)


class CrossEncoderTrainer(BaseTrainer):
    """Trains cross encoders; the arguments are those of :class:`~fourfold.training.trainer.BaseTrainer`.

    The default loss is a :class:`~fourfold.cross_encoder.losses.BinaryCrossEntropyLoss` for a model with one label,
    else a :class:`~fourfold.cross_encoder.losses.CrossEntropyLoss`. Streams cannot be trained on.
    """

    model_class = CrossEncoder
    data_collator_class = CrossEncoderDataCollator
    training_args_class = CrossEncoderTrainingArguments
    model_card_data_class = CrossEncoderModelCardData
    model_card_callback_class = CrossEncoderModelCardCallback

    def _check_kinds(self, *datasets: Any) -> None:
        from datasets import IterableDataset

        for given in datasets:
            for _, dataset in members(given):
                if isinstance(dataset, IterableDataset):
                    raise InputError(
                        "a CrossEncoder cannot be trained on an IterableDataset, whose batches of texts processes "
                        "cannot share; use a Dataset"
                    )

    def get_default_loss(self, model: Any) -> nn.Module:
        """Return the loss that suits the number of labels."""
        return BinaryCrossEntropyLoss(model) if model.num_labels == 1 else CrossEntropyLoss(model)

    def collect_features(self, inputs: dict[str, Any]) -> tuple[list[list[Any]], Tensor | None]:  # type: ignore[override]
        """Return the texts of each column of a batch, and the labels."""
        return [value for key, value in inputs.items() if key not in _ASIDE], inputs.get("label")

    def _loss_of(self, loss_fn: Any, inputs: dict[str, Any]) -> Any:
        columns, labels = self.collect_features(inputs)
        given = {"prompt": inputs.get("prompt"), "task": inputs.get("task")}
        try:
            return loss_fn(columns, labels, **given)
        except TypeError as error:
            if not any(name in str(error) for name in given):
                raise
            warn_once(logger, f"{type(loss_fn).__name__} takes neither prompt nor task, and is called without")
            return loss_fn(columns, labels)
