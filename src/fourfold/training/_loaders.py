"""From a dataset to the batches of a training or an evaluation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, RandomSampler

from fourfold.errors import InputError
from fourfold.training.samplers import (
    BatchSamplers,
    DefaultBatchSampler,
    GroupByLabelBatchSampler,
    MultiDatasetBatchSamplers,
    MultiDatasetDefaultBatchSampler,
    NoDuplicatesBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)

logger = logging.getLogger(__name__)

_ORDERS = {
    MultiDatasetBatchSamplers.ROUND_ROBIN: RoundRobinBatchSampler,
    MultiDatasetBatchSamplers.PROPORTIONAL: ProportionalBatchSampler,
}


def batch_sampler(
    chosen: Any, dataset: Any, batch_size: int, drop_last: bool, labels: list[str] | None, generator: Any, seed: int
) -> BatchSampler:
    """Return the batches of a dataset, as row numbers.

    Args:
        chosen: A :class:`~fourfold.training.samplers.BatchSamplers`, or what is called for them.
        dataset: The rows.
        batch_size: Rows of a batch.
        drop_last: Whether to leave out a last batch that is not full.
        labels: Names of label columns.
        generator: Draws the order.
        seed: What it starts from, with the epoch added.

    Raises:
        InputError: If there is no such sampler.
    """
    options: dict[str, Any] = {
        "batch_size": batch_size, "drop_last": drop_last, "valid_label_columns": labels, "generator": generator,
        "seed": seed,
    }  # fmt: skip
    if chosen == BatchSamplers.NO_DUPLICATES:
        return NoDuplicatesBatchSampler(dataset, **options)
    if chosen == BatchSamplers.NO_DUPLICATES_HASHED:
        return NoDuplicatesBatchSampler(dataset, **options, precompute_hashes=True)
    if chosen == BatchSamplers.GROUP_BY_LABEL:
        return GroupByLabelBatchSampler(dataset, **options)
    if chosen == BatchSamplers.BATCH_SAMPLER:
        return DefaultBatchSampler(RandomSampler(dataset, generator=generator), **options)
    if callable(chosen):
        return chosen(dataset, **options)
    raise InputError(f"batch_sampler must be one of {', '.join(BatchSamplers)}, or called for batches; got {chosen!r}")


def order_of_datasets(
    chosen: Any, dataset: ConcatDataset[Any], samplers: list[BatchSampler], generator: Any, seed: int
) -> BatchSampler:
    """Return the batches of several datasets in their order, as row numbers of all datasets together.

    Raises:
        InputError: If there is no such order.
    """
    if not isinstance(chosen, MultiDatasetBatchSamplers) and not callable(chosen):
        names = ", ".join(MultiDatasetBatchSamplers)
        raise InputError(f"multi_dataset_batch_sampler must be one of {names}, or called for batches; got {chosen!r}")
    made: type[MultiDatasetDefaultBatchSampler] = _ORDERS.get(chosen, chosen)
    return made(dataset, batch_samplers=samplers, generator=generator, seed=seed)


def loader(trainer: Any, dataset: Any, batch_size: int, *, training: bool) -> DataLoader[Any]:
    """Return the batches of a dataset, of datasets by name, or of a stream, ready for the trainer's devices.

    Args:
        trainer: Whose arguments, collator and samplers are meant.
        dataset: What is read.
        batch_size: Rows of a batch.
        training: Whether processes may get batches of unequal number, of which those that some lack are left out.

    Raises:
        InputError: If it is none of these.
    """
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

    args = trainer.args
    if isinstance(dataset, IterableDatasetDict):
        raise InputError("an IterableDatasetDict cannot be sampled from; train on one stream, or on Datasets")
    options = {
        "collate_fn": trainer.data_collator,
        "num_workers": args.dataloader_num_workers,
        "pin_memory": args.dataloader_pin_memory and torch.accelerator.is_available(),
        "persistent_workers": args.dataloader_persistent_workers,
        "prefetch_factor": args.dataloader_prefetch_factor,
    }
    if isinstance(dataset, IterableDataset):
        if args.batch_sampler is not BatchSamplers.BATCH_SAMPLER:
            logger.warning("a stream is read in its order: batch_sampler=%s has no effect", args.batch_sampler)
        options.update(batch_size=batch_size, drop_last=args.dataloader_drop_last)
    elif isinstance(dataset, DatasetDict):
        for name, part in dataset.items():
            if isinstance(part, IterableDataset):
                raise InputError(f"the dataset {name!r} of several is a stream, which cannot be sampled from")
        dataset = _several(trainer, dataset, batch_size, options)
    elif isinstance(dataset, Dataset):
        generator = torch.Generator().manual_seed(args.seed)
        options["batch_sampler"] = _batches(trainer, dataset, batch_size, generator)
    else:
        raise InputError(
            f"a dataset must be a datasets.Dataset, a DatasetDict, an IterableDataset or a dictionary of Datasets; got "
            f"{type(dataset).__name__}"
        )
    trainer.accelerator.even_batches = not training
    return trainer.accelerator.prepare(DataLoader(dataset, **options))


def _several(trainer: Any, datasets: Mapping[str, Any], batch_size: int, options: dict[str, Any]) -> ConcatDataset[Any]:
    generator = torch.Generator().manual_seed(trainer.args.seed)
    samplers = [_batches(trainer, part, batch_size, generator) for part in datasets.values()]
    together: ConcatDataset[Any] = ConcatDataset(datasets.values())
    options["batch_sampler"] = trainer.get_multi_dataset_batch_sampler(
        dataset=together, batch_samplers=samplers, generator=generator, seed=trainer.args.seed
    )
    return together


def _batches(trainer: Any, dataset: Any, batch_size: int, generator: torch.Generator) -> BatchSampler:
    labels = getattr(trainer.data_collator, "valid_label_columns", None)
    sampler = trainer.get_batch_sampler(
        dataset, batch_size=batch_size, drop_last=trainer.args.dataloader_drop_last, valid_label_columns=labels,
        generator=generator, seed=trainer.args.seed,
    )  # fmt: skip
    if sampler is None:
        raise InputError("get_batch_sampler gave nothing; it must return a batch sampler")
    return sampler


def empty_loader(trainer: Any) -> DataLoader[Any]:
    """Return the batches of an evaluation without a dataset: none."""
    from datasets import Dataset

    return trainer.accelerator.prepare(DataLoader(Dataset.from_dict({}), batch_size=1, collate_fn=list))
