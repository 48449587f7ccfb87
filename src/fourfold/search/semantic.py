"""Search among vectors in memory, exactly: every query is compared with every vector of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fourfold.errors import check_positive
from fourfold.ops.similarity import Vectors, as_tensor, compare, cos_sim, dot_score, is_sparse
from fourfold.ops.sparse import as_coo, row_range
from fourfold.ops.vectors import normalize_embeddings, row_norms, to_batch, to_float_tensor

Score = Callable[[Any, Any], Any]
"""Similarities of all pairs, ``[rows of the first, rows of the second]``, larger for more alike."""

_SMALLEST_NORM = 1e-12
# Scores held at once: with float32 a quarter of a gigabyte.
_MOST_SCORES = 2**26


def nearest(
    queries: Tensor, corpus: Tensor, top_k: int, *, score_function: Score, query_chunk: int, corpus_chunk: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the nearest corpus rows of each query, some queries at a time.

    Args:
        queries: ``[queries, width]``, dense or sparse.
        corpus: ``[docs, width]``, dense or sparse, on the same device.
        top_k: How many a query gets; fewer if the corpus is smaller.
        score_function: Compares queries with documents.
        query_chunk: Queries compared at once; with ``corpus_chunk`` it bounds the block of scores in memory.
        corpus_chunk: Documents compared at once.

    Yields:
        Number of the first query of the chunk; its scores ``[queries, top_k]``, largest first; the documents' numbers
        ``[queries, top_k]``.
    """
    cosine = score_function is cos_sim
    queries, corpus = (as_coo(v) if is_sparse(v) else v for v in (queries, corpus))
    # The corpus is not copied to scale it: its products are scaled instead, by one number a document.
    norms = [_inverse_norms(_rows(corpus, i, corpus_chunk)) for i in _starts(corpus, corpus_chunk) if cosine]
    scale = torch.cat(norms) if norms else torch.empty(0)
    for first in _starts(queries, query_chunk):
        some = to_float_tensor(_rows(queries, first, query_chunk))
        some = normalize_embeddings(some) if cosine else some
        values = torch.empty(len(some), 0, device=corpus.device)
        rows = torch.empty(len(some), 0, dtype=torch.long, device=corpus.device)
        for start in _starts(corpus, corpus_chunk):
            docs = to_float_tensor(_rows(corpus, start, corpus_chunk))
            if cosine:
                scores = compare("dot", some, docs).mul_(scale[start : start + corpus_chunk])
            else:
                scores = as_tensor(score_function(some, docs))
            best, places = scores.topk(min(top_k, scores.shape[1]), dim=1)
            if values.shape[1]:
                best, places = torch.cat([values, best], dim=1), torch.cat([rows, places + start], dim=1)
                values, order = best.topk(min(top_k, best.shape[1]), dim=1)
                rows = places.gather(1, order)
            else:
                values, rows = best, places + start
        yield first, values, rows


def _starts(vectors: Tensor, chunk: int) -> range:
    return range(0, len(vectors), chunk)


def _rows(vectors: Tensor, start: int, count: int) -> Tensor:
    return row_range(vectors, start, start + count) if is_sparse(vectors) else vectors[start : start + count]


def _inverse_norms(vectors: Tensor) -> Tensor:
    return row_norms(vectors).clamp_(min=_SMALLEST_NORM).reciprocal_()


@torch.no_grad()
def semantic_search(
    query_embeddings: Vectors,
    corpus_embeddings: Vectors,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500000,
    top_k: int = 10,
    score_function: Score = cos_sim,
) -> list[list[dict[str, int | float]]]:
    """Return for each query the most similar vectors of a corpus.

    Args:
        query_embeddings: ``[queries, width]``, or one query ``[width]``, dense or sparse; moved to the corpus's device.
        corpus_embeddings: ``[docs, width]``, dense or sparse. A sparse one is read a chunk at a time and never made
            dense.
        query_chunk_size: Queries compared at once; with the next it bounds memory, and changes no result. A small
            corpus leaves room for more queries, which are then taken for cosines and dot products.
        corpus_chunk_size: Documents compared at once.
        top_k: How many hits a query gets.
        score_function: Compares all pairs; larger is better. It gets sparse rows as COO tensors.

    Returns:
        A list for each query, best first, of ``{"corpus_id": row of the corpus, "score": similarity}``.

    Raises:
        InputError: If a size is below 1.

    >>> semantic_search([1.0, 0.0], [[0.0, 1.0], [2.0, 0.0]], top_k=1)
    [[{'corpus_id': 1, 'score': 1.0}]]
    """
    check_positive(query_chunk_size=query_chunk_size, corpus_chunk_size=corpus_chunk_size, top_k=top_k)
    corpus = to_batch(as_tensor(corpus_embeddings))
    queries = to_batch(as_tensor(query_embeddings)).to(corpus.device)
    if len(corpus) == 0:
        return [[] for _ in range(len(queries))]
    hits: list[list[dict[str, int | float]]] = []
    if score_function in (cos_sim, dot_score):
        room = min(query_chunk_size * corpus_chunk_size, _MOST_SCORES)
        query_chunk_size = max(query_chunk_size, room // min(corpus_chunk_size, len(corpus)))
    chunks = {"query_chunk": query_chunk_size, "corpus_chunk": corpus_chunk_size}
    for _, values, rows in nearest(queries, corpus, top_k, score_function=score_function, **chunks):
        for scores, numbers in zip(values.tolist(), rows.tolist(), strict=True):
            hits.append([{"corpus_id": i, "score": score} for i, score in zip(numbers, scores, strict=True)])
    return hits


def information_retrieval(*args: Any, **kwargs: Any) -> list[list[dict[str, int | float]]]:
    """Do what :func:`semantic_search` does, under its older name."""
    return semantic_search(*args, **kwargs)
