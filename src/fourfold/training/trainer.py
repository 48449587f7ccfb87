"""The trainer of every family, over that of transformers: what differs is the collator and the default loss."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    EvalPrediction,
    FeatureExtractionMixin,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    TrainerCallback,
)
from transformers.image_processing_utils import BaseImageProcessor

from fourfold.errors import InputError, TrainingError, require_training
from fourfold.evaluation import BaseEvaluator, SequentialEvaluator
from fourfold.families._model import BaseModel
from fourfold.families.model_card import BaseModelCardData
from fourfold.modules.router import Router
from fourfold.notices import renamed_keywords
from fourfold.training import _datasets, _evaluating, _features, _losses, _memory, _optimizer, _sharded
from fourfold.training._batches import Batches
from fourfold.training._components import Components
from fourfold.training._folders import Folders
from fourfold.training.arguments import UNUSED, BaseTrainingArguments
from fourfold.training.callbacks.gradients import WholeGradients, ZeroGradients
from fourfold.training.callbacks.model_card import BaseModelCardCallback
from fourfold.training.collator import DEFAULT_LABEL_COLUMNS, BaseDataCollator

logger = logging.getLogger(__name__)

_PROCESSORS = (PreTrainedTokenizerBase, BaseImageProcessor, FeatureExtractionMixin, ProcessorMixin)
_PROJECT = "sentence-transformers"


class BaseTrainer(Batches, Folders, ABC):
    """Trains an encoder: batches of columns become features, a loss makes a number of them, and the rest is usual.

    What the constructor does not name is as in :class:`transformers.Trainer`. Everything that can be known beforehand
    is checked before the first step: columns and labels against the loss, routes against the model, names of losses
    against names of datasets.

    Args:
        model: The encoder.
        args: Arguments; None trains with all defaults into ``tmp_trainer``.
        train_dataset: A ``Dataset``, several as a ``DatasetDict`` or a dictionary, or an ``IterableDataset``. One
            column may hold labels, all others are inputs in the order that the loss wants; their names do not matter.
        eval_dataset: The same, for the loss during training.
        loss: A loss, what makes one of the model, or one of both by name of dataset. None is the family's default.
        evaluator: Called with the model at each evaluation; several become one
            :class:`~fourfold.evaluation.SequentialEvaluator`.
        data_collator: Turns rows into a batch; None is the family's.
        processing_class: Saved beside checkpoints; None is the model's tokenizer or processor.
        model_init: Makes the model at each ``train()``, given the trial of a hyperparameter search if it takes one.
        compute_metrics: Has no effect; use ``evaluator``.
        callbacks: Added to the usual ones.
        optimizers: An optimizer and a scheduler; None makes AdamW and what ``args`` say.
        optimizer_cls_and_kwargs: Class and arguments of the optimizer.
        preprocess_logits_for_metrics: Has no effect, as ``compute_metrics``.

    Raises:
        InputError: If something of this does not fit the rest; the message names the argument or the column.
        TrainingError: If there is neither ``model`` nor ``model_init``, or a package of the extra ``train`` is missing.
    """

    model_class: ClassVar[type[Any]] = BaseModel
    data_collator_class: ClassVar[type[BaseDataCollator]] = BaseDataCollator
    training_args_class: ClassVar[type[BaseTrainingArguments]] = BaseTrainingArguments
    model_card_data_class: ClassVar[type[BaseModelCardData]] = BaseModelCardData
    model_card_callback_class: ClassVar[type[BaseModelCardCallback]] = BaseModelCardCallback

    loss: Any
    model: Any
    model_init: Any
    eval_dataset: Any
    train_dataset: Any
    args: Any
    data_collator: Any
    _given_loss: Any = None

    @renamed_keywords(tokenizer="processing_class")
    def __init__(
        self,
        model: Any = None,
        args: BaseTrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        loss: Any = None,
        evaluator: BaseEvaluator | Iterable[BaseEvaluator] | None = None,
        data_collator: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., Any] | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        require_training(type(self).__name__)
        self._check_kinds(train_dataset, eval_dataset)
        args = self._arguments(args)
        model = self._first_model(model, model_init, args, optimizers)
        if compute_metrics is not None:
            logger.warning("compute_metrics has no effect, since a step gives a loss alone; use evaluator")
        if args.hub_model_id and not model.model_card_data.model_id:
            model.model_card_data.set_model_id(args.hub_model_id)
        if processing_class is None:
            found = getattr(model, "processor", None)
            processing_class = found if isinstance(found, _PROCESSORS) else None
        train_dataset = _datasets.as_datasets(train_dataset, "train_dataset")
        eval_dataset = _datasets.as_datasets(eval_dataset, "eval_dataset")
        if data_collator is None:
            data_collator = self.get_data_collator(model, args, processing_class)
        if eval_dataset is None and evaluator is None and args.eval_strategy != "no":
            raise InputError(
                f"eval_strategy={str(args.eval_strategy)!r} needs something to evaluate: an eval_dataset, an "
                "evaluator, or both"
            )
        # Building arguments resets what accelerate knows, so that these come before its first use.
        defaults = self.training_args_class(output_dir=UNUSED).to_dict()
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            # transformers wants a dataset where there is an evaluation; an evaluator has its own.
            eval_dataset="none" if eval_dataset is None and evaluator is not None else eval_dataset,
            processing_class=processing_class,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        self.model_init = model_init
        self.eval_dataset = eval_dataset
        # A step gives its loss without labels of transformers' kind, and the loss is a mean over rows already.
        self.can_return_loss = True
        self.model_accepts_loss_kwargs = False
        self._components = Components(bool(args.logging_nan_inf_filter))
        self._lay_out_for_streams()
        self._take_loss(loss)
        self.evaluator = SequentialEvaluator(evaluator) if isinstance(evaluator, (list, tuple)) else evaluator
        if self.train_dataset is not None:
            self.train_dataset = self.preprocess_dataset(self.train_dataset)
        if self.eval_dataset is not None:
            self.eval_dataset = self.preprocess_dataset(self.eval_dataset)
        self._check_training()
        self._name_projects()
        self.add_model_card_callback(defaults)
        self.add_callback(ZeroGradients())
        if self.is_fsdp_enabled:
            self.add_callback(WholeGradients())

    # -- the constructor's parts -------------------------------------------------------------------------------------

    def _check_kinds(self, *datasets: Any) -> None:
        """Raise :class:`~fourfold.errors.InputError` for a kind of dataset that the family cannot train on."""

    def _arguments(self, args: Any) -> BaseTrainingArguments:
        if args is None:
            logger.info("no args are given: training with the defaults, into tmp_trainer")
            return self.training_args_class(output_dir="tmp_trainer")
        if not isinstance(args, self.training_args_class):
            raise InputError(f"args must be a {self.training_args_class.__name__}, got {type(args).__name__}")
        return args

    def _first_model(self, model: Any, model_init: Any, args: Any, optimizers: tuple[Any, Any]) -> Any:
        if model_init is not None and any(part is not None for part in optimizers):
            raise TrainingError(
                "optimizers hold the parameters of one model; model_init makes others: give one of both"
            )
        if model is not None:
            if getattr(model, "backend", "torch") != "torch":
                raise TrainingError(
                    f"a graph cannot be trained: the model runs on {model.backend}; load it with backend='torch'"
                )
            if model_init is not None:
                logger.warning("both model and model_init are given; train() replaces the model by that of model_init")
            return model
        if model_init is None:
            raise TrainingError(f"{type(self).__name__} needs model or model_init")
        from transformers import set_seed

        set_seed(args.seed)
        self.model_init = model_init
        return self.call_model_init()

    def _lay_out_for_streams(self) -> None:
        """Let a stream's batches be padded where processes share one stream: they are cut and joined row by row."""
        from datasets import IterableDataset

        some = [part for given in (self.train_dataset, self.eval_dataset) for _, part in _datasets.members(given)]
        collator = self.data_collator
        shared = self.args.world_size > 1 and any(isinstance(part, IterableDataset) for part in some)
        if shared and getattr(collator, "preprocess_fn", None) == self.model.batch_features:
            collator.preprocess_fn = self.model.preprocess

    def _take_loss(self, loss: Any) -> None:
        if loss is None:
            loss = self.get_default_loss(self.model)
        if isinstance(loss, Mapping):
            _losses.check_names(loss, self.train_dataset, "train_dataset")
            _losses.check_names(loss, self.eval_dataset, "eval_dataset")
        self._given_loss = loss
        self.loss = _losses.each(loss, lambda part: self.prepare_loss(part, self.model))

    def _check_training(self) -> None:
        labels = getattr(self.data_collator, "valid_label_columns", DEFAULT_LABEL_COLUMNS)
        _datasets.check_training(self.train_dataset, self.loss, labels, "train_dataset")
        _datasets.check_training(self.eval_dataset, self.loss, labels, "eval_dataset")
        _datasets.check_routes(self.model, self.args.router_mapping, self.train_dataset)

    def _name_projects(self) -> None:
        active = {type(callback).__name__ for callback in self.callback_handler.callbacks}
        for callback, variable in (("WandbCallback", "WANDB_PROJECT"), ("TrackioCallback", "TRACKIO_PROJECT")):
            if callback in active:
                os.environ.setdefault(variable, _PROJECT)

    # -- what a subclass may change ----------------------------------------------------------------------------------

    @abstractmethod
    def get_default_loss(self, model: Any) -> nn.Module:
        """Return the loss of a training that names none."""

    def get_data_collator(self, model: Any, args: Any, processing_class: Any = None) -> BaseDataCollator:
        """Return what turns rows into batches: the family's collator, with features that run packed where they can.

        Raises:
            InputError: If the model has routes and the arguments do not say which column takes which.
        """
        if any(type(module) is Router for module in model.children()) and not args.router_mapping:
            raise InputError(
                "the model has a Router, and args.router_mapping does not say which column takes which route, such as "
                '{"question": "query", "answer": "document"}'
            )
        return self.data_collator_class(
            preprocess_fn=model.batch_features,
            router_mapping=args.router_mapping,
            prompts=args.prompts,
            max_length=getattr(args, "max_length", None),
        )

    def prepare_loss(self, loss: Any, model: Any) -> nn.Module:
        """Return a loss on the model's device; what makes one of a model is called."""
        made = loss if isinstance(loss, nn.Module) else loss(model)
        return made.to(model.device)

    def override_model_in_loss(self, loss: nn.Module, model: Any) -> nn.Module:
        """Let a loss train another model, or a wrapper around its own."""
        return _losses.with_model(loss, model)

    def call_model_init(self, trial: Any = None) -> Any:
        """Return a new model, which the losses are told."""
        model = super().call_model_init(trial)
        if self._given_loss is not None:
            self.model = model
            self._take_loss_of(model)
        return model

    def _take_loss_of(self, model: Any) -> None:
        def renewed(loss: Any) -> nn.Module:
            kept = self.override_model_in_loss(loss, model) if isinstance(loss, nn.Module) else loss
            return self.prepare_loss(kept, model)

        self.loss = _losses.each(self._given_loss, renewed)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add the callback that notes the training down for the model's card."""
        callback = self.model_card_callback_class(default_args_dict)
        self.add_callback(callback)
        callback.on_init_end(self.args, self.state, self.control, model=self.model, trainer=self)

    # -- a step ------------------------------------------------------------------------------------------------------

    def collect_features(self, inputs: dict[str, Any]) -> tuple[list[dict[str, Any]], Tensor | None]:
        """Return the features of each column of a batch, and the labels."""
        return _features.by_column(inputs)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of a batch.

        Args:
            model: The model, or a wrapper around it for several processes.
            inputs: What the collator made.
            return_outputs: Whether to return an empty dictionary beside it.
            num_items_in_batch: Has no meaning: losses are means over rows.
        """
        inputs = dict(inputs)
        name = inputs.pop(_datasets.NAME_COLUMN, None)
        loss_fn = self.loss[name] if isinstance(self.loss, Mapping) and name is not None else self.loss
        if model is self.model_wrapped and getattr(loss_fn, "model", model) is not model:
            loss_fn = self.override_model_in_loss(loss_fn, model)
        loss = self._loss_of(loss_fn, inputs)
        if isinstance(loss, Mapping):
            self.track_loss_components(dict(loss))
        total = _losses.total(loss)
        return (total, {}) if return_outputs else total

    def _loss_of(self, loss_fn: Any, inputs: dict[str, Any]) -> Any:
        features, labels = self.collect_features(inputs)
        return loss_fn(features, labels)

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Run a step; where the memory does not suffice, say how large its batch was and what helps."""
        with _memory.explained(inputs, self.state.global_step, self.args):
            return super().training_step(model, inputs, *args, **kwargs)

    def track_loss_components(self, loss: dict[str, Tensor]) -> None:
        """Count the parts of a step's loss for the next log."""
        self._components.add("train" if self.model.training else "eval", loss)

    @property
    def accum_loss_components(self) -> dict[str, dict[str, Tensor]]:
        """Sums of the parts of losses since the last log, by ``train`` and ``eval``."""
        return self._components.sums

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the means of the parts of a loss beside the loss."""
        mode = "train" if "loss" in logs else "eval" if "eval_loss" in logs else None
        if mode is not None:
            found = self._components.take(mode, self.accelerator.gather)
            logs.update({name if mode == "train" else f"eval_{name}": value for name, value in found.items()})
        super().log(logs, start_time)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return the optimizer of all parameters of the loss, which has the model inside."""
        created = self.optimizer is None
        loss = _losses.module_of(self.loss)
        if model is not None:
            self.override_model_in_loss(loss, model)
        trained, self.model = self.model, loss
        try:
            optimizer = super().create_optimizer()
        finally:
            self.model = trained
        if created and self.args.learning_rate_mapping:
            _optimizer.split(optimizer, loss, self.args.learning_rate_mapping)
        return optimizer

    # -- evaluation --------------------------------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the loss on the evaluation datasets, and what the evaluator says.

        Args:
            eval_dataset: A dataset, or datasets by name, in place of the trainer's own.
            ignore_keys: Has no meaning.
            metric_key_prefix: Begins each key; ``_name`` is added for each of several datasets.
        """
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self.preprocess_dataset(_datasets.as_datasets(eval_dataset, "eval_dataset"))
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> Any:
        """Run over the batches for the loss, then call the evaluator.

        During training the evaluator is called once, not for each of several datasets.

        Raises:
            TrainingError: Before a training under FSDP.
        """
        if self.is_fsdp_enabled and not _sharded.is_sharded(self.model):
            raise TrainingError(
                "FSDP shares a model out when its training begins: evaluate after train(), or with eval_on_start=True"
            )
        output: Any = super().evaluation_loop(
            dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
        )
        if self.evaluator is None:
            return output
        if self.is_in_train and isinstance(self.eval_dataset, Mapping) and metric_key_prefix != "eval":
            if metric_key_prefix != f"eval_{next(iter(self.eval_dataset))}":
                return output
            metric_key_prefix = "eval"
        output.metrics.update(_evaluating.metrics(self, metric_key_prefix))
        return output
