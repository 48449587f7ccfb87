"""Which rows of a dataset make a batch, and in which order the batches of several datasets come."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, ConcatDataset, RandomSampler, Sampler

from fourfold.errors import InputError
from fourfold.training._no_duplicates import Values, check_hashing, hashed, one_pass
from fourfold.training.collator import NAME_COLUMN

logger = logging.getLogger(__name__)


class BatchSamplers(str, Enum):
    """How the rows of a dataset are put into batches.

    Attributes:
        BATCH_SAMPLER: At random.
        NO_DUPLICATES: At random, but no text twice in a batch: what a row says would be another row's negative.
        NO_DUPLICATES_HASHED: The same batches, from hashes that are computed once.
        GROUP_BY_LABEL: At least two rows of each label that is in a batch, for losses that look for triplets.
    """

    BATCH_SAMPLER = "batch_sampler"
    NO_DUPLICATES = "no_duplicates"
    NO_DUPLICATES_HASHED = "no_duplicates_hashed"
    GROUP_BY_LABEL = "group_by_label"


class MultiDatasetBatchSamplers(str, Enum):
    """In which order the batches of several datasets come.

    Attributes:
        ROUND_ROBIN: One of each in turn, until the first dataset has no more.
        PROPORTIONAL: At random, each dataset as often as it has batches; all rows are used.
    """

    ROUND_ROBIN = "round_robin"
    PROPORTIONAL = "proportional"


class SetEpochMixin:
    """The part of a sampler that knows the epoch, which its random order depends on."""

    epoch: int = 0
    generator: torch.Generator | None = None
    seed: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins."""
        self.epoch = epoch

    def _begin(self) -> None:
        """Let the generator start anew for this epoch."""
        if self.generator is not None and self.seed is not None:
            self.generator.manual_seed(self.seed + self.epoch)


class DefaultBatchSampler(SetEpochMixin, BatchSampler):
    """Batches of a dataset; the base of all others.

    Args:
        dataset: The rows. Anything that is a sampler itself is taken as the order of the rows.
        batch_size: Rows of a batch.
        drop_last: Whether to leave out a last batch that is not full.
        valid_label_columns: Names that label columns may have.
        generator: Draws the order.
        seed: What the generator starts from, with the epoch added.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> None:
        order = dataset if isinstance(dataset, Sampler) else RandomSampler(dataset, generator=generator)
        super().__init__(order, batch_size=batch_size, drop_last=drop_last)
        self.valid_label_columns = list(valid_label_columns or [])
        self.generator = generator
        self.seed = seed


class NoDuplicatesBatchSampler(DefaultBatchSampler):
    """Batches in which no value comes twice, whatever columns it is in.

    Rows come in random order; one that shares a value with its batch waits for a later one. Where so many rows share
    values that a pass gives too few batches, some rows come again, which is told once.

    Args:
        dataset: The rows, as of ``datasets``.
        batch_size: Rows of a batch.
        drop_last: Whether to leave out batches that are not full.
        valid_label_columns: Names of label columns, whose values are not compared.
        generator: Draws the order.
        seed: What the generator starts from, with the epoch added.
        precompute_hashes: Whether to compute a hash of each value once, and compare those: for large datasets, whose
            rows would otherwise be read each time.
        precompute_num_proc: Processes that compute them; None is all processors but one, eight at most.
        precompute_batch_size: Rows that a process takes at a time.

    Raises:
        ImportError: If hashes are asked for and xxhash is not installed.
    """

    # A pass that gives too few batches is followed by so many more at most.
    _MORE_PASSES = 2

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
        precompute_hashes: bool = False,
        precompute_num_proc: int | None = None,
        precompute_batch_size: int = 1000,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        self._left_out = {*self.valid_label_columns, NAME_COLUMN}
        self.dataset = dataset
        # A transform may read any column.
        if getattr(dataset, "format", {"type": None})["type"] != "custom":
            self.dataset = dataset.select_columns([name for name in dataset.column_names if name not in self._left_out])
        self.precompute_hashes = precompute_hashes
        self._hashing = (precompute_num_proc, precompute_batch_size)
        self._values: Values | None = None
        self._told = False
        if precompute_hashes:
            check_hashing()

    def _values_of(self) -> Values:
        if self._values is None:
            if self.precompute_hashes:
                self._values = hashed(self.dataset, self._left_out, *self._hashing)
            else:
                self._values = Values(self.dataset, self._left_out)
        return self._values

    def __iter__(self) -> Iterator[list[int]]:
        self._begin()
        wanted, given = len(self), 0
        values = self._values_of()
        for batch in self._pass(values):
            given += 1
            yield batch
        if given >= wanted:
            return
        missing = wanted - given
        for _ in range(self._MORE_PASSES if given else 0):
            self._tell(missing, wanted)
            for batch in self._pass(values):
                yield batch
                given += 1
                if given >= wanted:
                    return
        logger.warning(
            "only %d of %d batches without duplicates could be made; a smaller batch makes more of them", given, wanted
        )

    def _pass(self, values: Values) -> Iterator[list[int]]:
        # The order depends on the type of its numbers, and a resumed run must meet the same rows.
        order = torch.randperm(len(self.dataset), generator=self.generator, dtype=torch.int32)
        return one_pass(order.numpy(), values, self.batch_size, self.drop_last)

    def _tell(self, missing: int, wanted: int) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "so many rows share values that %d of %d batches (%.0f%%) are made of rows that come again",
                missing, wanted, 100 * missing / wanted,
            )  # fmt: skip

    def __len__(self) -> int:
        rows = len(self.dataset)
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)


class GroupByLabelBatchSampler(DefaultBatchSampler):
    """Batches that hold an even number of rows of each of their labels, two or more, and at least two labels.

    Args:
        dataset: The rows, as of ``datasets``.
        batch_size: Rows of a batch: an even number, four at least.
        drop_last: Whether to leave out a last batch that is not full.
        valid_label_columns: Names of label columns; the first that the dataset has is taken.
        generator: Draws the order.
        seed: What the generator starts from, with the epoch added.

    Raises:
        InputError: If the size is odd or too small, there is no label column, or fewer than two labels have two rows.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        if batch_size < 4 or batch_size % 2:
            raise InputError(f"group_by_label needs an even batch size of at least 4, got {batch_size}")
        column = next((name for name in self.valid_label_columns if name in dataset.column_names), None)
        if column is None:
            raise InputError(
                f"group_by_label needs a label column, one of {self.valid_label_columns}; the dataset has "
                f"{list(dataset.column_names)}"
            )
        groups: dict[Any, list[int]] = {}
        for row, label in enumerate(dataset[column]):
            groups.setdefault(label.item() if hasattr(label, "item") else label, []).append(row)
        self.groups = {label: rows for label, rows in groups.items() if len(rows) >= 2}
        if len(self.groups) < 2:
            raise InputError(
                f"group_by_label needs at least 2 labels with 2 rows or more in the column {column!r}, there are "
                f"{len(self.groups)}"
            )

    def __iter__(self) -> Iterator[list[int]]:
        self._begin()
        batch: list[int] = []
        for pair in self._pairs():
            batch += pair
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if not self.drop_last and len(batch) >= 4:
            yield batch

    def _pairs(self) -> Iterator[list[int]]:
        """Yield two rows of one label at a time; neighbours differ in label, as long as two labels are left."""
        left = {label: self._shuffled(rows)[: len(rows) // 2 * 2][::-1] for label, rows in self.groups.items()}
        labels, last, count = list(left), None, 0
        while len(labels) >= 2:
            labels = self._shuffled(labels)
            if labels[0] == last and count % (self.batch_size // 2):
                labels[0], labels[1] = labels[1], labels[0]
            for label in labels:
                yield [left[label].pop() for _ in range(2)]
                count += 1
                last = label
            labels = [label for label in labels if left[label]]

    def _shuffled(self, items: list[Any]) -> list[Any]:
        return [items[i] for i in torch.randperm(len(items), generator=self.generator).tolist()]

    def __len__(self) -> int:
        pairs = sorted(len(rows) // 2 for rows in self.groups.values())
        stream = 2 * sum(min(count, pairs[-2]) for count in pairs)
        batches, rest = divmod(stream, self.batch_size)
        return batches + int(not self.drop_last and rest >= 4)


class MultiDatasetDefaultBatchSampler(SetEpochMixin, BatchSampler):
    """Batches of several datasets, each of rows of one of them; the base of the two orders.

    Args:
        dataset: The datasets, one after the other.
        batch_samplers: Makes the batches of each.
        generator: Draws the order.
        seed: What the generator starts from, with the epoch added.

    Raises:
        InputError: If there is not one sampler a dataset.
    """

    def __init__(
        self,
        dataset: ConcatDataset[Any],
        batch_samplers: Sequence[BatchSampler],
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> None:
        if len(dataset.datasets) != len(batch_samplers):
            raise InputError(f"{len(dataset.datasets)} datasets need as many batch samplers, got {len(batch_samplers)}")
        first: Any = batch_samplers[0]
        super().__init__(dataset, batch_size=first.batch_size, drop_last=first.drop_last)  # type: ignore[arg-type]
        self.dataset = dataset
        self.batch_samplers = list(batch_samplers)
        self.generator = generator
        self.seed = seed
        self._starts = list(accumulate((len(part) for part in dataset.datasets), initial=0))  # type: ignore[arg-type]

    @abstractmethod
    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of row numbers of all datasets together."""

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, to the samplers of the datasets too."""
        super().set_epoch(epoch)
        for sampler in self.batch_samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)

    def _moved(self, number: int, batch: Sequence[int]) -> list[int]:
        return [self._starts[number] + row for row in batch]


class RoundRobinBatchSampler(MultiDatasetDefaultBatchSampler):
    """A batch of each dataset in turn, until one has no more; datasets count the same, however large."""

    def __iter__(self) -> Iterator[list[int]]:
        self._begin()
        rounds = zip(*self.batch_samplers, strict=False)  # as many as the first dataset to end has batches
        for batches in rounds:
            for number, batch in enumerate(batches):
                yield self._moved(number, batch)

    def __len__(self) -> int:
        return min(map(len, self.batch_samplers)) * len(self.batch_samplers)


class ProportionalBatchSampler(MultiDatasetDefaultBatchSampler):
    """Batches of the datasets in random order, each as often as it has some; all rows are used."""

    def __iter__(self) -> Iterator[list[int]]:
        self._begin()
        numbers = np.repeat(np.arange(len(self.batch_samplers)), [len(sampler) for sampler in self.batch_samplers])
        order = torch.randperm(len(numbers), generator=self.generator).numpy()
        batches = [iter(sampler) for sampler in self.batch_samplers]
        for number in numbers[order].tolist():
            batch = next(batches[number], None)
            if batch is not None:
                yield self._moved(number, batch)

    def __len__(self) -> int:
        return sum(map(len, self.batch_samplers))
