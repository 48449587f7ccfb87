"""What loaders of examples hold, as a dataset: the older training interface on the newer one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import BatchSampler, DataLoader

from fourfold.errors import InputError
from fourfold.training.legacy.no_duplicates_loader import NoDuplicatesDataLoader
from fourfold.training.legacy.sentence_label import SentenceLabelDataset
from fourfold.training.samplers import BatchSamplers

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

# Rows of a batch where a loader does not say.
BATCH_SIZE = 8


@contextmanager
def collating(loaders: Iterable[Any], collate: Callable[[Any], Any]) -> Iterator[None]:
    """Let loaders make their batches by a function inside the block.

    Args:
        loaders: Objects with an attribute ``collate_fn``.
        collate: What makes a batch of a list of examples.
    """
    before = [(loader, getattr(loader, "collate_fn", None)) for loader in loaders]
    try:
        for loader, _ in before:
            loader.collate_fn = collate
        yield
    finally:
        for loader, function in before:
            loader.collate_fn = function


def read(loader: Any) -> Dataset:
    """Return all examples of a loader, in the order in which it gives them.

    Columns are ``sentence_0``, ``sentence_1``, ... and ``label``, which is left out if all labels are 0: examples
    whose label was never set.

    Args:
        loader: Gives lists of objects with ``texts`` and ``label``.

    Raises:
        InputError: If it has no examples, or they have not as many texts each.
    """
    from datasets import Dataset

    with collating([loader], list):
        examples = [example for batch in loader for example in batch]
    if not examples:
        raise InputError("a loader has no examples; there is nothing to train on")
    counts = {len(example.texts or ()) for example in examples}
    if len(counts) > 1 or counts == {0}:
        raise InputError(
            f"the examples of a loader must have as many texts each, at least one; there are some with "
            f"{' and some with '.join(map(str, sorted(counts)))}"
        )
    columns: dict[str, list[Any]] = {
        f"sentence_{place}": list(texts)
        for place, texts in enumerate(zip(*(example.texts for example in examples), strict=True))
    }
    labels = [example.label for example in examples]
    if any(np.any(label) for label in labels):
        columns["label"] = labels
    return Dataset.from_dict(columns)


def batch_size(loader: Any) -> int:
    """Return the rows of a loader's batches, 8 if it does not say."""
    return getattr(loader, "batch_size", None) or BATCH_SIZE


def batch_sampler(loader: Any) -> BatchSamplers:
    """Return what puts the rows of a loader into batches as it does itself.

    What a loader's own sampler does cannot be known: it is told of, and its rows are put into batches at random.
    """
    if isinstance(loader, NoDuplicatesDataLoader):
        return BatchSamplers.NO_DUPLICATES
    if isinstance(getattr(loader, "dataset", None), SentenceLabelDataset):
        return BatchSamplers.GROUP_BY_LABEL
    own = getattr(loader, "batch_sampler", None)
    if isinstance(loader, DataLoader) and own is not None and type(own) is not BatchSampler:
        logger.warning(
            "fit() puts rows into batches anew, so that those of the loader's %s are lost; train with a trainer, whose "
            "argument batch_sampler takes such a class, or with old_fit()",
            type(own).__name__,
        )
    return BatchSamplers.BATCH_SAMPLER
