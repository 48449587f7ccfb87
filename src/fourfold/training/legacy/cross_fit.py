"""``CrossEncoder.fit`` and ``old_fit``: training on a loader of examples, by a trainer and by a loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn
from tqdm.auto import tqdm, trange

from fourfold.errors import require_training
from fourfold.families._cross_legacy import CrossLegacy as FitMixin
from fourfold.losses._base import Takes
from fourfold.losses.cross._pairs import PairLoss
from fourfold.losses.cross.binary_cross_entropy_loss import BinaryCrossEntropyLoss
from fourfold.losses.cross.cross_entropy_loss import CrossEntropyLoss
from fourfold.ops.names import fullname
from fourfold.training.arguments import CrossEncoderTrainingArguments
from fourfold.training.cross import CrossEncoderTrainer
from fourfold.training.legacy import _examples
from fourfold.training.legacy import callbacks as _callbacks
from fourfold.training.legacy._loop import Evaluations, Steps
from fourfold.training.legacy._settings import Settings, free_folder
from fourfold.training.legacy.callbacks import EvaluatorCallback, OriginalCallback

__all__ = [
    "EvaluatorCallback",
    "FitMixin",
    "FitMixinLoss",
    "OriginalCallback",
    "SaveModelCallback",
    "fit",
    "old_fit",
]

logger = logging.getLogger(__name__)

_Loss = Callable[[Tensor, Tensor], Tensor]


class SaveModelCallback(_callbacks.SaveModelCallback):
    """Saves the model when its score is the best so far; without an evaluator, never.

    Args:
        output_dir: Folder of the model.
        evaluator: Says which number is the score, and whether a larger one is better; None saves nothing.
        save_best_model: Whether to save the best model.
    """

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Do nothing: this family's training without an evaluator leaves saving to its caller."""


class FitMixinLoss(PairLoss):
    """Any function of scores and labels, as a loss of pairs.

    Columns: two texts; labels: a number, or the number of a class. For a model with one label the function gets scores
    and floats ``[rows]``, else scores ``[rows, labels]`` and integers ``[rows]``.

    Args:
        model: A cross encoder.
        loss_fct: The function, such as a loss of torch.
        activation_fn: Applied to the scores before.

    Raises:
        InputError: If it is no cross encoder, or a batch has not two columns and one label a row.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "two texts", "a number")

    def __init__(self, model: Any, loss_fct: _Loss, activation_fn: nn.Module | None = None) -> None:
        super().__init__(model, activation_fn, one_label=False)
        self.loss_fct = loss_fct

    def forward(
        self, inputs: list[list[Any]], labels: Tensor | None, prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        """Return the loss of two columns of texts."""
        pairs, labels = self.pairs_of(inputs, labels)
        logits = self.activation_fn(self.scores(pairs, prompt, task))
        one = self.model.num_labels == 1
        return self.loss_fct(logits.view(-1) if one else logits, labels.to(logits) if one else labels.long())

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {"loss_fct": fullname(self.loss_fct), **super().get_config_dict()}


def fit(
    model: Any,
    train_dataloader: Any,
    *,
    loss_fct: _Loss | None = None,
    activation_fct: nn.Module | None = None,
    **settings: Any,
) -> None:
    """Train a cross encoder by a trainer, as :meth:`CrossEncoder.fit` says.

    Args:
        model: The encoder.
        train_dataloader: Loader of examples.
        loss_fct: Makes a loss of scores and labels; None is the binary cross entropy for one label, else the cross
            entropy.
        activation_fct: Applied to the scores before; None changes nothing.
        **settings: Those of :class:`~fourfold.training.legacy._settings.Settings`.

    Raises:
        InputError: If an argument or the loader is unusable.
        MissingTrainingError: If a package of the extra ``train`` is missing.
    """
    require_training(f"{type(model).__name__}.fit")
    chosen = Settings(**settings)
    chosen.check_for_trainer()
    dataset = _examples.read(train_dataloader)
    batch_size = _examples.batch_size(train_dataloader)
    if loss_fct is not None:
        loss: nn.Module = FitMixinLoss(model, loss_fct, activation_fct)
    else:
        loss = (BinaryCrossEntropyLoss if model.num_labels == 1 else CrossEntropyLoss)(model, activation_fct)
    arguments = CrossEncoderTrainingArguments(
        output_dir=free_folder(),
        batch_sampler=_examples.batch_sampler(train_dataloader),
        save_strategy="no",
        **chosen.trainer_arguments(batch_size),
    )
    optimizer = chosen.make_optimizer(loss)
    scheduler = chosen.make_scheduler(optimizer, len(dataset) // batch_size * chosen.epochs)
    # That at an epoch's end is not told of the trainer, and so writes its files, and neither reports nor saves.
    callbacks, _ = chosen.trainer_callbacks()
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        loss=loss,
        evaluator=chosen.evaluator,
        callbacks=callbacks,
        optimizers=(optimizer, scheduler),
    )
    if chosen.output_path is not None:
        _tell_of_saving(chosen)
        trainer.add_callback(SaveModelCallback(chosen.output_path, chosen.evaluator, chosen.save_best_model))
    trainer.train()


def _tell_of_saving(chosen: Settings) -> None:
    """Warn where no model will be saved although there is a folder for one."""
    if chosen.save_best_model and (chosen.evaluator is None or chosen.evaluation_steps <= 0):
        logger.warning(
            "no model will be saved to %s: fit() of a cross encoder saves what an evaluation within an epoch finds to "
            "be better, which needs an evaluator and evaluation_steps; call model.save(path) afterwards",
            chosen.output_path,
        )


def old_fit(
    model: Any,
    train_dataloader: Any,
    *,
    loss_fct: _Loss | None = None,
    activation_fct: nn.Module | None = None,
    **settings: Any,
) -> None:
    """Train a cross encoder by a loop of its own, as :meth:`CrossEncoder.old_fit` says.

    Args:
        model: The encoder.
        train_dataloader: Loader of examples.
        loss_fct: Makes a loss of scores and labels; None is the binary cross entropy for one label, else the cross
            entropy.
        activation_fct: Applied to the scores before; None changes nothing.
        **settings: Those of :class:`~fourfold.training.legacy._settings.Settings`.

    Raises:
        InputError: If an argument is unusable.
    """
    chosen = Settings(**settings)
    evaluations = Evaluations(model, chosen, chosen.output_path)
    if loss_fct is None:
        loss_fct = nn.BCEWithLogitsLoss() if model.num_labels == 1 else nn.CrossEntropyLoss()
    if isinstance(loss_fct, nn.Module):
        loss_fct = loss_fct.to(model.device)
    activation = nn.Identity() if activation_fct is None else activation_fct
    steps = Steps(model, chosen, steps=len(train_dataloader) * chosen.epochs, device=model.device)
    quiet = not chosen.show_progress_bar
    with _examples.collating([train_dataloader], model.smart_batching_collate):
        for epoch in trange(chosen.epochs, desc="Epoch", disable=quiet):
            model.train()
            # Numbered inside the bar: a bar around the loader itself begins it twice, and each draws a seed.
            batches = enumerate(train_dataloader, start=1)
            for step, (features, labels) in tqdm(batches, desc="Iteration", total=len(train_dataloader), disable=quiet):
                steps.step(_loss_of(model, features, labels, activation, loss_fct))
                if evaluations.due(step):
                    evaluations.run(epoch, step)
                    model.train()
            evaluations.run(epoch, -1)


def _loss_of(
    model: Any, features: Any, labels: Tensor, activation: Callable[[Tensor], Tensor], loss_fct: _Loss
) -> Callable[[], Tensor]:
    """Return what runs the model on a batch and returns its loss."""

    def loss() -> Tensor:
        logits = activation(model(dict(features))["scores"])
        return loss_fct(logits.view(-1) if model.num_labels == 1 else logits, labels)

    return loss
