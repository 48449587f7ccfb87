"""Translations with a teacher's embeddings, for a student that is to learn other languages."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from fourfold.errors import InputError
from fourfold.text.example import InputExample
from fourfold.training.legacy._files import at_most, split_rows


class ParallelSentencesDataset(Dataset[InputExample]):
    """Texts and their translations, each labelled with the teacher's embedding of the text.

    An item is an ``InputExample`` of one text, whose label is the embedding ``[width]`` of the source that it
    translates; the source itself is one of the texts. Items come in random order, drawn by the global generator of
    ``random``; which one is asked for is not read, and there is no end of them. A pass of a ``DataLoader`` takes
    ``len()`` items; give it no workers, each of which would draw for itself.

    The datasets take turns: each as many sources as its weight, with all their translations, then the texts of all
    these are shuffled.

    Args:
        student_model: Kept for the caller; not used.
        teacher_model: Embeds the sources: a model with ``encode``.
        batch_size: Sources that the teacher embeds at once.
        use_embedding_cache: Whether to keep each source's embedding; else it is computed whenever it comes up.

    Attributes:
        datasets: The sources of each dataset with their texts.
        embedding_cache: The embedding of each source that has come up, if they are kept.

    >>> class Teacher:
    ...     def encode(self, texts, **options):
    ...         return [[float(len(text))] for text in texts]
    >>> dataset = ParallelSentencesDataset(student_model=None, teacher_model=Teacher())
    >>> dataset.add_dataset([["hello", "hola", "hallo"]])
    >>> len(dataset), dataset[0].label
    (3, [5.0])
    """

    def __init__(
        self, student_model: Any, teacher_model: Any, batch_size: int = 8, use_embedding_cache: bool = True
    ) -> None:
        self.student_model = student_model
        self.teacher_model = teacher_model
        self.batch_size = batch_size
        self.use_embedding_cache = use_embedding_cache
        self.datasets: list[list[tuple[str, list[str]]]] = []
        self.embedding_cache: dict[str, Any] = {}
        self._turns: list[int] = []  # numbers of datasets, each as often as its weight
        self._places: list[int] = []  # which source of each dataset is next
        self._ready: list[InputExample] = []

    def load_data(
        self,
        filepath: str | Path,
        weight: int = 100,
        max_sentences: int | None = None,
        max_sentence_length: int | None = 128,
    ) -> None:
        """Add the lines of a file: a source, then its translations, with tabs between them.

        Args:
            filepath: The file, plain or gzipped.
            weight: Sources of it that come in one turn.
            max_sentences: Take so many lines; None takes all.
            max_sentence_length: Leave out a line with a text of more characters than that; None leaves out none.

        Raises:
            InputError: If the file cannot be read.
        """
        texts = (row.columns for row in split_rows(filepath, separator="\t"))
        kept = (row for row in texts if _is_short(row, max_sentence_length))
        self.add_dataset(at_most(kept, max_sentences), weight, max_sentence_length=None)

    def add_dataset(
        self,
        parallel_sentences: Iterable[Sequence[str]],
        weight: int = 100,
        max_sentences: int | None = None,
        max_sentence_length: int | None = 128,
    ) -> None:
        """Add sources with their translations.

        Args:
            parallel_sentences: Each a source, then its translations. A source that comes again adds to those it has.
            weight: Sources of these that come in one turn.
            max_sentences: Take so many different sources; None takes all.
            max_sentence_length: Leave out a row with a text of more characters than that; None leaves out none.

        Raises:
            InputError: If a row is empty.
        """
        found: dict[str, dict[str, None]] = {}  # texts once each, in the order in which they come
        for number, texts in enumerate(parallel_sentences):
            if not texts:
                raise InputError(f"row {number} of parallel_sentences must hold a source and translations, it is empty")
            if _is_short(texts, max_sentence_length):
                found.setdefault(texts[0], {}).update(dict.fromkeys(texts))
                if max_sentences is not None and 0 < max_sentences <= len(found):
                    break
        if found:
            self._turns += [len(self.datasets)] * weight
            self.datasets.append([(source, list(texts)) for source, texts in found.items()])
            self._places.append(0)

    def __getitem__(self, index: int) -> InputExample:
        if not self._ready:
            self._prepare()
        return self._ready.pop()

    def _prepare(self) -> None:
        if not self._turns:
            raise InputError("there are no texts yet; call load_data or add_dataset first, with a weight of at least 1")
        drawn = [self._draw(number) for number in self._turns]
        embeddings = self._embed([source for source, _ in drawn])
        self._ready = [
            InputExample(texts=[text], label=embeddings[source]) for source, texts in drawn for text in texts
        ]
        random.shuffle(self._ready)

    def _draw(self, number: int) -> tuple[str, list[str]]:
        dataset, place = self.datasets[number], self._places[number]
        entry = dataset[place]
        self._places[number] = (place + 1) % len(dataset)
        if not self._places[number]:
            random.shuffle(dataset)
        return entry

    def _embed(self, sources: list[str]) -> dict[str, Any]:
        """Return the teacher's embedding of each source, those that are kept not computed again."""
        known = self.embedding_cache if self.use_embedding_cache else {}
        new = [source for source in dict.fromkeys(sources) if source not in known]
        if new:
            vectors = self.teacher_model.encode(
                new, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
            )
            known.update(zip(new, vectors, strict=True))
        return known

    def __len__(self) -> int:
        return sum(len(texts) for dataset in self.datasets for _, texts in dataset)


def _is_short(texts: Sequence[str], longest: int | None) -> bool:
    return longest is None or longest <= 0 or all(len(text) <= longest for text in texts)
