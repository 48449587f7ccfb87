"""Rank the passages of one or several indexes by a question."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from fourfold.errors import InputError, SearchIndexError, did_you_mean
from fourfold.search import analysis, dense, fusion, lexical, prior
from fourfold.search.hits import Hit
from fourfold.search.snapshot import Part, Snapshot
from fourfold.search.vectors import Encoder, open_vectors

Mode = Literal["hybrid", "dense", "lexical"]


@dataclass(frozen=True)
class Source:
    """One index that takes part in a search.

    Attributes:
        snapshot: The open index.
        inside: Tells by its name whether a file may be found; None if every file may.
        prefix: What the path of a hit begins with.
    """

    snapshot: Snapshot
    inside: Callable[[str], bool] | None = None
    prefix: str = ""


def check(question: str, top_k: int, mode: str) -> None:
    """Raise :class:`~fourfold.errors.InputError` for what cannot be searched for."""
    if not question.strip():
        raise InputError("the question is empty")
    if top_k < 1:
        raise InputError(f"top_k must be at least 1; got {top_k}")
    if mode not in get_args(Mode):
        raise InputError(
            f"mode must be one of {', '.join(get_args(Mode))}; got {mode!r}.{did_you_mean(mode, get_args(Mode))}"
        )


def rank(sources: Sequence[Source], question: str, *, top_k: int, mode: Mode, encoder: Encoder | None) -> list[Hit]:
    """Return the best passages, best first; equal scores are ordered by path and line.

    Args:
        sources: Indexes, searched as if they were one.
        question: What to look for.
        top_k: At most this many hits.
        mode: By words, by meaning, or both.
        encoder: The model; lexical search needs none.
    """
    check(question, top_k, mode)
    parts = [(source, part) for source in sources for part in source.snapshot.parts]
    if not parts:
        return []
    kept = _kept(parts, [mask for source in sources for mask in source.snapshot.masks(source.inside)])
    if mode == "lexical":
        scores = _rounded(_lexical(sources, parts, question)[kept])
    else:
        assert encoder is not None
        asked = np.asarray(encoder.encode_query([question], normalize_embeddings=True, show_progress_bar=False)[0])
        vectors = _vectors(parts, encoder, len(asked))
        scores = _rounded(np.concatenate(dense.scores(vectors, asked))[kept])
        if mode == "hybrid":
            words = _lexical(sources, parts, question)[kept]
            scores = _rounded(fusion.fuse(words, scores))
            best = _best(parts, kept, scores, fusion.FEEDBACK)
            moved = fusion.feedback(asked, [dense.vector(vectors[place.part][place.row]) for place in best])
            scores = _rounded(fusion.fuse(words, np.concatenate(dense.scores(vectors, moved))[kept]))
    found = _best(parts, kept, scores, top_k)
    return [
        Hit(place.path, place.line, place.score, segment.texts[place.row], segment.headings[place.row])
        for place in found
        for segment in [parts[place.part][1].segment]
        if mode != "lexical" or place.score > 0
    ]


def _rounded(scores: np.ndarray) -> np.ndarray:
    """Drop the last bits: sums of the same numbers in another order differ in them, and equal passages must tie."""
    return np.round(scores.astype(np.float64), 6)


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of the ``count`` highest scores, in no order, and of all that equal the lowest of them."""
    if len(scores) <= count:
        return np.arange(len(scores))
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    return np.flatnonzero(scores >= threshold)


def _kept(parts: list[tuple[Source, Part]], masks: list[np.ndarray | None]) -> np.ndarray | slice:
    if all(mask is None for mask in masks):
        return slice(None)
    whole = (np.ones(part.segment.rows, bool) for _, part in parts)
    return np.concatenate([every if mask is None else mask for every, mask in zip(whole, masks, strict=True)])


def _lexical(sources: Sequence[Source], parts: list[tuple[Source, Part]], question: str) -> np.ndarray:
    counts = [source.snapshot.statistics for source in sources]
    total = lexical.Statistics(sum(c.passages for c in counts), sum(c.length for c in counts))
    segments, alive = [part.segment for _, part in parts], [part.alive for _, part in parts]
    return np.concatenate(lexical.scores(segments, alive, total, analysis.terms(question), prior.builtin()))


def _vectors(parts: list[tuple[Source, Part]], encoder: Encoder, width: int) -> list[np.ndarray]:
    vectors = []
    for _, part in parts:
        rows = open_vectors(part.segment, encoder.fingerprint, width)
        if rows is None:
            raise SearchIndexError(f"the index in {part.segment.folder} lacks this model's vectors; update it first")
        vectors.append(rows)
    return vectors


class _Place(NamedTuple):
    """Where a passage stands; the order of the fields is that of the results."""

    negative: float
    path: str
    line: int
    row: int
    part: int

    @property
    def score(self) -> float:
        return -self.negative


def _best(parts: list[tuple[Source, Part]], kept: np.ndarray | slice, scores: np.ndarray, count: int) -> list[_Place]:
    """Return the first passages in order; ``scores`` are those of the rows that are ``kept``."""
    chosen = top(scores, count)
    rows = np.flatnonzero(kept)[chosen] if isinstance(kept, np.ndarray) else chosen
    starts = np.cumsum([0] + [part.segment.rows for _, part in parts])
    places = []
    for at, score in zip(rows.tolist(), scores[chosen].tolist(), strict=True):
        number = int(np.searchsorted(starts, at, side="right")) - 1
        (source, part), row = parts[number], at - int(starts[number])
        name = source.snapshot.catalog.name(part.file_of(row))
        path = os.path.normpath(os.path.join(source.prefix, name)) if source.prefix else name  # noqa: PTH118
        places.append(_Place(-score, path, int(part.segment.line[row]), row, number))
    return sorted(places)[:count]
