"""Notes a training down for the model's card: data, losses, arguments, logs, times."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import TrainerCallback

from fourfold.training._datasets import members
from fourfold.training.callbacks._dataset_facts import facts

logger = logging.getLogger(__name__)

# Arguments that say where a training wrote and what it told, not how it trained.
IGNORED_FIELDS = {
    "output_dir", "logging_dir", "logging_strategy", "logging_first_step", "logging_steps", "evaluation_strategy",
    "eval_strategy", "eval_steps", "eval_delay", "save_strategy", "save_steps", "save_total_limit",
    "metric_for_best_model", "greater_is_better", "report_to", "samples_per_label", "show_progress_bar", "do_train",
    "do_eval", "do_test", "run_name", "hub_token", "push_to_hub_token",
}  # fmt: skip

# Losses that a loss has inside.
_PARTS = ("loss", "document_regularizer", "query_regularizer", "reconstruction_loss")
_QUERIES = {"query", "question"}


def get_losses(loss: nn.Module) -> list[nn.Module]:
    """Return a loss and the losses inside it, outermost first, each kind once."""
    found: dict[type, nn.Module] = {}
    for each in _nested(loss):
        found.setdefault(type(each), each)
    return list(found.values())


def _nested(loss: nn.Module) -> Iterator[nn.Module]:
    yield loss
    for name in _PARTS:
        part = getattr(loss, name, None)
        if isinstance(part, nn.Module):
            yield from _nested(part)


class BaseModelCardCallback(TrainerCallback):
    """Fills the card data of the model that is trained.

    Args:
        default_args_dict: All arguments with their defaults, by name, to tell which were chosen.
    """

    def __init__(self, default_args_dict: dict[str, Any]) -> None:
        super().__init__()
        self.default_args_dict = default_args_dict

    def on_init_end(
        self, args: Any, state: Any, control: Any, model: Any = None, trainer: Any = None, **kwargs: Any
    ) -> None:
        """Note data and losses. What cannot be found out is logged and left out."""
        if trainer is None:
            return
        data = model.model_card_data
        data.add_tags("generated_from_trainer")
        for callback in trainer.callback_handler.callbacks:
            if type(callback).__name__ == "CodeCarbonCallback":
                data.code_carbon_callback = callback
        for attribute, given in (("train_datasets", trainer.train_dataset), ("eval_datasets", trainer.eval_dataset)):
            try:
                self._note_datasets(data, attribute, given, trainer)
            except Exception:
                logger.exception("the model's card goes without what there is to say about its %s", attribute)
        losses = trainer.loss.values() if isinstance(trainer.loss, dict) else [trainer.loss]
        every = {type(part): part for loss in losses for part in get_losses(loss)}
        data.set_losses(list(every.values()))

    def _note_datasets(self, data: Any, attribute: str, given: Any, trainer: Any) -> None:
        entries = []
        for name, dataset in members(given):
            loss = trainer.loss[name] if isinstance(trainer.loss, dict) else trainer.loss
            entries.append(facts(dataset, loss, trainer.model, name))
        known = getattr(data, attribute)
        if known and len(known) != len(entries):
            logger.warning(
                "the card names %d %s, and the training has %d: those named are left out", len(known), attribute,
                len(entries),
            )  # fmt: skip
            known = []
        described = {"name", "id", "revision"}
        merged = [{**entry, **{k: v for k, v in named.items() if k in described}} for entry, named in
                  zip(entries, known or [{}] * len(entries), strict=True)]  # fmt: skip
        setattr(data, attribute, merged)
        sized = [entry["size"] for entry in entries if "size" in entry]
        if attribute == "train_datasets":
            if sized:
                data.add_tags(f"dataset_size:{sum(sized)}")
            if any(_QUERIES & set(entry["columns"]) for entry in entries):
                data.ir_model = True
        if sized and not (attribute == "train_datasets" and trainer.eval_dataset is not None):
            data.set_widget_examples(given)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Note the arguments, and when the training began."""
        data = model.model_card_data
        every = {name: value for name, value in args.to_dict().items() if name not in IGNORED_FIELDS}
        data.all_hyperparameters = every
        data.non_default_hyperparameters = {
            name: value
            for name, value in every.items()
            if name not in self.default_args_dict or self.default_args_dict[name] != value
        }
        data._training_start_time = time.time()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, model: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Note losses on evaluation datasets in the log, and how long it took."""
        data = model.model_card_data
        data.evaluation_duration += metrics.get("eval_runtime", 0.0)
        losses = {
            " ".join(name.split("_")[1:]): value
            for name, value in metrics.items()
            if name.startswith("eval_") and name.endswith("_loss")
        }
        if not losses:
            return
        if set(losses) == {"loss"}:
            losses = {"Validation Loss": losses["loss"]}
        row = _row(data, state)
        row.update(losses)

    def on_log(self, args: Any, state: Any, control: Any, model: Any = None, logs: Any = None, **kwargs: Any) -> None:
        """Note the training's loss in the log."""
        if "loss" in logs:
            _row(model.model_card_data, state)["Training Loss"] = logs["loss"]


def _row(data: Any, state: Any) -> dict[str, Any]:
    """Return the row of the log for this step, which is the last one or a new one."""
    rows = data.training_logs
    if not rows or rows[-1].get("Step") != state.global_step:
        rows.append({"Epoch": state.epoch, "Step": state.global_step})
    return rows[-1]


class SentenceTransformerModelCardCallback(BaseModelCardCallback):
    """The callback of dense encoders' trainings."""


class SparseEncoderModelCardCallback(BaseModelCardCallback):
    """The callback of sparse encoders' trainings."""


class CrossEncoderModelCardCallback(BaseModelCardCallback):
    """The callback of cross encoders' trainings."""


class ModelCardCallback(SentenceTransformerModelCardCallback):
    """Older name of :class:`SentenceTransformerModelCardCallback`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            "ModelCardCallback is deprecated; use SentenceTransformerModelCardCallback",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(*args, **kwargs)
