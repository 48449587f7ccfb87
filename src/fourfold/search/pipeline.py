"""Retrieve, then rerank: many passages by what is cheap, the best of them by a cross encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fourfold.errors import InputError, check_positive
from fourfold.search.fusion import Fusion
from fourfold.search.hits import Hit
from fourfold.search.index import Index
from fourfold.search.query import Mode, rank

RERANKED = 50


class Scorer(Protocol):
    """What scores pairs: a ``CrossEncoder``, or what ``fourfold.load`` makes of one."""

    num_labels: int

    def predict(self, inputs: Any, **options: Any) -> Any:
        """Score pairs."""


@dataclass(frozen=True)
class Pipeline:
    """Search one or several indexes, and let a cross encoder sort the best that is found.

    Attributes:
        indexes: Searched as if they were one; the first one's models are asked.
        reranker: Scores the question with each passage found; None leaves the order of the search.
        rerank_top: How many passages it is asked about. Its cost is that many inference calls a question; what lies
            below stays out of the result.
        mode: How passages are found.
        fusion: How ``hybrid`` makes one score of several.

    >>> from fourfold.testing import tiny
    >>> index = Index("notes")  # doctest: +SKIP
    >>> Pipeline([index], tiny("cross")).search("how is a model saved?")  # doctest: +SKIP
    """

    indexes: Sequence[Index]
    reranker: Scorer | None = None
    rerank_top: int = RERANKED
    mode: Mode = "hybrid"
    fusion: Fusion = "score"

    def __post_init__(self) -> None:
        check_positive(rerank_top=self.rerank_top)
        if not self.indexes:
            raise InputError("a pipeline needs at least one index to search")
        if self.reranker is not None:
            check_reranker(self.reranker)

    def search(self, question: str, *, top_k: int = 10) -> list[Hit]:
        """Return the passages that answer best, best first; reranked ones with the cross encoder's scores.

        Args:
            question: What to look for.
            top_k: At most this many.

        Raises:
            InputError: If the question is empty, or an argument is out of range.
        """
        check_positive(top_k=top_k)
        wanted = top_k if self.reranker is None else self.rerank_top
        passages = sum(map(len, self.indexes))
        encoders = self.indexes[0].encoders if passages and self.mode != "lexical" else []
        sources = [index.source() for index in self.indexes]
        # More than is wanted: what several files say in the same words counts once.
        found = rank(sources, question, top_k=2 * wanted + 10, mode=self.mode, encoders=encoders, mixing=self.fusion)
        hits = distinct(found)[:wanted]
        return (hits if self.reranker is None else reranked(hits, question, self.reranker))[:top_k]


def check_reranker(model: Scorer) -> None:
    """Raise :class:`~fourfold.errors.InputError` for a model that cannot sort passages."""
    if model.num_labels != 1:
        raise InputError(f"a reranker gives one score a pair; this model has {model.num_labels} labels")


def distinct(hits: Sequence[Hit]) -> list[Hit]:
    """Return the hits without those whose words, in order, are those of a better one."""
    kept: dict[str, Hit] = {}
    for hit in hits:
        kept.setdefault(" ".join(hit.text.split()), hit)
    return list(kept.values())


def reranked(hits: Sequence[Hit], question: str, model: Scorer) -> list[Hit]:
    """Return hits with a cross encoder's scores, best first; equal ones keep their order.

    A passage is read with the headings that it stands under.
    """
    pairs = [(question, f"{hit.heading}\n{hit.text}" if hit.heading else hit.text) for hit in hits]
    scores = [float(score) for score in model.predict(pairs)] if pairs else []
    scored = [replace(hit, score=score) for hit, score in zip(hits, scores, strict=True)]
    return sorted(scored, key=lambda hit: -hit.score)
