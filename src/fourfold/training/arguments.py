"""What a training is told: the arguments of transformers' trainer, and those that encoders add."""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from transformers import TrainingArguments
from transformers.training_args import ParallelMode

from fourfold.errors import InputError
from fourfold.training.samplers import (
    BatchSamplers,
    DefaultBatchSampler,
    MultiDatasetBatchSamplers,
    MultiDatasetDefaultBatchSampler,
)

logger = logging.getLogger(__name__)

# The output folder of arguments that are built to be compared with, not to train.
UNUSED = "unused"

_OWN_DICTS = ["learning_rate_mapping", "prompts", "router_mapping"]
_OLDER_WARMUP = any(f.name == "warmup_ratio" for f in fields(TrainingArguments))


@dataclass
class BaseTrainingArguments(TrainingArguments):
    """The arguments of :class:`transformers.TrainingArguments`, and these.

    Attributes:
        prompts: The text put before each input: one for all, one by column, by dataset, or by dataset and column. JSON
            text is read; other text is one prompt for all.
        batch_sampler: Which rows make a batch: a :class:`~fourfold.training.samplers.BatchSamplers` or its value, a
            subclass of :class:`~fourfold.training.samplers.DefaultBatchSampler`, or what builds one.
        multi_dataset_batch_sampler: Which dataset the next batch comes from, likewise.
        router_mapping: The route of each column by its name, such as ``{"question": "query"}``; also by dataset first.
            JSON text is read.
        learning_rate_mapping: A learning rate of their own for parameters whose name a regular expression finds. JSON
            text is read.
        warmup_ratio: Older name of a ``warmup_steps`` below 1.

    Raises:
        InputError: If a mapping is text and no JSON, or a sampler's name is unknown.
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, *_OWN_DICTS]  # noqa: RUF012 - as the base class has it

    prompts: str | dict[str, str] | dict[str, dict[str, str]] | None = field(
        default=None, metadata={"help": "Text before each input: one for all, by column, by dataset, or by both."}
    )
    batch_sampler: BatchSamplers | str | type[DefaultBatchSampler] | Callable[..., DefaultBatchSampler] = field(
        default=BatchSamplers.BATCH_SAMPLER, metadata={"help": "Which rows make a batch."}
    )
    multi_dataset_batch_sampler: (
        MultiDatasetBatchSamplers
        | str
        | type[MultiDatasetDefaultBatchSampler]
        | Callable[..., MultiDatasetDefaultBatchSampler]
    ) = field(
        default=MultiDatasetBatchSamplers.PROPORTIONAL, metadata={"help": "Which dataset the next batch comes from."}
    )
    router_mapping: str | dict[str, str] | dict[str, dict[str, str]] | None = field(
        default_factory=dict, metadata={"help": "Route of each column; also by dataset first."}
    )
    learning_rate_mapping: str | dict[str, float] | None = field(
        default_factory=dict, metadata={"help": "Learning rate of parameters whose name a regular expression finds."}
    )
    warmup_ratio: float | None = field(default=None, metadata={"help": "Older name of warmup_steps below 1."})

    def __post_init__(self) -> None:
        self._read_warmup()
        self.prompts = _read_prompts(self.prompts)
        for name in ("learning_rate_mapping", "router_mapping"):
            setattr(self, name, _read_mapping(name, getattr(self, name)))
        super().__post_init__()
        if isinstance(self.batch_sampler, str):
            self.batch_sampler = BatchSamplers(self.batch_sampler)
        if isinstance(self.multi_dataset_batch_sampler, str):
            self.multi_dataset_batch_sampler = MultiDatasetBatchSamplers(self.multi_dataset_batch_sampler)
        # A batch's output is its loss alone, and modules have no buffers that a step changes.
        self.prediction_loss_only = True
        self.ddp_broadcast_buffers = False
        if self.output_dir != UNUSED:
            self._look_at_processes()

    def _read_warmup(self) -> None:
        if _OLDER_WARMUP:
            self.warmup_ratio = self.warmup_ratio or 0.0
        elif self.warmup_ratio is not None and not self.warmup_steps:
            logger.warning("warmup_ratio is deprecated; use warmup_steps=%s, which means the same", self.warmup_ratio)
            self.warmup_steps, self.warmup_ratio = self.warmup_ratio, None

    def _look_at_processes(self) -> None:
        if self.parallel_mode == ParallelMode.NOT_DISTRIBUTED:
            logger.warning(
                "several GPUs are run by one process (DataParallel), which is slow and does not serve every loss; "
                "start one process each: torchrun --nproc_per_node %d script.py", self.n_gpu,
            )  # fmt: skip
        elif self.parallel_mode == ParallelMode.DISTRIBUTED and not self.dataloader_drop_last:
            logger.warning("dataloader_drop_last is switched on: processes would wait for one that has no last batch")
            self.dataloader_drop_last = True
        starts = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
        if self.dataloader_num_workers and not self.dataloader_persistent_workers and starts == "spawn":
            logger.warning(
                "dataloader workers are spawned anew each epoch, with the model; dataloader_persistent_workers=True "
                "keeps them"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return all arguments by name, as JSON can hold them; samplers that are code are left out."""
        found = super().to_dict()
        for name in ("batch_sampler", "multi_dataset_batch_sampler"):
            if callable(found.get(name)):
                del found[name]
        return found


@dataclass
class SentenceTransformerTrainingArguments(BaseTrainingArguments):
    """The arguments of dense encoders: those of :class:`BaseTrainingArguments`."""


@dataclass
class SparseEncoderTrainingArguments(BaseTrainingArguments):
    """The arguments of sparse encoders: those of :class:`BaseTrainingArguments`."""


@dataclass
class CrossEncoderTrainingArguments(BaseTrainingArguments):
    """The arguments of cross encoders: those of :class:`BaseTrainingArguments`."""


def _read_prompts(given: Any) -> Any:
    """Return prompts; JSON text is read, and other text is a prompt."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except json.JSONDecodeError:
        return given


def _read_mapping(name: str, given: Any) -> Any:
    if given is None:
        return {}
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except json.JSONDecodeError as error:
        wanted = '{"column": "route"}' if name == "router_mapping" else '{"regular expression": 1e-4}'
        raise InputError(f"{name} is a dictionary such as {wanted}, or one as JSON text; got {given!r}") from error
