"""Examples that come in groups of one label, for losses that look for triplets in a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset

from fourfold.errors import check_positive
from fourfold.text.example import InputExample


class SentenceLabelDataset(IterableDataset[InputExample]):
    """Some examples of one label, then some of the next, in a random order of labels that changes after each round.

    A batch whose size is a multiple of ``samples_per_label`` so holds that many examples of each of its labels. Every
    label gets the same share: examples of a large group are left out, those of a small one come again in later rounds.
    The global generator of numpy draws the labels' order and the examples.

    Args:
        examples: The examples, with labels. Those of a label with fewer than ``samples_per_label`` are left out.
        samples_per_label: Examples of a label that come together, all different; 2 is the least for a triplet loss.
        with_replacement: Kept, and without effect: nothing comes twice in a group, and anything may in later rounds.

    Attributes:
        groups: The examples of each label that has enough of them, labels in the order in which they appear.

    Raises:
        InputError: If ``samples_per_label`` is below 1.

    Its length is the number of examples of all groups; a pass ends with the group that reaches it.

    >>> examples = [InputExample(texts=[text], label=len(text)) for text in ("a", "b", "cc", "dd", "eee")]
    >>> dataset = SentenceLabelDataset(examples)
    >>> len(dataset), sorted(example.label for example in dataset)
    (4, [1, 1, 2, 2])
    """

    def __init__(
        self, examples: Iterable[InputExample], samples_per_label: int = 2, with_replacement: bool = False
    ) -> None:
        super().__init__()
        check_positive(samples_per_label=samples_per_label)
        self.samples_per_label = samples_per_label
        self.with_replacement = with_replacement
        by_label: dict[Any, list[InputExample]] = {}
        for example in examples:
            by_label.setdefault(example.label, []).append(example)
        self.groups = [group for group in by_label.values() if len(group) >= samples_per_label]
        self._order = np.arange(len(self.groups))
        self._shuffle()

    def _shuffle(self) -> None:
        np.random.shuffle(self._order)  # noqa: NPY002  a script seeds the global generator

    def __iter__(self) -> Iterator[InputExample]:
        turns = -(-len(self) // self.samples_per_label)
        for turn in range(turns):
            group = self.groups[self._order[turn % len(self.groups)]]
            places = np.random.choice(len(group), self.samples_per_label, replace=False)  # noqa: NPY002
            yield from (group[place] for place in places)
            if (turn + 1) % len(self.groups) == 0:
                self._shuffle()

    def __len__(self) -> int:
        return sum(map(len, self.groups))
