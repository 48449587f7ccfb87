"""Batches of examples in which no text comes twice, for losses that take the other texts of a batch as negatives."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from fourfold.errors import InputError, check_positive
from fourfold.text.example import InputExample


class NoDuplicatesDataLoader:
    """Batches in which no text of an example is a text of another one, whatever case and whitespace around it.

    Examples come in random order; one that shares a text with its batch is passed over. Where a pass over the examples
    ends within a pass over the batches, the next one begins at once, so that examples may come again.

    Args:
        train_examples: The examples; the list is shuffled in place, by the global generator of ``random``.
        batch_size: Examples of a batch. A last batch that would not be full is left out.

    Attributes:
        collate_fn: Makes a batch of a list of examples; None, as at first, gives the list.

    Raises:
        InputError: If the size is below 1; while iterating, if the examples have too few different texts for a batch.

    >>> loader = NoDuplicatesDataLoader([InputExample(texts=[text]) for text in ("a", "A ", "b", "c")], batch_size=2)
    >>> len(loader), all(len({text.texts[0].strip().lower() for text in batch}) == 2 for batch in loader)
    (2, True)
    """

    def __init__(self, train_examples: list[InputExample], batch_size: int) -> None:
        check_positive(batch_size=batch_size)
        self.train_examples = train_examples
        self.batch_size = batch_size
        self.collate_fn: Callable[[list[InputExample]], Any] | None = None
        self._place = 0
        random.shuffle(self.train_examples)

    def __iter__(self) -> Iterator[Any]:
        for _ in range(len(self)):
            batch = self._batch()
            yield batch if self.collate_fn is None else self.collate_fn(batch)

    def _batch(self) -> list[InputExample]:
        batch: list[InputExample] = []
        taken: set[str] = set()
        passed_over = 0
        while len(batch) < self.batch_size:
            example = self._next()
            texts = {str(text).strip().lower() for text in example.texts or ()}
            if texts.isdisjoint(taken):
                batch.append(example)
                taken |= texts
                passed_over = 0
                continue
            passed_over += 1
            # So many in a row contain each example, even if they were shuffled in between.
            if passed_over >= 2 * len(self.train_examples):
                raise InputError(
                    f"a batch of {self.batch_size} examples without a common text cannot be made: it has {len(batch)}, "
                    f"and each of the {len(self.train_examples)} examples repeats one of its texts. Take a smaller "
                    "batch_size, or more different examples"
                )
        return batch

    def _next(self) -> InputExample:
        example = self.train_examples[self._place]
        self._place += 1
        if self._place >= len(self.train_examples):
            self._place = 0
            random.shuffle(self.train_examples)
        return example

    def __len__(self) -> int:
        return len(self.train_examples) // self.batch_size
