"""BM25 over the postings of open segments, as Lucene defines it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fourfold.search.prior import Prior
from fourfold.search.segments import Segment

K1, B = 1.5, 0.75


@dataclass(frozen=True)
class Statistics:
    """Of all live passages: their number, and their number of terms, repetitions included."""

    passages: int
    length: int


def scores(
    segments: Sequence[Segment],
    alive: Sequence[np.ndarray | None],
    statistics: Statistics,
    terms: Sequence[str],
    prior: Prior | None = None,
) -> list[np.ndarray]:
    """Score every passage by the terms of a question.

    Args:
        segments: Open segments.
        alive: For each, a mask ``[rows]`` of its live passages; None if all are.
        statistics: Of all live passages.
        terms: The question's terms; a repeated one counts as often as it is there.
        prior: Passages assumed besides, for how rare a term is; None for plain BM25.

    Returns:
        For each segment ``[rows]`` float32; 0 where no term occurs or the passage is dead.
    """
    found = [np.zeros(segment.rows, np.float32) for segment in segments]
    mean = max(statistics.length / max(statistics.passages, 1), 1e-9)
    for term, repeats in Counter(terms).items():
        postings = [_live(segment, mask, term) for segment, mask in zip(segments, alive, strict=True)]
        holding = sum(len(row) for row, _ in postings)
        if not holding:
            continue
        passages = statistics.passages + (prior.passages if prior else 0)
        having = holding + (prior.holding(term) if prior else 0)
        factor = repeats * rarity(passages, having)
        for segment, (row, count), score in zip(segments, postings, found, strict=True):
            norm = K1 * (1 - B + B * segment.length[row] / mean)
            score[row] += factor * count / (count + norm)
    return found


def rarity(passages: float, holding: float) -> float:
    """Return the weight of a term that so many of the passages hold."""
    return math.log(1 + (passages - holding + 0.5) / (holding + 0.5))


def question_weights(terms: Sequence[str], prior: Prior) -> dict[str, float]:
    """Return what each term of a question weighs by the prior alone, as if no passage were there yet.

    >>> from fourfold.search.prior import builtin
    >>> weights = question_weights(["first", "owl"], builtin())
    >>> weights["owl"] > 2 * weights["first"]
    True
    """
    return {term: repeats * rarity(prior.passages, prior.holding(term)) for term, repeats in Counter(terms).items()}


def passage_weights(terms: Sequence[str]) -> dict[str, float]:
    """Return what each term of a passage of average length counts: its number, with ever less for each more.

    The products with :func:`question_weights` add up to BM25.
    """
    return {term: count / (count + K1) for term, count in Counter(terms).items()}


def _live(segment: Segment, mask: np.ndarray | None, term: str) -> tuple[np.ndarray, np.ndarray]:
    row, count = segment.postings(term)
    if mask is None:
        return row, count
    kept = mask[row]
    return row[kept], count[kept]
