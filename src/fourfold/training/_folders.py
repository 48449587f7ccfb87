"""The part of a trainer that writes folders and reads them again."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from fourfold.training import _checkpoints, _sharded
from fourfold.training._ahead import Ahead

logger = logging.getLogger(__name__)


class Folders(Trainer):
    """The part of a trainer that writes folders and reads them again."""

    args: Any
    model: Any
    _ahead: Ahead | None = None
    _empty: Any = None  # the model without weights, where FSDP shares them out

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; with ``resume_from_checkpoint=True`` from the last checkpoint that was written to its end."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = _checkpoints.last_whole(self.args.output_dir)
        self._forget_evaluation()
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.is_in_train = False
            if self._ahead is not None:
                self._ahead.close()
                self._ahead = None

    def _forget_evaluation(self) -> None:
        """Let accelerate prepare a model for training that an evaluation before it had prepared for itself.

        It takes such a model as it is: each process would train a model of its own.
        """
        bare = self.model_wrapped is self.model and not _sharded.is_sharded(self.model)
        if bare and self.args.world_size > 1 and vars(self.model).pop("_is_accelerate_prepared", False):
            self.accelerator._models = [model for model in self.accelerator._models if model is not self.model]

    def _wrap_model(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        if self.is_fsdp_enabled and not _sharded.is_sharded(model):
            self._empty = _sharded.emptied(self.accelerator.unwrap_model(model, keep_torch_compile=False))
        return super()._wrap_model(model, *args, **kwargs)

    @contextmanager
    def whole_model(self) -> Iterator[Any]:
        """Yield the model with all of its weights, in every process, also where FSDP shares them out."""
        if _sharded.is_sharded(self.model):
            with _sharded.filled(self._empty, _sharded.weights(self.model)) as model:
                yield model
        else:
            yield self.model

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model's folder, whole also where FSDP shares out its weights; all processes take part.

        Args:
            output_dir: The folder; None is ``args.output_dir``.
        """
        plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
        kind = getattr(plugin, "state_dict_type", None)
        if plugin is not None:
            # What is asked for is how the parts lie beside the optimizer's; a folder of parts would open nowhere.
            plugin.set_state_dict_type("FULL_STATE_DICT")
        try:
            super().save_model(output_dir, _internal_call)
        finally:
            if plugin is not None:
                plugin.set_state_dict_type(kind)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            return
        folder = output_dir or self.args.output_dir
        logger.info("saving the model to %s", folder)
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - beside strings of transformers
        if _sharded.is_sharded(self.model):
            with _sharded.filled(self._empty, state_dict) as model:
                model.save_pretrained(folder)
        else:
            model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
            if state_dict:
                model.load_state_dict(state_dict)
            model.save_pretrained(folder)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)
        torch.save(self.args, Path(folder, "training_args.bin"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        _checkpoints.load_weights(self.model if model is None else model, resume_from_checkpoint, self._empty)

    def _load_best_model(self) -> None:
        best: Any = self.state.best_model_checkpoint
        logger.info("loading the best model, %s, whose score is %s", best, self.state.best_metric)
        try:
            if (step := _checkpoints.step_of(best)) is not None:
                self.model.model_card_data.set_best_model_step(step)
            _checkpoints.load_weights(self.model, best, self._empty)
        except Exception:
            logger.exception("the best model could not be loaded from %s; the last one is kept", best)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.is_world_process_zero() and self.args.hub_strategy != "end":
            _checkpoints.copy_model(checkpoint_folder, self.args.output_dir)
        super()._push_from_checkpoint(checkpoint_folder)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,  # noqa: A002 - the contract's name
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the model's card into ``args.output_dir``, in the main process.

        Args:
            language: Language code of the data.
            license: Licence of the model.
            tags: More tags.
            model_name: Name on the hub, where the card data have none.
            finetuned_from: Not used, as all that follow: the card knows it by itself.
            tasks: Not used.
            dataset_tags: Not used.
            dataset: Not used.
            dataset_args: Not used.
            **kwargs: Not used.
        """
        if not self.is_world_process_zero():
            return
        data = self.model.model_card_data
        if language:
            data.set_language(language)
        if license:
            data.set_license(license)
        if tags:
            data.add_tags(tags)
        self.model._create_model_card(self.args.output_dir, model_name=model_name)
