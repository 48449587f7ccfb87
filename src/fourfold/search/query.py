"""Rank the passages of one or several indexes by a question."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from fourfold.errors import InputError, SearchIndexError, did_you_mean
from fourfold.search import analysis, dense, fusion, lexical, prior
from fourfold.search.encoders import Encoder, choose
from fourfold.search.fusion import FUSIONS, Fusion, rounded
from fourfold.search.hits import Hit
from fourfold.search.snapshot import Part, Snapshot
from fourfold.search.vectors import open_vectors

if TYPE_CHECKING:
    from fourfold.search.maxscore import MaxScore

Mode = Literal["hybrid", "dense", "sparse", "lexical"]


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


def check(question: str, top_k: int, mode: str, mixing: str = "score") -> None:
    """Raise :class:`~fourfold.errors.InputError` for what cannot be searched for."""
    if not question.strip():
        raise InputError("the question is empty")
    if top_k < 1:
        raise InputError(f"top_k must be at least 1; got {top_k}")
    for name, value, known in (("mode", mode, get_args(Mode)), ("fusion", mixing, tuple(FUSIONS))):
        if value not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}; got {value!r}.{did_you_mean(value, known)}")


def rank(
    sources: Sequence[Source],
    question: str,
    *,
    top_k: int,
    mode: Mode,
    encoders: Sequence[Encoder] = (),
    mixing: Fusion = "score",
) -> list[Hit]:
    """Return the best passages, best first; equal scores are ordered by path and line.

    Args:
        sources: Indexes, searched as if they were one.
        question: What to look for.
        top_k: At most this many hits.
        mode: By words, by a dense or a sparse model, or by words and every model given.
        encoders: The models, at most one of a family; lexical search needs none.
        mixing: How a hybrid search makes one score of several.
    """
    check(question, top_k, mode, mixing)
    asked = _Asked.of(sources, question)
    if not asked.parts:
        return []
    models = choose(mode, encoders)
    if mode == "lexical":
        found = asked.best(rounded(asked.words()), top_k)
    elif mode == "sparse":
        assert models.sparse is not None
        found = asked.best_sparse(models.sparse, top_k)
    elif mode == "dense":
        assert models.dense is not None
        found = asked.best(rounded(asked.meaning(models.dense)()), top_k)
    else:
        matches = [asked.words(), *([] if models.sparse is None else [asked.matches(models.sparse)])]
        found = _hybrid(asked, matches, models.dense, top_k, FUSIONS[mixing])
    return [
        Hit(place.path, place.line, place.score, segment.texts[place.row], segment.headings[place.row])
        for place in found
        for segment in [asked.parts[place.part][1].segment]
        # A passage without a word or a term of the question is no hit, unless its meaning was asked for.
        if models.dense is not None or place.score > 0
    ]


def _hybrid(
    asked: _Asked,
    matches: list[np.ndarray],
    model: Encoder | None,
    top_k: int,
    mix: Callable[[Sequence[np.ndarray], np.ndarray | None], np.ndarray],
) -> list[_Place]:
    if model is None:
        return asked.best(mix(matches, None), top_k)
    meaning = asked.meaning(model)
    first = asked.best(mix(matches, meaning()), fusion.FEEDBACK)
    return asked.best(mix(matches, meaning(first)), top_k)


@dataclass(frozen=True)
class _Asked:
    """A question put to some indexes; scores are ``[passages]`` of those that may be found.

    Attributes:
        question: What to look for.
        sources: The indexes.
        parts: Their parts, each with the index that it is of.
        masks: For each part ``[rows]``, which may be found; None if all may.
        kept: The same for the rows of all parts, one part's after the other's.
    """

    question: str
    sources: Sequence[Source]
    parts: list[tuple[Source, Part]]
    masks: list[np.ndarray | None]
    kept: np.ndarray | slice

    @classmethod
    def of(cls, sources: Sequence[Source], question: str) -> _Asked:
        parts = [(source, part) for source in sources for part in source.snapshot.parts]
        masks = [mask for source in sources for mask in source.snapshot.masks(source.inside)]
        return cls(question, sources, parts, masks, _kept(parts, masks) if parts else slice(None))

    def words(self) -> np.ndarray:
        """Return BM25 scores."""
        return _lexical(self.sources, self.parts, self.question)[self.kept]

    def matches(self, model: Encoder) -> np.ndarray:
        """Return the scores of a sparse model."""
        searcher, (terms, weights) = self._sparse(model)
        return np.concatenate(searcher.scores(terms, weights))[self.kept]

    def meaning(self, model: Encoder) -> Callable[..., np.ndarray]:
        """Return what gives the cosines of a dense model: as asked, or moved towards some passages."""
        options = {"normalize_embeddings": True, "show_progress_bar": False}
        asked = np.asarray(model.encode_query([self.question], **options)[0])
        vectors = _vectors(self.parts, model, len(asked))

        def cosines(towards: Sequence[_Place] = ()) -> np.ndarray:
            best = [dense.vector(vectors[place.part][place.row]) for place in towards]
            moved = fusion.feedback(asked, best) if best else asked
            return np.concatenate(dense.scores(vectors, moved))[self.kept]

        return cosines

    def best(self, scores: np.ndarray, count: int) -> list[_Place]:
        """Return the first passages by their scores, in order."""
        chosen = top(scores, count)
        rows = np.flatnonzero(self.kept)[chosen] if isinstance(self.kept, np.ndarray) else chosen
        starts = np.cumsum([0] + [part.segment.rows for _, part in self.parts])
        number = np.searchsorted(starts, rows, side="right") - 1
        return self._placed(number, rows - starts[number], scores[chosen], count)

    def best_sparse(self, model: Encoder, count: int) -> list[_Place]:
        """Return the first passages by a sparse model, in order, without scoring most of the others."""
        searcher, (terms, weights) = self._sparse(model)
        best = searcher.best(terms, weights, count)
        return self._placed(best.part, best.row, best.score, count)

    def _sparse(self, model: Encoder) -> tuple[MaxScore, tuple[np.ndarray, np.ndarray]]:
        from fourfold.search import sparse
        from fourfold.search.maxscore import MaxScore

        asked = sparse.question_of(model, self.question)
        rows = sparse.open_sparse([part.segment for _, part in self.parts], model, asked.width)
        return MaxScore(rows, self.masks), asked.row(0)

    def _placed(self, number: np.ndarray, row: np.ndarray, score: np.ndarray, count: int) -> list[_Place]:
        places = []
        for at, line, value in zip(number.tolist(), row.tolist(), score.tolist(), strict=True):
            source, part = self.parts[at]
            name = source.snapshot.catalog.name(part.file_of(line))
            path = os.path.normpath(os.path.join(source.prefix, name)) if source.prefix else name  # noqa: PTH118
            places.append(_Place(-value, path, int(part.segment.line[line]), line, at))
        return sorted(places)[:count]


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
