"""``SentenceTransformer.fit`` and ``old_fit``: training on loaders of examples, by a trainer and by a loop."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn
from tqdm.auto import trange

from fourfold.errors import InputError, require_training
from fourfold.families._dense_legacy import DenseLegacy as FitMixin
from fourfold.ops.device import batch_to_device
from fourfold.training import _checkpoints
from fourfold.training.arguments import SentenceTransformerTrainingArguments
from fourfold.training.dense import SentenceTransformerTrainer
from fourfold.training.legacy import _examples
from fourfold.training.legacy._loop import Endless, Evaluations, Steps, save_checkpoint
from fourfold.training.legacy._settings import Settings, free_folder
from fourfold.training.legacy.callbacks import EvaluatorCallback, OriginalCallback, SaveModelCallback
from fourfold.training.samplers import MultiDatasetBatchSamplers

__all__ = ["EvaluatorCallback", "FitMixin", "OriginalCallback", "SaveModelCallback", "fit", "old_fit"]

logger = logging.getLogger(__name__)


def fit(
    model: Any,
    train_objectives: Iterable[tuple[Any, nn.Module]],
    *,
    steps_per_epoch: int | None = None,
    checkpoint_path: str | None = None,
    checkpoint_save_steps: int = 500,
    checkpoint_save_total_limit: int = 0,
    resume_from_checkpoint: bool = False,
    **settings: Any,
) -> None:
    """Train a dense encoder by a trainer, as :meth:`SentenceTransformer.fit` says.

    Args:
        model: The encoder.
        train_objectives: Loaders of examples, each with its loss.
        steps_per_epoch: Steps after which a training of one epoch ends; None trains to its end.
        checkpoint_path: Folder for checkpoints; None writes none.
        checkpoint_save_steps: Steps between checkpoints.
        checkpoint_save_total_limit: Checkpoints that are kept; 0 keeps all.
        resume_from_checkpoint: Whether to go on from the last checkpoint of ``checkpoint_path``.
        **settings: Those of :class:`~fourfold.training.legacy._settings.Settings`.

    Raises:
        InputError: If an argument or a loader is unusable.
        MissingTrainingError: If a package of the extra ``train`` is missing.
    """
    require_training(f"{type(model).__name__}.fit")
    from datasets import DatasetDict

    chosen = Settings(**settings)
    chosen.check_for_trainer()
    loaders, losses = _objectives(train_objectives)
    names = [f"_dataset_{number}" for number in range(1, len(loaders) + 1)]
    datasets = DatasetDict({name: _examples.read(loader) for name, loader in zip(names, loaders, strict=True)})
    max_steps = _max_steps(steps_per_epoch, chosen.epochs)
    batch_size = _examples.batch_size(loaders[-1])
    arguments = SentenceTransformerTrainingArguments(
        output_dir=free_folder() if checkpoint_path is None else str(checkpoint_path),
        max_steps=max_steps,
        batch_sampler=_examples.batch_sampler(loaders[-1]),
        multi_dataset_batch_sampler=MultiDatasetBatchSamplers.ROUND_ROBIN,
        save_strategy="no" if checkpoint_path is None else "steps",
        save_steps=checkpoint_save_steps,
        save_total_limit=checkpoint_save_total_limit,
        **chosen.trainer_arguments(batch_size),
    )
    optimizer = chosen.make_optimizer(*losses)
    steps = max_steps
    if max_steps < 0:
        steps = min(len(dataset) // batch_size for dataset in datasets.values()) * chosen.epochs * len(datasets)
    callbacks, evaluating = chosen.trainer_callbacks()
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets,
        loss=dict(zip(names, losses, strict=True)),
        evaluator=chosen.evaluator,
        callbacks=callbacks,
        optimizers=(optimizer, chosen.make_scheduler(optimizer, steps)),
    )
    if evaluating is not None:
        evaluating.trainer = trainer
    if chosen.output_path is not None:
        # After the callback of the model's card, so that a saved card has the results that it is saved for.
        trainer.add_callback(SaveModelCallback(chosen.output_path, chosen.evaluator, chosen.save_best_model))
    trainer.train(resume_from_checkpoint=_last_checkpoint(checkpoint_path) if resume_from_checkpoint else None)


def old_fit(
    model: Any,
    train_objectives: Iterable[tuple[Any, nn.Module]],
    *,
    steps_per_epoch: int | None = None,
    checkpoint_path: str | None = None,
    checkpoint_save_steps: int = 500,
    checkpoint_save_total_limit: int = 0,
    **settings: Any,
) -> None:
    """Train a dense encoder by a loop of its own, as :meth:`SentenceTransformer.old_fit` says.

    Args:
        model: The encoder.
        train_objectives: Loaders of examples, each with its loss.
        steps_per_epoch: Steps of an epoch; None is as many as the smallest loader has batches.
        checkpoint_path: Folder for checkpoints; None writes none.
        checkpoint_save_steps: Steps between checkpoints.
        checkpoint_save_total_limit: Checkpoints that are kept; 0 keeps all.
        **settings: Those of :class:`~fourfold.training.legacy._settings.Settings`.

    Raises:
        InputError: If an argument or a loader is unusable.
    """
    chosen = Settings(**settings)
    loaders, losses = _objectives(train_objectives)
    output = chosen.output_path
    evaluations = Evaluations(model, chosen, None if output is None else Path(output, "eval"))
    steps_per_epoch = steps_per_epoch or min(map(len, loaders))
    total = int(steps_per_epoch * chosen.epochs)
    quiet = not chosen.show_progress_bar
    moved = [loss.to(model.device) for loss in losses]
    trained = [Steps(loss, chosen, steps=total, device=model.device) for loss in moved]
    done = 0
    with _examples.collating(loaders, model.smart_batching_collate):
        batches = [Endless(loader) for loader in loaders]
        for epoch in trange(chosen.epochs, desc="Epoch", disable=quiet):
            _to_train(moved)
            for step in trange(1, steps_per_epoch + 1, desc="Iteration", disable=quiet):
                for loss, steps, source in zip(moved, trained, batches, strict=True):
                    _train(model, loss, steps, next(source))
                done += 1
                if evaluations.due(step):
                    evaluations.run(epoch, step)
                    _to_train(moved)
                if checkpoint_path is not None and checkpoint_save_steps and done % checkpoint_save_steps == 0:
                    save_checkpoint(model, checkpoint_path, done, checkpoint_save_total_limit)
                    _to_train(moved)
            evaluations.run(epoch, -1)
    if chosen.evaluator is None and output is not None:
        model.save(output)
    if checkpoint_path is not None:
        save_checkpoint(model, checkpoint_path, done, checkpoint_save_total_limit)


def _train(model: Any, loss: nn.Module, steps: Steps, batch: Any) -> None:
    """Make a step with a batch that the model's ``smart_batching_collate`` made."""
    features, labels = batch
    columns = [batch_to_device(column, model.device) for column in features]
    steps.step(lambda: loss(columns, labels.to(model.device)))


def _to_train(losses: Iterable[nn.Module]) -> None:
    """Switch models to training, from which evaluating and saving switch them."""
    for loss in losses:
        loss.train()


def _objectives(given: Iterable[tuple[Any, nn.Module]]) -> tuple[list[Any], list[nn.Module]]:
    pairs = list(given)
    if not pairs:
        raise InputError("train_objectives is empty; it is a list of pairs (loader of examples, loss)")
    return [loader for loader, _ in pairs], [loss for _, loss in pairs]


def _max_steps(steps_per_epoch: int | None, epochs: int) -> int:
    """Return the steps after which a trainer ends, or -1 if it goes through its epochs."""
    if not steps_per_epoch:
        return -1
    if epochs == 1:
        return steps_per_epoch
    logger.warning(
        "steps_per_epoch=%d has no effect with epochs=%d: each epoch is trained to its end. It has one with epochs=1, "
        "and with old_fit()",
        steps_per_epoch,
        epochs,
    )
    return -1


def _last_checkpoint(folder: str | None) -> str | None:
    """Return the last checkpoint of a folder that was written to its end, or None, of which the log tells."""
    if folder is None:
        logger.warning("resume_from_checkpoint=True needs checkpoint_path, where checkpoints are; starting anew")
        return None
    try:
        return _checkpoints.last_whole(folder)
    except InputError:
        logger.warning("there is no checkpoint in %s to resume from; starting anew", folder)
        return None
