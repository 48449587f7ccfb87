"""How good rankings are whose documents are relevant or not.

:func:`judge` says once which of the ranked documents are relevant; each number is then a function of that and of k, a
mean over the queries. A query with fewer than k ranked documents counts as if irrelevant ones followed.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import InputError, check_positive


@dataclass(frozen=True, eq=False)
class Judged:
    """Rankings, each document of which is relevant or not.

    Attributes:
        gains: bool ``[queries, depth]``, whether the document at each rank is relevant, the best first.
        totals: int64 ``[queries]``, how many relevant documents there are, ranked or not.
    """

    gains: NDArray[np.bool_]
    totals: NDArray[np.int64]

    def top(self, k: int) -> NDArray[np.bool_]:
        """Return the gains of the first k ranks, fewer if nothing is ranked deeper."""
        check_positive(k=k)
        return self.gains[:, :k]


def judge(ranked: Sequence[Sequence[Hashable]], relevant: Sequence[Collection[Hashable]]) -> Judged:
    """Look up which ranked documents are relevant.

    Args:
        ranked: For each query its documents, the best first, none twice.
        relevant: For each query its relevant documents.

    Raises:
        InputError: If there is another number of rankings than of collections, or none.

    >>> judged = judge([["a", "b", "c"]], [{"a", "c", "x"}])
    >>> judged.gains.tolist(), judged.totals.tolist()
    ([[True, False, True]], [3])
    """
    if len(ranked) != len(relevant) or not ranked:
        raise InputError(
            f"ranked and relevant must have a row for each query, at least one; got {len(ranked)} and {len(relevant)}"
        )
    wanted = [set(documents) for documents in relevant]
    gains = np.zeros((len(ranked), max(map(len, ranked))), dtype=np.bool_)
    for row, documents, among in zip(gains, ranked, wanted, strict=True):
        row[: len(documents)] = [document in among for document in documents]
    return Judged(gains, np.array([len(documents) for documents in wanted], dtype=np.int64))


def accuracy_at_k(judged: Judged, k: int) -> float:
    """Return the share of queries with a relevant document among the first k.

    >>> accuracy_at_k(judge([["a", "b"], ["a", "b"]], [{"a"}, {"b"}]), 1)
    0.5
    """
    return float(judged.top(k).any(axis=1).mean())


def precision_at_k(judged: Judged, k: int) -> float:
    """Return how many of the first k documents are relevant, as a share of k.

    >>> precision_at_k(judge([["a", "b"]], [{"a"}]), 4)
    0.25
    """
    return float(judged.top(k).sum(axis=1).mean() / k)


def recall_at_k(judged: Judged, k: int) -> float:
    """Return the share of the relevant documents that are among the first k; 0 for a query without any.

    >>> recall_at_k(judge([["a", "b"]], [{"a", "c"}]), 2)
    0.5
    """
    return float((judged.top(k).sum(axis=1) / np.maximum(1, judged.totals)).mean())


def mrr_at_k(judged: Judged, k: int) -> float:
    """Return the mean of 1 / rank of the first relevant document; 0 for a query without one among the first k.

    >>> mrr_at_k(judge([["a", "b"]], [{"b"}]), 10)
    0.5
    """
    gains = judged.top(k)
    if not gains.shape[1]:
        return 0.0
    return float((gains.any(axis=1) / (gains.argmax(axis=1) + 1)).mean())


def ndcg_at_k(judged: Judged, k: int) -> float:
    """Return the discounted gain of the first k documents as a share of the best that a ranking could have.

    The document at rank i counts 1 / log2(i + 1). A query without relevant documents has 0.

    >>> round(ndcg_at_k(judge([["a", "b"]], [{"b"}]), 10), 4)
    0.6309
    """
    gains = judged.top(k)
    best = np.concatenate([[0.0], np.cumsum(_discounts(int(judged.totals.max())))])[np.minimum(judged.totals, k)]
    reached = gains @ _discounts(gains.shape[1])
    return float(np.divide(reached, best, out=np.zeros_like(reached), where=best > 0).mean())


def map_at_k(judged: Judged, k: int) -> float:
    """Return the mean over queries of the precision at each relevant document's rank.

    The precisions at the relevant ranks up to k are summed, and divided by k or by the number of relevant documents,
    whichever is smaller. A query without relevant documents has 0.

    >>> map_at_k(judge([["a", "b", "c"]], [{"b", "c"}]), 2)
    0.25
    """
    gains = judged.top(k)
    precisions = np.cumsum(gains, axis=1) / np.arange(1, gains.shape[1] + 1)
    return float(((gains * precisions).sum(axis=1) / np.maximum(1, np.minimum(judged.totals, k))).mean())


def dcg_at_k(relevances: Sequence[float], k: int) -> float:
    """Return the discounted gain of one ranking: the sum of its first k relevances over log2(rank + 1).

    Args:
        relevances: How relevant the document at each rank is, the best ranked first.
        k: How many count.

    >>> dcg_at_k([1, 0, 2], 10)
    2.0
    """
    check_positive(k=k)
    gains = np.asarray(relevances[:k], dtype=np.float64)
    return float(gains @ _discounts(len(gains)))


def _discounts(depth: int) -> NDArray[np.float64]:
    return 1 / np.log2(np.arange(2, depth + 2))
