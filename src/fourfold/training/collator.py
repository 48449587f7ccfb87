"""From rows of a dataset to the features of a batch: column by column, each with its prompt and its route."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from fourfold.errors import InputError
from fourfold.notices import warn_once

logger = logging.getLogger(__name__)

# The column with the name of a row's dataset, where that matters.
NAME_COLUMN = "dataset_name"

DEFAULT_LABEL_COLUMNS = ("label", "labels", "score", "scores")

# Where columns of these names are usually expected: a loss takes columns by their order alone.
_USUAL_PLACES = {
    "anchor": 0, "positive": 1, "negative": 2, "question": 0, "answer": 1, "query": 0, "response": 1, "hypothesis": 0,
    "entailment": 1, "contradiction": 2,
}  # fmt: skip
_LIKE_IDS = ("_id", "_ids", "_idx")

Rows = Sequence[Mapping[str, Any]]
ByColumn = Mapping[str, Any]


def label_column(columns: Sequence[str], valid: Sequence[str]) -> str | None:
    """Return the column that holds labels: the first of the valid names that there is."""
    return next((name for name in valid if name in columns), None)


def as_labels(values: Sequence[Any]) -> Any:
    """Return the labels of a batch as a tensor: int64 of whole numbers, float32 of others."""
    return torch.stack(list(values)) if isinstance(values[0], torch.Tensor) else torch.tensor(values)


@dataclass
class BaseDataCollator:
    """Turns rows into a batch, whose keys are those of each column's features with the column's name before them.

    All columns but the label are inputs, in their order; their names mean nothing.

    Attributes:
        preprocess_fn: Turns the inputs of a column into features; given ``prompt`` and ``task``, and ``max_length`` if
            one is set.
        valid_label_columns: Names of a label column; the first that there is becomes ``label``.
        router_mapping: The route of each column, by its name; also by the name of the dataset first.
        prompts: The text put before each input: one for all, by column, by dataset, or by both.
        max_length: Longest input in tokens: one for all, or by task; None leaves that to the model.
    """

    preprocess_fn: Callable[..., Mapping[str, Any]]
    valid_label_columns: list[str] = field(default_factory=lambda: list(DEFAULT_LABEL_COLUMNS))
    router_mapping: dict[str, Any] | None = field(default_factory=dict)
    prompts: str | dict[str, Any] | None = field(default_factory=dict)
    max_length: int | dict[str, int] | None = None

    def __post_init__(self) -> None:
        self._seen: set[tuple[str, ...]] = set()

    def __call__(self, features: Rows) -> dict[str, Any]:
        """Return a batch: the features of each column, ``label`` and ``dataset_name`` if there are any.

        Args:
            features: The rows.

        Raises:
            InputError: If prompts are named by dataset and the rows do not say theirs.
        """
        if not features:
            return {}
        batch, columns = self._begun(features[0])
        label = label_column(columns, self.valid_label_columns)
        if label is not None:
            batch["label"] = as_labels([row[label] for row in features])
            columns.remove(label)
        for place, column in enumerate(columns):
            values = [row[column] for row in features]
            batch.update(self._column(values, column, place, batch.get(NAME_COLUMN)))
        return batch

    def _begun(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the beginning of a batch, with the dataset's name if there is one, and the other columns."""
        columns = [name for name in row if name != NAME_COLUMN]
        self._look_at(tuple(columns))
        return {name: row[name] for name in row if name == NAME_COLUMN}, columns

    def _column(self, values: list[Any], column: str, place: int, dataset: str | None) -> dict[str, Any]:
        prompt, task = self._prompt(column, dataset), self._task(column, place, dataset)
        length = self.max_length.get(task or "") if isinstance(self.max_length, dict) else self.max_length
        more = {} if length is None else {"max_length": length}
        found = self.preprocess_fn(values, prompt=prompt, task=task, **more)
        named = {f"{column}_{key}": value for key, value in found.items()}
        return named if task is None else {**named, f"{column}_task": task}

    def _prompt(self, column: str, dataset: str | None) -> str | None:
        prompts = self.prompts
        if not prompts:
            return None
        if isinstance(prompts, str):
            return prompts
        if dataset is not None and dataset in prompts:
            prompts = prompts[dataset]
            return prompts if isinstance(prompts, str) else prompts.get(column)
        if is_nested(prompts):
            if dataset is None:
                raise InputError(
                    "prompts are given by dataset, and the rows name none; train on a DatasetDict, or give prompts by "
                    "column"
                )
            return None
        return prompts.get(column)

    def _task(self, column: str, place: int, dataset: str | None) -> str | None:
        """Return the route of a column; ``place`` is where it stands among the inputs."""
        mapping = self.router_mapping or {}
        if is_nested(mapping):
            mapping = mapping.get(dataset or "") or {}
        return mapping.get(column)

    def _look_at(self, columns: tuple[str, ...]) -> None:
        """Tell what looks wrong about columns, once for each set of them."""
        if columns in self._seen:
            return
        self._seen.add(columns)
        for place, name in enumerate(columns):
            if _USUAL_PLACES.get(name, place) != place:
                logger.warning(
                    "the column %r is number %d of %s, where %d is usual: losses take columns by their order, not by "
                    "their names", name, place, list(columns), _USUAL_PLACES[name],
                )  # fmt: skip
                break
        like_ids = [name for name in columns if name == "id" or name.endswith(_LIKE_IDS)]
        if like_ids:
            warn_once(logger, f"the columns {like_ids} look like ids and are trained on as texts; remove them if so")


@dataclass
class SentenceTransformerDataCollator(BaseDataCollator):
    """The collator of dense encoders."""


@dataclass
class SparseEncoderDataCollator(BaseDataCollator):
    """The collator of sparse encoders."""


@dataclass
class CrossEncoderDataCollator(BaseDataCollator):
    """The collator of cross encoders: inputs stay texts, column by column, since the loss makes the pairs.

    Prompts and routes are one for all rows, or one a dataset.

    Raises:
        InputError: If one is given by column.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prompts", "router_mapping"):
            given = getattr(self, name)
            if isinstance(given, dict) and any(isinstance(value, dict) for value in given.values()):
                raise InputError(f"{name} of a cross encoder hold one text a dataset, not one a column: {given}")

    def __call__(self, features: Rows) -> dict[str, Any]:
        """Return a batch: a list a column, ``label``, ``prompt`` and ``task`` if there are any."""
        batch, columns = self._begun(features[0])
        label = label_column(columns, self.valid_label_columns)
        if label is not None:
            values = [row[label] for row in features]
            ragged = isinstance(values[0], (list, tuple)) or getattr(values[0], "ndim", 0) > 0
            batch["label"] = [torch.as_tensor(value) for value in values] if ragged else as_labels(values)
            columns.remove(label)
        for key, given in (("prompt", self.prompts), ("task", self.router_mapping)):
            found = given.get(batch.get(NAME_COLUMN, "")) if isinstance(given, dict) else given
            if found:
                batch[key] = found
        return {**batch, **{column: [row[column] for row in features] for column in columns}}


def is_nested(mapping: ByColumn) -> bool:
    """Whether a mapping is by dataset first."""
    return bool(mapping) and isinstance(next(iter(mapping.values())), dict)
