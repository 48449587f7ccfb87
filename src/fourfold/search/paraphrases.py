"""Find the pairs of texts that say the same, among all pairs of a list."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fourfold.errors import check_positive
from fourfold.ops.similarity import Vectors, as_tensor, cos_sim
from fourfold.search.semantic import Score, nearest

# Scores held at once: with float32 a quarter of a gigabyte, whatever chunks are asked for.
_MOST_SCORES = 2**26


def paraphrase_mining(
    model: Any,
    sentences: list[str],
    show_progress_bar: bool = False,
    batch_size: int = 32,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: Score = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """Encode texts and return the most similar pairs; see :func:`paraphrase_mining_embeddings`.

    Args:
        model: A ``SentenceTransformer``.
        sentences: Texts.
        show_progress_bar: As for ``encode``.
        batch_size: As for ``encode``.
        query_chunk_size: Texts compared at once with ``corpus_chunk_size`` others.
        corpus_chunk_size: See there.
        max_pairs: How many pairs are returned at most.
        top_k: How many partners of each text are considered.
        score_function: Compares all pairs; larger is better.
        truncate_dim: As for ``encode``.
        prompt_name: As for ``encode``.
        prompt: As for ``encode``.
    """
    options = {} if truncate_dim is None else {"truncate_dim": truncate_dim}
    embeddings = model.encode(
        sentences, show_progress_bar=show_progress_bar, batch_size=batch_size, convert_to_tensor=True,
        prompt_name=prompt_name, prompt=prompt, **options,
    )  # fmt: skip
    return paraphrase_mining_embeddings(
        embeddings, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function
    )


@torch.no_grad()
def paraphrase_mining_embeddings(
    embeddings: Vectors,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: Score = cos_sim,
) -> list[list[float | int]]:
    """Return the most similar pairs among vectors.

    Args:
        embeddings: ``[rows, width]``, dense or sparse.
        query_chunk_size: Rows compared at once with ``corpus_chunk_size`` others, or fewer where memory is better
            served; no result depends on it.
        corpus_chunk_size: See there.
        max_pairs: How many pairs are returned at most.
        top_k: How many partners of each row are considered.
        score_function: Compares all pairs; larger is better.

    Returns:
        ``[score, i, j]`` with ``i < j``, each pair once, largest score first.

    >>> paraphrase_mining_embeddings([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])[0]
    [1.0, 0, 2]
    """
    check_positive(
        query_chunk_size=query_chunk_size, corpus_chunk_size=corpus_chunk_size, max_pairs=max_pairs, top_k=top_k
    )
    vectors = as_tensor(embeddings)
    count = len(vectors)
    pairs = _Pairs(count, max_pairs)
    docs = min(corpus_chunk_size, max(count, 1))
    rows_at_once = min(query_chunk_size, max(1, _MOST_SCORES // docs))
    chunks = {"query_chunk": rows_at_once, "corpus_chunk": docs}
    for first, values, partners in nearest(vectors, vectors, top_k + 1, score_function=score_function, **chunks):
        scores, others = values.cpu().numpy(), partners.cpu().numpy()
        rows = np.arange(first, first + len(scores))[:, None]
        wanted = others != rows
        # A row is its own nearest as a rule; where ties have pushed it out, the last partner is one too many.
        wanted &= np.cumsum(wanted, axis=1) <= top_k
        rows = np.broadcast_to(rows, others.shape)
        pairs.add(scores[wanted], np.minimum(rows, others)[wanted], np.maximum(rows, others)[wanted])
    return pairs.best()


class _Pairs:
    """The best pairs met so far, each once; memory holds about twice as many as are wanted."""

    def __init__(self, count: int, most: int) -> None:
        self._count = count
        self._most = most
        self._scores = np.empty(0, np.float32)
        self._keys = np.empty(0, np.int64)  # i * count + j
        self._waiting: list[tuple[NDArray[Any], NDArray[np.int64]]] = []
        self._waiting_pairs = 0

    def add(self, scores: NDArray[Any], lower: NDArray[np.int64], upper: NDArray[np.int64]) -> None:
        self._waiting.append((scores, lower * self._count + upper))
        self._waiting_pairs += len(scores)
        if self._waiting_pairs > self._most:
            self._merge()

    def _merge(self) -> None:
        scores = np.concatenate([self._scores, *(scores for scores, _ in self._waiting)])
        keys = np.concatenate([self._keys, *(keys for _, keys in self._waiting)])
        self._waiting, self._waiting_pairs = [], 0
        keys, places = np.unique(keys, return_index=True)
        scores = scores[places]
        if len(keys) > self._most:
            kept = np.argpartition(-scores, self._most)[: self._most]
            scores, keys = scores[kept], keys[kept]
        self._scores, self._keys = scores, keys

    def best(self) -> list[list[float | int]]:
        self._merge()
        order = np.argsort(-self._scores, kind="stable")
        lower, upper = np.divmod(self._keys[order], max(self._count, 1))
        return [list(row) for row in zip(self._scores[order].tolist(), lower.tolist(), upper.tolist(), strict=True)]
