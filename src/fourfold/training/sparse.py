"""Training of sparse encoders."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from fourfold.families.model_card import SparseEncoderModelCardData
from fourfold.families.sparse import SparseEncoder
from fourfold.losses.sparse.sparse_multiple_negatives_ranking_loss import SparseMultipleNegativesRankingLoss
from fourfold.losses.sparse.splade_loss import SpladeLoss
from fourfold.training.arguments import SparseEncoderTrainingArguments
from fourfold.training.callbacks.model_card import SparseEncoderModelCardCallback
from fourfold.training.callbacks.splade_callbacks import SpladeRegularizerWeightSchedulerCallback
from fourfold.training.collator import SparseEncoderDataCollator
from fourfold.training.trainer import BaseTrainer

logger = logging.getLogger(__name__)


class SparseEncoderTrainer(BaseTrainer):
    """Trains sparse encoders; the arguments are those of :class:`~fourfold.training.trainer.BaseTrainer`.

    The default loss is a :class:`~fourfold.sparse_encoder.losses.SpladeLoss` of in-batch negatives. Whatever
    ``SpladeLoss`` is trained, its weights grow by a
    :class:`~fourfold.training.callbacks.splade_callbacks.SpladeRegularizerWeightSchedulerCallback`, which is added if
    none is given.
    """

    model_class = SparseEncoder
    data_collator_class = SparseEncoderDataCollator
    training_args_class = SparseEncoderTrainingArguments
    model_card_data_class = SparseEncoderModelCardData
    model_card_callback_class = SparseEncoderModelCardCallback

    def get_default_loss(self, model: Any) -> nn.Module:
        """Return a SpladeLoss of in-batch negatives."""
        return SpladeLoss(
            model,
            loss=SparseMultipleNegativesRankingLoss(model),
            query_regularizer_weight=5e-5,
            document_regularizer_weight=3e-5,
        )

    def prepare_loss(self, loss: Any, model: Any) -> nn.Module:
        """Return a loss on the model's device; a SpladeLoss gets a schedule of its weights."""
        prepared = super().prepare_loss(loss, model)
        if isinstance(prepared, SpladeLoss):
            self._schedule(prepared)
        return prepared

    def _schedule(self, loss: SpladeLoss) -> None:
        """Let the loss's schedule come before what logs, which shows its weights then."""
        callbacks = self.callback_handler.callbacks
        own = [
            callback
            for callback in callbacks
            if isinstance(callback, SpladeRegularizerWeightSchedulerCallback) and callback.loss is loss
        ]
        if any(callback in callbacks[:2] for callback in own):
            return
        if own:
            callbacks.remove(own[0])
        else:
            logger.warning(
                "the weights of the SpladeLoss grow during the first third of the training, by a "
                "SpladeRegularizerWeightSchedulerCallback; give one as a callback for another schedule"
            )
        callbacks.insert(1, own[0] if own else SpladeRegularizerWeightSchedulerCallback(loss))
