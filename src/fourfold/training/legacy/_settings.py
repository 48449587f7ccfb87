"""What every training of the older interface is told, and what follows from it: optimizer, scheduler, folders."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, get_scheduler

from fourfold.errors import InputError, InputTypeError, did_you_mean
from fourfold.training.legacy.callbacks import EvaluatorCallback, OriginalCallback

# The names of transformers' schedulers, by those of this interface.
SCHEDULERS = {
    "constantlr": "constant",
    "warmupconstant": "constant_with_warmup",
    "warmuplinear": "linear",
    "warmupcosine": "cosine",
    "warmupcosinewithhardrestarts": "cosine_with_restarts",
}

_NO_DECAY = ("bias", "LayerNorm.weight")
_FOLDER = Path("checkpoints", "model")


@dataclass(frozen=True)
class Settings:
    """What every training of the older interface is told.

    Attributes:
        evaluator: Called with the model at each epoch's end; None evaluates nothing.
        epochs: Passes over the examples.
        scheduler: A key of :data:`SCHEDULERS`, in any case; the older loops also take an object with ``step()``.
        warmup_steps: Steps in which the learning rate grows from 0.
        optimizer_class: Class of the optimizer.
        optimizer_params: Its arguments.
        weight_decay: That of all parameters except biases and the weights of layers named ``LayerNorm``.
        evaluation_steps: Steps between evaluations within an epoch; 0 is none.
        output_path: Folder for the model and the evaluator's files; None writes nothing.
        save_best_model: Whether the model is saved when it is better than before.
        max_grad_norm: Longest gradient; a longer one is shortened to it.
        use_amp: Whether to compute in half precision.
        callback: Called with score, epoch and steps after each evaluation.
        show_progress_bar: Whether to show bars.
    """

    evaluator: Any = None
    epochs: int = 1
    scheduler: Any = "WarmupLinear"
    warmup_steps: int = 10000
    optimizer_class: type[torch.optim.Optimizer] = torch.optim.AdamW
    optimizer_params: dict[str, Any] = field(default_factory=lambda: {"lr": 2e-5})
    weight_decay: float = 0.01
    evaluation_steps: int = 0
    output_path: str | None = None
    save_best_model: bool = True
    max_grad_norm: float = 1
    use_amp: bool = False
    callback: Callable[[float, int, int], None] | None = None
    show_progress_bar: bool = True

    def make_optimizer(self, *modules: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of all parameters of some modules."""
        return self.optimizer_class(parameter_groups(modules, self.weight_decay), **self.optimizer_params)

    def make_scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        """Return the scheduler of an optimizer, or the object that was given for one.

        Args:
            optimizer: The optimizer.
            steps: Steps of the whole training.

        Raises:
            InputError: If its name is unknown.
        """
        if not isinstance(self.scheduler, str):
            return self.scheduler
        name = self.scheduler.lower()
        if name not in SCHEDULERS:
            raise InputError(
                f"scheduler must be one of {', '.join(SCHEDULERS)}, in any case; got {self.scheduler!r}."
                f"{did_you_mean(name, SCHEDULERS)}"
            )
        return get_scheduler(SCHEDULERS[name], optimizer, self.warmup_steps, steps)

    def check_for_trainer(self) -> None:
        """Raise an error for what the older loops take and a trainer cannot."""
        if not isinstance(self.scheduler, str):
            raise InputTypeError(
                f"fit() takes a scheduler by its name, one of {', '.join(SCHEDULERS)}; got a "
                f"{type(self.scheduler).__name__}. old_fit() takes an object with step(), and so does a trainer, as "
                "optimizers=(optimizer, scheduler)"
            )
        if self.evaluation_steps > 0 and self.evaluator is None:
            raise InputError(f"evaluation_steps={self.evaluation_steps} needs an evaluator; 0 evaluates nothing")

    def trainer_arguments(self, batch_size: int) -> dict[str, Any]:
        """Return the arguments of a trainer that mean the same.

        Args:
            batch_size: Rows of a batch.
        """
        return {
            "num_train_epochs": self.epochs,
            "per_device_train_batch_size": batch_size,
            "per_device_eval_batch_size": batch_size,
            "eval_strategy": "steps" if self.evaluation_steps > 0 else "no",
            "eval_steps": self.evaluation_steps,
            "max_grad_norm": self.max_grad_norm,
            "fp16": self.use_amp,
            "disable_tqdm": not self.show_progress_bar,
        }

    def trainer_callbacks(self) -> tuple[list[TrainerCallback], EvaluatorCallback | None]:
        """Return the callbacks that a trainer is built with, and the one of them that evaluates."""
        if self.evaluator is None:
            return [], None
        evaluating = EvaluatorCallback(self.evaluator, self.output_path)
        reporting = [] if self.callback is None else [OriginalCallback(self.callback, self.evaluator)]
        return [evaluating, *reporting], evaluating


def parameter_groups(modules: Iterable[nn.Module], weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters of some modules, each once, in a group with weight decay and one without.

    Args:
        modules: The modules.
        weight_decay: That of the first group. The second has biases and the weights of layers named ``LayerNorm``.
    """
    named = {id(parameter): (name, parameter) for module in modules for name, parameter in module.named_parameters()}
    groups: tuple[list[Any], list[Any]] = ([], [])
    for name, parameter in named.values():
        groups[any(part in name for part in _NO_DECAY)].append(parameter)
    return [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in zip(groups, (weight_decay, 0.0), strict=True)
    ]


def free_folder() -> str:
    """Return the first of ``checkpoints/model``, ``checkpoints/model_1``, ... that is not there yet."""
    names = itertools.chain([_FOLDER], (_FOLDER.with_name(f"{_FOLDER.name}_{number}") for number in itertools.count(1)))
    return str(next(folder for folder in names if not folder.exists()))
