"""A list of examples as a dataset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from fourfold.notices import warn_once
from fourfold.text.example import InputExample

logger = logging.getLogger(__name__)


class SentencesDataset(Dataset[InputExample]):
    """A list of examples, as it is. Deprecated: a ``DataLoader`` takes the list itself.

    Args:
        examples: The examples; they are not copied.
        model: Not read.

    >>> dataset = SentencesDataset([InputExample(texts=["a text"])], model=None)
    >>> len(dataset), dataset[0].texts
    (1, ['a text'])
    """

    def __init__(self, examples: Sequence[InputExample], model: Any) -> None:
        warn_once(logger, "SentencesDataset is deprecated; give the list of examples to the DataLoader instead")
        self.examples = examples

    def __getitem__(self, index: int) -> InputExample:
        return self.examples[index]

    def __len__(self) -> int:
        return len(self.examples)
