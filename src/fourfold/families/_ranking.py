"""Documents sorted by a cross encoder: each by itself, or by the best of its passages. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fourfold.containers import offsets_of
from fourfold.errors import InputError
from fourfold.families._chunks import NO_LIMIT, Cutting
from fourfold.text.tokenizer import FastTokenizer


@dataclass(frozen=True)
class Reader:
    """What reads pairs of texts, as far as sorting documents needs it.

    Attributes:
        labels: Scores of a pair.
        score: Returns the scores of pairs.
        tokenizer: Tells where tokens stand in a text.
        longest: Most tokens of a pair; None is no limit.
        count: Returns the tokens of a pair, prompt and special tokens included.
    """

    labels: int
    score: Callable[[list[list[str]]], Any]
    tokenizer: FastTokenizer
    longest: float | None
    count: Callable[[tuple[str, str]], int]

    def room(self, query: str) -> int | None:
        """Return how many tokens a query leaves for a passage beside it; None is no limit.

        Raises:
            InputError: If it leaves none.
        """
        if self.longest is None or self.longest >= NO_LIMIT:
            return None
        taken = self.count((query, ""))
        if taken >= self.longest:
            raise InputError(
                f"the query leaves no room for passages: it takes {taken} of the model's {self.longest} tokens"
            )
        return int(self.longest) - taken


def check_ranks(labels: int) -> None:
    """Raise :class:`~fourfold.errors.InputError` for a model that gives several scores."""
    if labels != 1:
        raise InputError(f"rank needs a model with one label, this one has {labels}; use predict")


def check_scores(scores: Any) -> Any:
    """Return scores, an array or a tensor ``[rows, ...]``, if they are numbers: others would sort as best or worst.

    Raises:
        InputError: If one is not; the message names the first input that has it.
    """
    wrong = scores != scores
    if bool(wrong.any()):
        first = int(wrong.reshape(len(wrong), -1).any(-1).nonzero()[0][0])
        raise InputError(
            f"the model's score of the input at position {first} is not a number (NaN). Half precision may overflow: "
            "load the model in float32; otherwise its weights, or the activation, are broken"
        )
    return scores


def best_first(
    scores: Sequence[float], documents: Sequence[Any], top_k: int | None, return_documents: bool
) -> list[dict[str, Any]]:
    """Return the documents by their scores, the best first; equal ones keep their order."""
    best = sorted(enumerate(scores), key=lambda hit: -hit[1])[:top_k]
    hits: list[dict[str, Any]] = [{"corpus_id": number, "score": score} for number, score in best]
    if return_documents:
        for hit in hits:
            hit["text"] = documents[hit["corpus_id"]]
    return hits


def rank_passages(
    reader: Reader,
    query: str,
    documents: Sequence[str],
    top_k: int | None,
    return_documents: bool,
    size: int | None,
    overlap: int,
) -> list[dict[str, Any]]:
    """Sort documents by the best of their passages; see ``CrossEncoder.rank_passages``."""
    check_ranks(reader.labels)
    for i, document in enumerate(documents):
        if not isinstance(document, str):
            raise InputError(f"documents must be strings, got {type(document).__name__} at position {i}")
    if not documents:
        return []
    spans = _passages(reader, query, documents, size, overlap)
    pairs = [
        [query, document[start:stop]]
        for document, some in zip(documents, spans, strict=True)
        for start, stop in some.tolist()
    ]
    scores = np.asarray(reader.score(pairs))
    starts = offsets_of([len(some) for some in spans])[:-1]
    best = np.maximum.reduceat(scores, starts)
    hits = best_first(best.tolist(), documents, top_k, return_documents)
    for hit in hits:
        number = hit["corpus_id"]
        some = scores[starts[number] : starts[number] + len(spans[number])]
        hit["start"], hit["stop"] = spans[number][some.argmax()].tolist()
    return hits


def _passages(reader: Reader, query: str, documents: Sequence[str], size: int | None, overlap: int) -> list[Any]:
    """Return the passages of each document, int64 ``[passages, 2]``."""
    limit = reader.room(query)
    if size is not None and limit is not None and size > limit:
        raise InputError(f"size must be at most the {limit} tokens that the query leaves, got {size}")
    wanted = limit if size is None else size
    if wanted is None:
        raise InputError("the model has no max_seq_length; say with size how many tokens a passage may have")
    around = reader.tokenizer.count("")  # what a passage alone has around it
    return Cutting(reader.tokenizer, None, wanted + around, overlap).offsets(list(documents))
