"""What a trainer calls so that it evaluates, reports and saves as the older training interface does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from fourfold.errors import InputError
from fourfold.training._evaluating import named

_PREFIX = "eval_"
_SCORE = "evaluator"


def score_of(metrics: Mapping[str, Any], evaluator: Any) -> float | None:
    """Return the number that stands for an evaluation, or None if it was not this evaluator's.

    It is the evaluator's primary metric, whatever stands before its name, or the only number that it returns.

    Args:
        metrics: What the evaluation found.
        evaluator: The evaluator.

    Raises:
        InputError: If the evaluator returns several numbers and does not say which one it is.
    """
    primary = getattr(evaluator, "primary_metric", None)
    if primary:
        for name in (_PREFIX + primary, primary):
            if name in metrics:
                return metrics[name]
        for name, value in metrics.items():
            if name.endswith(primary):
                return value
    if (score := metrics.get(_PREFIX + _SCORE)) is not None:
        return score
    if primary:
        return None
    raise InputError(
        f"{type(evaluator).__name__} returns {', '.join(metrics)} and does not say which number is the score; set its "
        "attribute primary_metric"
    )


class EvaluatorCallback(TrainerCallback):
    """Evaluates at the end of each epoch.

    Args:
        evaluator: Called with the model, ``output_path``, ``epoch`` and ``steps``.
        output_path: Folder whose folder ``eval`` the evaluator writes into, made if absent; None writes nothing.

    Attributes:
        trainer: The trainer whose other callbacks are told of the results; None, as at first, tells nobody.
    """

    def __init__(self, evaluator: Any, output_path: str | None = None) -> None:
        super().__init__()
        self.evaluator = evaluator
        self.output_path = None if output_path is None else str(Path(output_path, "eval"))
        self.trainer: Any = None
        if self.output_path is not None:
            Path(self.output_path).mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> Any:
        """Evaluate, and tell the trainer's callbacks."""
        folder = self.output_path if state.is_world_process_zero else None
        found = self.evaluator(model, output_path=folder, epoch=state.epoch, steps=state.global_step)
        if self.trainer is None:
            return control
        return self.trainer.callback_handler.on_evaluate(args, state, control, named(found))


class OriginalCallback(TrainerCallback):
    """Calls a function with score, epoch and steps after each evaluation.

    Args:
        callback: The function.
        evaluator: The evaluator, whose primary metric is the score.
    """

    def __init__(self, callback: Callable[[float, int, int], None], evaluator: Any) -> None:
        super().__init__()
        self.callback = callback
        self.evaluator = evaluator

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Call the function."""
        score = score_of(metrics or {}, self.evaluator)
        if score is not None:
            self.callback(score, state.epoch, state.global_step)


class SaveModelCallback(TrainerCallback):
    """Saves the model when its score is the best so far; without an evaluator, when training ends.

    Args:
        output_dir: Folder of the model.
        evaluator: Says which number is the score, and whether a larger one is better; None saves at the end.
        save_best_model: Whether to save the best model; False with an evaluator saves nothing.

    Attributes:
        best_metric: The best score so far; None before the first.
    """

    def __init__(self, output_dir: str, evaluator: Any, save_best_model: bool) -> None:
        super().__init__()
        self.output_dir = output_dir
        self.evaluator = evaluator
        self.save_best_model = save_best_model
        self.best_metric: float | None = None

    def is_better(self, new_metric: float) -> bool:
        """Whether a score is better than the best so far; an equal one is not, and any is better than no number."""
        if self.best_metric is None or math.isnan(self.best_metric):
            return True
        if getattr(self.evaluator, "greater_is_better", True):
            return new_metric > self.best_metric
        return new_metric < self.best_metric

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Save the model if its score is the best so far."""
        if self.evaluator is None or not self.save_best_model:
            return
        score = score_of(metrics or {}, self.evaluator)
        if score is not None and self.is_better(score):
            self.best_metric = score
            self._save(state, model)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Save the model if there is no evaluator to say which one is the best."""
        if self.evaluator is None:
            self._save(state, model)

    def _save(self, state: Any, model: Any) -> None:
        if state.is_world_process_zero:
            model.save(self.output_dir)
