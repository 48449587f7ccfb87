"""What the loops of the time before trainers share: a step, an evaluation, a checkpoint."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.store.manifest import MODULES_FILE
from fourfold.training import _losses
from fourfold.training._evaluating import named
from fourfold.training.legacy._settings import Settings
from fourfold.training.legacy.callbacks import score_of

logger = logging.getLogger(__name__)

# The score that any is better than, as scripts know it.
WORST = -9999999


class Steps:
    """The steps of one loss: its gradients, its optimizer and its scheduler.

    Args:
        module: What is trained.
        settings: Those of the training.
        steps: Steps of the whole training.
        device: Where it runs.

    Raises:
        InputError: If the scheduler's name is unknown.
    """

    def __init__(self, module: nn.Module, settings: Settings, *, steps: int, device: torch.device) -> None:
        self._module = module
        self._settings = settings
        self._device = device
        self._optimizer = settings.make_optimizer(module)
        self._scheduler = settings.make_scheduler(self._optimizer, steps)
        # Switched off, it hands losses and steps through.
        self._scaler = torch.amp.GradScaler(device.type, enabled=settings.use_amp)
        self._optimizer.zero_grad()

    def step(self, loss: Callable[[], Any]) -> None:
        """Make one step.

        Args:
            loss: Returns the loss of a batch, or its parts by name.
        """
        scaler, optimizer = self._scaler, self._optimizer
        with torch.autocast(self._device.type, enabled=self._settings.use_amp):
            total: Tensor = _losses.total(loss())
        scale = scaler.get_scale()
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(self._module.parameters(), self._settings.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        # A scale becomes smaller where gradients overflowed and the optimizer made no step.
        if scaler.get_scale() >= scale:
            self._scheduler.step()


class Evaluations:
    """Evaluates a model that is trained, and saves it when it is the best so far, as ``model.best_score`` tells.

    Args:
        model: The model.
        settings: Those of the training.
        folder: Folder for the evaluator's files, made if absent; None writes none.
    """

    def __init__(self, model: Any, settings: Settings, folder: str | Path | None) -> None:
        self._model = model
        self._settings = settings
        self._folder = None if folder is None else str(folder)
        if folder is not None and settings.evaluator is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        model.best_score = WORST
        self._begun = False

    def due(self, steps: int) -> bool:
        """Whether an evaluation comes after so many steps of an epoch."""
        return self._settings.evaluation_steps > 0 and steps % self._settings.evaluation_steps == 0

    def run(self, epoch: int, steps: int) -> None:
        """Evaluate, if there is an evaluator.

        Args:
            epoch: The epoch, counted from 0.
            steps: Steps of the epoch so far; -1 is its end.
        """
        evaluator, model = self._settings.evaluator, self._model
        if evaluator is None:
            return
        found = evaluator(model, output_path=self._folder, epoch=epoch, steps=steps)
        if self._settings.callback is not None:
            self._settings.callback(found, epoch, steps)
        metrics = named(found)
        score = score_of(metrics, evaluator)
        if score is None:
            raise InputError(
                f"{type(evaluator).__name__}.primary_metric is {evaluator.primary_metric!r}, and it returns "
                f"{', '.join(metrics)}"
            )
        # A lone number has always been the better the larger it is, whatever an evaluator's attributes say.
        less = isinstance(found, Mapping) and not getattr(evaluator, "greater_is_better", True)
        if self._is_better(score, less=less):
            self._begun = True
            model.best_score = score
            if self._settings.save_best_model and self._settings.output_path is not None:
                model.save(self._settings.output_path)

    def _is_better(self, score: float, *, less: bool) -> bool:
        if less:
            return not self._begun or score < self._model.best_score
        return score > self._model.best_score


class Endless:
    """Batches of a loader, which begins anew when it has no more.

    Args:
        loader: The loader.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        # At once: a loader draws a seed when it begins, and several do so one after the other before the first batch.
        self._batches: Iterator[Any] = iter(loader)

    def __next__(self) -> Any:
        for _ in range(2):
            try:
                return next(self._batches)
            except StopIteration:
                self._batches = iter(self._loader)
        raise InputError("a loader has no batches; there is nothing to train on")


def save_checkpoint(model: Any, folder: str | Path, step: int, limit: int) -> None:
    """Save a model into a folder named after a step, and remove those of the earliest steps.

    Args:
        model: The model.
        folder: Folder of the checkpoints.
        step: The step.
        limit: Checkpoints that are kept; 0 keeps all.
    """
    model.save(str(Path(folder, str(step))))
    if limit <= 0:
        return
    # Other folders may have numbers for names.
    found = [path for path in Path(folder).iterdir() if path.name.isdecimal() and (path / MODULES_FILE).is_file()]
    for path in sorted(found, key=lambda path: int(path.name))[:-limit]:
        logger.info("removing the checkpoint %s", path)
        shutil.rmtree(path)
