"""The best documents of each query, from scores that come a block of documents at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourfold.errors import InputTypeError
from fourfold.ops.similarity import as_tensor, is_sparse
from fourfold.ops.sparse import as_coo, row_range
from fourfold.ops.vectors import to_float_tensor

Score = Callable[[Any, Any], Any]
"""Scores of all pairs, ``[queries, docs]``, larger for better."""

# Scores of one call: 128 MiB as float32. Documents are taken in blocks too, since some scores scale a copy of them.
_MOST_SCORES = 2**25
_MOST_DOCUMENTS = 2**15
# A rank that no document has, of what is not there yet.
_NOBODY = np.iinfo(np.int32).max


def ranks_of(ids: Sequence[Any]) -> NDArray[np.int32]:
    """Return the place of each id among all of them sorted, int32 ``[docs]``.

    Raises:
        InputTypeError: If the ids cannot be sorted, since they are of different types.
    """
    try:
        order = sorted(range(len(ids)), key=ids.__getitem__)
    except TypeError as error:
        raise InputTypeError(
            f"the ids of corpus must be of one type that can be sorted, such as str: {error}"
        ) from None
    ranks = np.empty(len(ids), dtype=np.int32)
    ranks[order] = np.arange(len(ids), dtype=np.int32)
    return ranks


class BestHits:
    """The best documents of each query among those scored so far: by score, and of equal scores by rank of the id.

    Args:
        queries: Number of queries.
        most: How many documents a query keeps.

    Attributes:
        scores: float64 ``[queries, most]``, largest first; -inf where there is no document.
        ranks: int32 ``[queries, most]``, each document's place in the order of ids.

    >>> hits = BestHits(1, 2)
    >>> hits.add(slice(0, 1), torch.tensor([[0.5, 0.75, 0.5]]), np.array([2, 1, 0], dtype=np.int32))
    >>> hits.of(0)
    [(1, 0.75), (0, 0.5)]
    """

    def __init__(self, queries: int, most: int) -> None:
        self.scores = np.full((queries, most), -np.inf)
        self.ranks = np.full((queries, most), _NOBODY, dtype=np.int32)

    def add(self, rows: slice, scores: Tensor, ranks: NDArray[np.int32]) -> None:
        """Take in the scores of further documents.

        Args:
            rows: The queries that they are of.
            scores: ``[queries, docs]``.
            ranks: int32 ``[docs]``, the documents' places in the order of ids.
        """
        most = self.scores.shape[1]
        best, places = _best(scores, torch.from_numpy(ranks).to(scores.device), most)
        found = np.concatenate([self.scores[rows], best.cpu().numpy().astype(np.float64)], axis=1)
        who = np.concatenate([self.ranks[rows], places.cpu().numpy()], axis=1)
        order = np.lexsort((who, -found), axis=-1)[:, :most]
        self.scores[rows] = np.take_along_axis(found, order, axis=1)
        self.ranks[rows] = np.take_along_axis(who, order, axis=1)

    def of(self, query: int) -> list[tuple[int, float]]:
        """Return the rank and the score of each document of one query, best first."""
        pairs = zip(self.ranks[query].tolist(), self.scores[query].tolist(), strict=True)
        return [(rank, score) for rank, score in pairs if rank != _NOBODY]


def _best(scores: Tensor, ranks: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the largest scores of each row ``[queries, most]`` and the ranks of their documents."""
    if scores.shape[1] <= most:
        return scores, ranks.expand(len(scores), -1)
    values, columns = scores.topk(most + 1, dim=1)
    found = ranks[columns[:, :most]]
    # Of documents that tie where the list is cut, torch keeps any; one more than is kept tells where that happened.
    cut = (values[:, most] == values[:, most - 1]).nonzero()[:, 0]
    values = values[:, :most]
    if len(cut):
        found[cut] = _lowest_of_tied(scores[cut], values[cut], ranks, found[cut])
    return values, found


def _lowest_of_tied(scores: Tensor, values: Tensor, ranks: Tensor, found: Tensor) -> Tensor:
    """Return ``found`` with those whose score is the last kept replaced by the lowest ranks of that score."""
    last = values[:, -1:]
    lowest = torch.where(scores == last, ranks, _NOBODY).topk(values.shape[1], dim=1, largest=False, sorted=True).values
    tied = values == last
    nth = (tied.cumsum(dim=1) - 1).clamp(min=0)
    return torch.where(tied, lowest.gather(1, nth), found)


def score_blocks(queries: Any, documents: Any, score: Score) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield scores of queries with documents, some of both at a time.

    Args:
        queries: ``[queries, width]``, dense or sparse, or a list.
        documents: ``[docs, width]``, dense or sparse, or a list.
        score: Compares queries with documents.

    Yields:
        Which queries; which documents; their scores ``[queries, docs]``, in float32 if they are of fewer bits.
    """
    queries, documents = (as_coo(v) if is_sparse(v) else v for v in (queries, documents))
    for some in _blocks(len(documents), _MOST_DOCUMENTS):
        block = rows_of(documents, some)
        for asking in _blocks(len(queries), max(1, _MOST_SCORES // min(_MOST_DOCUMENTS, len(documents)))):
            scores = as_tensor(score(rows_of(queries, asking), block))
            yield asking, some, to_float_tensor(scores.to_dense() if is_sparse(scores) else scores)


def rows_of(vectors: Any, some: slice) -> Any:
    """Return some rows of vectors, dense or sparse, as a view where that is possible."""
    if some == slice(0, len(vectors)):
        return vectors
    return row_range(as_coo(vectors), some.start, some.stop) if is_sparse(vectors) else vectors[some]


def _blocks(count: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, count)) for start in range(0, count, most))
