"""Several evaluators one after the other, as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fourfold.errors import InputError
from fourfold.evaluation._base import BaseEvaluator


def _last(scores: Sequence[Any]) -> Any:
    return scores[-1]


class SequentialEvaluator(BaseEvaluator):
    """Run evaluators in turn and return all their numbers, with one that stands for all: ``sequential_score``.

    Args:
        evaluators: The evaluators; of two numbers of one name the later one stays.
        main_score_function: Makes the one number from a list of one a evaluator: its primary number, or its first if
            it names none. None given means the last evaluator's. Without evaluators it is 0.

    Raises:
        InputError: When called, if an evaluator does not return the number that it names as its primary one, or none.

    >>> both = SequentialEvaluator([lambda *_: {"one": 1.0}, lambda *_: {"two": 2.0}], main_score_function=sum)
    >>> both("a model")
    {'one': 1.0, 'two': 2.0, 'sequential_score': 3.0}
    """

    def __init__(self, evaluators: Iterable[Any], main_score_function: Callable[[list[Any]], Any] = _last) -> None:
        super().__init__()
        self.evaluators = list(evaluators)
        self.main_score_function = main_score_function

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> dict[str, Any]:
        """Run every evaluator with these arguments.

        Args:
            model: The model.
            output_path: Folder for files of results.
            epoch: Where training stands; -1 is outside of training.
            steps: Steps of the epoch so far; -1 is its end.
        """
        metrics: dict[str, Any] = {}
        scores = []
        for index, evaluator in enumerate(self.evaluators):
            found = evaluator(model, output_path, epoch, steps)
            if not isinstance(found, dict):
                found = {f"evaluator_{index}": found}
                scores.append(found[f"evaluator_{index}"])
            else:
                scores.append(_main_score(evaluator, found))
            metrics.update(found)
        self.primary_metric = "sequential_score"
        metrics[self.primary_metric] = self.main_score_function(scores) if scores else 0.0
        return metrics


def _main_score(evaluator: Any, found: dict[str, Any]) -> Any:
    primary = getattr(evaluator, "primary_metric", None)
    primary = next(iter(found), None) if primary is None else primary
    if primary not in found:
        names = ", ".join(found) or "no number"
        raise InputError(f"{type(evaluator).__name__} returned {names}; its primary_metric must be one: {primary!r}")
    return found[primary]
