"""The part of a trainer that makes batches of datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader
from transformers import Trainer

from fourfold.errors import InputError
from fourfold.training import _datasets, _loaders
from fourfold.training._ahead import Ahead
from fourfold.training.collator import is_nested


class Batches(Trainer):
    """The part of a trainer that makes batches of datasets."""

    loss: Any
    args: Any
    evaluator: Any
    train_dataset: Any
    eval_dataset: Any
    _ahead: Ahead | None = None

    def preprocess_dataset(self, dataset: Any, dataset_name: str | None = None) -> Any:
        """Return a dataset as it is read: its columns checked, with its name in each row where that is asked for.

        Args:
            dataset: A dataset, or datasets by name.
            dataset_name: Its name, if it is one of several.
        """
        if isinstance(dataset, Mapping):
            named = self.should_dataset_name_column_be_added(dataset, self.args, self.loss)
            for name, part in dataset.items():
                self.validate_column_names(part, name)
                if named:
                    dataset[name] = self.add_dataset_name_column(part, name)  # type: ignore[index]
            return dataset
        self.validate_column_names(dataset, dataset_name)
        return dataset

    def validate_column_names(self, dataset: Any, dataset_name: str | None = None) -> None:
        """Raise :class:`~fourfold.errors.InputError` for names of columns that a batch uses itself."""
        _datasets.check_column_names(dataset.column_names or (), dataset_name)

    def should_dataset_name_column_be_added(self, dataset: Any, args: Any, loss: Any) -> bool:
        """Whether batches must know which of several datasets they are of."""
        if not isinstance(dataset, Mapping):
            return False
        prompted = isinstance(args.prompts, dict) and bool(args.prompts)
        return isinstance(loss, Mapping) or prompted or is_nested(args.router_mapping or {})

    def add_dataset_name_column(self, dataset: Any, dataset_name: str) -> Any:
        """Return a dataset whose rows hold its name."""
        return _datasets.named(dataset, dataset_name)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the training.

        Raises:
            InputError: If there is no dataset, or it is none that can be read.
        """
        if self.train_dataset is None:
            raise InputError("training needs a train_dataset")
        return _loaders.loader(self, self.train_dataset, self._batch_size(), training=True)

    def _batch_size(self) -> int:
        # Smaller than asked for once auto_find_batch_size has met the end of the memory.
        return getattr(self, "_train_batch_size", None) or self.args.train_batch_size

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Return the batches of an evaluation.

        Args:
            eval_dataset: A dataset, or the name of one of ``self.eval_dataset``, which is meant by None.
        """
        own = eval_dataset is None or isinstance(eval_dataset, str)
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        if dataset is None:
            if self.evaluator is not None:
                return _loaders.empty_loader(self)
            raise InputError("evaluation needs an eval_dataset or an evaluator")
        key = eval_dataset if isinstance(eval_dataset, str) else "eval"
        kept: dict[str, Any] = self.__dict__.setdefault("_eval_dataloaders", {})
        if own and key in kept:
            return kept[key]
        made = _loaders.loader(self, dataset, self.args.eval_batch_size, training=False)
        if own and self.args.dataloader_persistent_workers:
            kept[key] = made
        return made

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """Return the batches of a dataset that is none of the trainer's."""
        return _loaders.loader(self, test_dataset, self.args.eval_batch_size, training=False)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """Return the batches of a step; the next one is tokenised by a thread while this one is trained on."""
        if self.args.dataloader_num_workers == 0:
            if self._ahead is None or self._ahead.items is not epoch_iterator:
                if self._ahead is not None:
                    self._ahead.close()
                self._ahead = Ahead(epoch_iterator)
            epoch_iterator = self._ahead
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def get_batch_sampler(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> BatchSampler | None:
        """Return the batches of a dataset, as ``args.batch_sampler`` says."""
        return _loaders.batch_sampler(
            self.args.batch_sampler, dataset, batch_size, drop_last, valid_label_columns, generator, seed
        )

    def get_multi_dataset_batch_sampler(
        self,
        dataset: ConcatDataset[Any],
        batch_samplers: list[BatchSampler],
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> BatchSampler:
        """Return the batches of several datasets in order, as ``args.multi_dataset_batch_sampler`` says."""
        return _loaders.order_of_datasets(
            self.args.multi_dataset_batch_sampler, dataset, batch_samplers, generator, seed
        )
