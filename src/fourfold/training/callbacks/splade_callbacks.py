"""The regularisers of a SPLADE training grow with its steps."""

from __future__ import annotations

import logging
from enum import Enum
from typing import Any

from transformers import TrainerCallback

from fourfold.errors import InputError
from fourfold.losses.sparse.splade_loss import SpladeLoss

logger = logging.getLogger(__name__)

_SIDES = ("document_regularizer_weight", "query_regularizer_weight")


class SchedulerType(Enum):
    """How weights grow: with the step, or with its square."""

    LINEAR = "linear"
    QUADRATIC = "quadratic"


class SpladeRegularizerWeightSchedulerCallback(TrainerCallback):
    """Lets the weights of a loss's regularisers grow from 0 to what they were given as.

    A model that must be sparse from the first step finds it easiest to say nothing at all. Of the first
    ``warmup_ratio`` of all steps, step ``s`` of ``n`` has the weight times ``s / n`` or ``(s / n)²``. Paper:
    *SPLADE: Sparse Lexical and Expansion Model for First Stage Ranking*, 2021.

    Args:
        loss: The loss, whose weights are changed while it is trained.
        scheduler_type: ``quadratic`` or ``linear``.
        warmup_ratio: Share of the steps in which weights grow.

    Raises:
        InputError: If the loss is no ``SpladeLoss``.
    """

    def __init__(
        self,
        loss: SpladeLoss,
        scheduler_type: str | SchedulerType = SchedulerType.QUADRATIC,
        warmup_ratio: float = 1 / 3,
    ) -> None:
        super().__init__()
        if not isinstance(loss, SpladeLoss):
            raise InputError(f"loss must be a SpladeLoss, whose regularisers have weights; got {type(loss).__name__}")
        self.loss = loss
        try:
            self.scheduler_type = SchedulerType(scheduler_type)
        except ValueError:
            logger.warning("scheduler_type must be 'linear' or 'quadratic', got %r; quadratic is used", scheduler_type)
            self.scheduler_type = SchedulerType.QUADRATIC
        if not 0 < warmup_ratio <= 1:
            logger.warning("warmup_ratio must be above 0 and at most 1, got %s; 1/3 is used", warmup_ratio)
            warmup_ratio = 1 / 3
        self.warmup_ratio = warmup_ratio
        self.weights = {side: getattr(loss, side) for side in _SIDES}
        self.warmup_steps = 1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find out how many steps weights grow, and let them begin at 0."""
        self.warmup_steps = max(1, int(state.max_steps * self.warmup_ratio))
        self._set(0.0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the weights of a step."""
        grown = min(state.global_step / self.warmup_steps, 1.0)
        self._set(grown**2 if self.scheduler_type is SchedulerType.QUADRATIC else grown)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Show the weights in the log."""
        if logs is not None:
            logs.update({side: getattr(self.loss, side) for side, weight in self.weights.items() if weight is not None})

    def _set(self, share: float) -> None:
        for side, weight in self.weights.items():
            if weight is not None:
                setattr(self.loss, side, weight * share)
