"""The bar of a training, with the last loss in it, and a short line for each evaluation."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

_ASIDE = ("_runtime", "_samples_per_second", "_steps_per_second")
_MOST = 4  # numbers in a line


def show_on(trainer: Any) -> TrainingBar:
    """Let a trainer show its steps in one bar, in place of what transformers shows, and return it."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    bar = TrainingBar(trainer)
    trainer.add_callback(bar)
    return bar


def primary_of(trainer: Any) -> list[str]:
    """Return the keys, as they are logged, of the numbers that stand for each evaluator; known once it was called."""
    evaluators = getattr(trainer.evaluator, "evaluators", [trainer.evaluator])
    names = (getattr(evaluator, "primary_metric", None) for evaluator in evaluators)
    return [f"eval_{name}" for name in names if name]


class TrainingBar(TrainerCallback):
    """A bar of steps for a terminal, and a line for each evaluation.

    Args:
        trainer: Whose evaluators' main numbers come first in a line.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar, from the step that the training goes on from."""
        # disable=None: the bar is for a terminal, and stays out of logs.
        hidden = True if args.disable_tqdm or not state.is_world_process_zero else None
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", disable=hidden)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on to this step."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n if not self._bar.disable else 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Put the loss behind the bar."""
        if self._bar is not None and "loss" in (logs or {}):
            self._bar.set_postfix_str(f"loss {_short(logs['loss'])}", refresh=False)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Write a line with the numbers of an evaluation."""
        if not state.is_world_process_zero or not metrics:
            return
        first = primary_of(self._trainer)
        ordered = sorted(metrics, key=lambda key: (not key.endswith("loss"), key not in first))
        found = {key.removeprefix("eval_"): metrics[key] for key in ordered if key.startswith("eval_")}
        kept = {k: v for k, v in found.items() if isinstance(v, (int, float)) and not f"_{k}".endswith(_ASIDE)}
        shown = [f"{key} {_short(value)}" for key, value in list(kept.items())[:_MOST]]
        more = f", and {len(kept) - _MOST} more" if len(kept) > _MOST else ""
        tqdm.write(f"fourfold: step {state.global_step:,}: {', '.join(shown)}{more}", file=sys.stderr)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Leave the line of the bar, also where a training ends in the middle."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
