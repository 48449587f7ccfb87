"""Write segments: from passages one by one, or from the living rows of other segments."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourfold.search.analysis import terms_of, words
from fourfold.search.arrays import Strings, save_arrays
from fourfold.search.passages import Passage
from fourfold.search.segments import SUFFIX, Segment


@dataclass(frozen=True)
class Postings:
    """Which passages hold which terms: sorted by term, then by row.

    Attributes:
        terms: Distinct terms, sorted by their bytes.
        term: ``[postings]`` positions in ``terms``.
        row: ``[postings]``.
        count: ``[postings]``.
    """

    terms: list[str]
    term: np.ndarray
    row: np.ndarray
    count: np.ndarray


class _Vocabulary(dict[str, int]):
    """Word to term number, made up when first asked: -1 for no term, below that a list of several."""

    def __init__(self) -> None:
        super().__init__()
        self.terms: dict[str, int] = {}
        self.several: list[list[int]] = []

    def __missing__(self, word: str) -> int:
        numbers = [self.terms.setdefault(term, len(self.terms)) for term in terms_of(word)]
        if len(numbers) == 1:
            value = numbers[0]
        elif numbers:
            self.several.append(numbers)
            value = -1 - len(self.several)
        else:
            value = -1
        self[word] = value
        return value


class SegmentBuilder:
    """Gathers passages until they are written as one segment."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget every passage."""
        self._passages: list[Passage] = []
        self._vocabulary = _Vocabulary()
        self._ids = array("i")
        self._words = array("i")
        self.characters = 0

    def __len__(self) -> int:
        return len(self._passages)

    def add(self, passage: Passage) -> None:
        """Add one passage."""
        found = words(passage.text)
        if passage.heading:
            found += words(passage.heading)
        # A dictionary's own lookup runs at the speed of C; only a word's first occurrence is analysed.
        self._ids.extend(map(self._vocabulary.__getitem__, found))
        self._words.append(len(found))
        self._passages.append(passage)
        self.characters += len(passage.text)

    def truncate(self, rows: int) -> None:
        """Drop all but the first ``rows`` passages: those of a file that could not be read to its end."""
        dropped = sum(self._words[rows:])
        if dropped:
            del self._ids[-dropped:]
        del self._words[rows:]
        self.characters -= sum(len(passage.text) for passage in self._passages[rows:])
        del self._passages[rows:]

    def write(self, folder: Path, name: str) -> int:
        """Write the segment; returns its number of terms, repetitions included."""
        length = save_segment(folder, name, self._passages, self._postings())
        self.clear()
        return length

    def _postings(self) -> Postings:
        rows = len(self._passages)
        term = np.frombuffer(self._ids, dtype=np.int32) if self._ids else np.empty(0, np.int32)
        row = np.repeat(np.arange(rows), np.frombuffer(self._words, dtype=np.int32))
        several, joined = self._vocabulary.several, np.flatnonzero(term < -1)
        extra = [(number, at) for at in joined.tolist() for number in several[-2 - int(term[at])]]
        more = np.array(extra, np.int64).reshape(-1, 2)
        kept = term >= 0
        term, row = np.concatenate([term[kept], more[:, 0]]), np.concatenate([row[kept], row[more[:, 1]]])
        # One sorted key a posting counts them all without an object each.
        names = list(self._vocabulary.terms)
        order = sorted(range(len(names)), key=lambda index: names[index].encode())
        rank = np.empty(len(names), np.int64)
        rank[order] = np.arange(len(names))
        key, count = np.unique(rank[term] * max(rows, 1) + row, return_counts=True)
        return Postings([names[index] for index in order], key // max(rows, 1), key % max(rows, 1), count)


def save_segment(folder: Path, name: str, passages: Sequence[Passage], postings: Postings) -> int:
    """Write one segment file; returns its number of terms, repetitions included."""
    # Words of passages dropped again leave terms without postings behind.
    used, stop = np.unique(postings.term, return_counts=True)
    # float64 weights are exact for any count that fits in memory
    length = np.bincount(postings.row, postings.count, minlength=len(passages)).astype("<i4")
    arrays = {
        **Strings.pack("text", (passage.text for passage in passages)),
        **Strings.pack("heading", (passage.heading for passage in passages)),
        **Strings.pack("term", (postings.terms[index] for index in used.tolist())),
        "line": np.fromiter((passage.line for passage in passages), "<i4", len(passages)),
        "length": length,
        "stop": np.cumsum(stop, dtype="<i8"),
        "row": postings.row.astype("<i4"),
        "count": np.minimum(postings.count, np.iinfo("<u2").max).astype("<u2"),
    }
    save_arrays(folder / (name + SUFFIX), arrays, {"rows": len(passages)})
    return int(length.sum())


def merge_segments(folder: Path, name: str, parts: Iterable[tuple[Segment, np.ndarray]]) -> int:
    """Write one segment of the chosen rows of several; returns its number of terms, repetitions included.

    Args:
        folder: Where it is written.
        name: Its name.
        parts: Segments, each with the rows that live on, ascending.
    """
    passages: list[Passage] = []
    terms: dict[str, int] = {}
    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for segment, rows in parts:
        number = np.array([terms.setdefault(term, len(terms)) for term in segment.terms.all()], np.int64)
        new_row = np.full(segment.rows, -1, np.int64)
        new_row[rows] = np.arange(len(passages), len(passages) + len(rows))
        term = np.repeat(number, np.diff(segment.stop, prepend=0))
        row = new_row[segment.row]
        kept = row >= 0
        columns.append((term[kept], row[kept], segment.count[kept].astype(np.int64)))
        for index in rows.tolist():
            passages.append(Passage(int(segment.line[index]), segment.texts[index], segment.headings[index]))
    term, row, count = (np.concatenate(column) for column in zip(*columns, strict=True))
    names = list(terms)
    order = sorted(range(len(names)), key=lambda index: names[index].encode())
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    term = rank[term]
    # Within a term the rows already ascend, so a stable sort by term alone keeps them in order.
    by_term = np.argsort(term, kind="stable")
    merged = Postings([names[index] for index in order], term[by_term], row[by_term], count[by_term])
    return save_segment(folder, name, passages, merged)
