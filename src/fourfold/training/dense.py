"""Training of dense encoders."""

from __future__ import annotations

from typing import Any

from torch import nn

from fourfold.families.dense import SentenceTransformer
from fourfold.families.model_card import SentenceTransformerModelCardData
from fourfold.losses.cosent_loss import CoSENTLoss
from fourfold.training.arguments import SentenceTransformerTrainingArguments
from fourfold.training.callbacks.model_card import SentenceTransformerModelCardCallback
from fourfold.training.collator import SentenceTransformerDataCollator
from fourfold.training.trainer import BaseTrainer


class SentenceTransformerTrainer(BaseTrainer):
    """Trains dense encoders; the arguments are those of :class:`~fourfold.training.trainer.BaseTrainer`.

    The default loss is :class:`~fourfold.losses.CoSENTLoss`.
    """

    model_class = SentenceTransformer
    data_collator_class = SentenceTransformerDataCollator
    training_args_class = SentenceTransformerTrainingArguments
    model_card_data_class = SentenceTransformerModelCardData
    model_card_callback_class = SentenceTransformerModelCardCallback

    def get_default_loss(self, model: Any) -> nn.Module:
        """Return a CoSENTLoss."""
        return CoSENTLoss(model)
