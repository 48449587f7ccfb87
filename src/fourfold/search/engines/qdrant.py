"""Search with Qdrant, on a server or within the process."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fourfold.errors import InputError, check_positive, require
from fourfold.search.engines._common import Found, Hits, answer, check_corpus, check_pair

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from torch import Tensor

    from fourfold.containers import Terms

_ADDRESS = "http://localhost:6333"
_VECTOR = "text"
# Rows of a request: with some hundred entries a row well below the 32 MB that a server takes.
_ROWS_SENT = 1000
_QUERIES_SENT = 100
_ROWS_MADE = 10_000


def semantic_search_qdrant(
    query_embeddings: Tensor,
    corpus_embeddings: Tensor | None = None,
    corpus_index: tuple[QdrantClient, str] | None = None,
    top_k: int = 10,
    output_index: bool = False,
    **kwargs: Any,
) -> Found:
    """Return for each query the documents of a Qdrant collection with the largest dot products.

    Args:
        query_embeddings: Sparse COO tensor ``[queries, terms]``, or one query ``[terms]``.
        corpus_embeddings: Sparse COO tensor ``[docs, terms]``. They go into a new collection, held in memory, as its
            sparse vector ``text``; it stays on the server, and its name is in what ``output_index`` returns.
        corpus_index: Client and collection name of an earlier call, searched instead.
        top_k: How many hits a query gets; documents that share no term with it are none.
        output_index: Whether to return client and collection name too.
        **kwargs: For the constructor of ``qdrant_client.QdrantClient``; without ``location``, ``url``, ``host`` or
            ``path`` the server at ``http://localhost:6333`` is meant. ``location=":memory:"`` needs no server.

    Returns:
        For each query a list, best first, of ``{"corpus_id": row of the corpus, "score": dot product}``; the seconds
        that the search took; and with ``output_index`` the pair for ``corpus_index``.

    Raises:
        MissingExtraError: If the package qdrant-client is not installed.
        InputError: If embeddings are no sparse COO tensors, or there is nothing to search in.
    """
    require("qdrant_client", "search", "semantic_search_qdrant")
    check_positive(top_k=top_k)
    queries = _terms("query_embeddings", query_embeddings)
    check_corpus("corpus_embeddings", corpus_embeddings, corpus_index)
    if corpus_index is not None:
        client, name = check_pair(corpus_index, "QdrantClient")
        return answer(lambda: _hits(client, name, queries, top_k), corpus_index, output_index)
    docs = _terms("corpus_embeddings", corpus_embeddings)
    client, name = _connect(**kwargs), f"sparse_collection_{uuid.uuid4().hex}"
    try:
        _fill(client, name, docs)
        return answer(lambda: _hits(client, name, queries, top_k), (client, name), output_index)
    finally:
        if not output_index:  # nobody else has this client
            client.close()


def _terms(name: str, embeddings: Any) -> Terms:
    from fourfold.ops.sparse import terms_of
    from fourfold.ops.vectors import to_batch

    if not getattr(embeddings, "is_sparse", False):
        kind = getattr(embeddings, "layout", type(embeddings).__name__)
        raise InputError(f"{name} must be a sparse COO tensor, as SparseEncoder.encode returns it; got {kind}")
    if embeddings.ndim not in (1, 2):
        raise InputError(f"{name} must be [rows, terms] or [terms], got the shape {list(embeddings.shape)}")
    return terms_of(to_batch(embeddings))


def _connect(**options: Any) -> QdrantClient:
    from qdrant_client import QdrantClient

    named = any(options.get(key) is not None for key in ("location", "url", "host", "path"))
    return QdrantClient(**options if named else {**options, "url": _ADDRESS})


def _fill(client: QdrantClient, name: str, docs: Terms) -> None:
    from qdrant_client import models

    params = models.SparseVectorParams(index=models.SparseIndexParams(on_disk=False))
    client.create_collection(name, vectors_config={}, sparse_vectors_config={_VECTOR: params})
    for start in range(0, len(docs), _ROWS_MADE):
        numbers = range(start, min(start + _ROWS_MADE, len(docs)))
        rows = [{_VECTOR: vector} for vector in _vectors(docs, numbers)]
        # Waited for, since a search right after would miss what the server has yet to take in.
        client.upload_collection(name, vectors=rows, ids=numbers, batch_size=_ROWS_SENT, wait=True)


def _vectors(rows: Terms, numbers: range) -> Iterator[Any]:
    from qdrant_client import models

    for number in numbers:
        terms, weights = rows.row(number)
        yield models.SparseVector(indices=terms.tolist(), values=weights.tolist())


def _hits(client: QdrantClient, name: str, queries: Terms, top_k: int) -> Hits:
    from qdrant_client import models

    hits: Hits = [[] for _ in range(len(queries))]
    asked = [number for number, length in enumerate(queries.lengths.tolist()) if length]
    for start in range(0, len(asked), _QUERIES_SENT):
        some = asked[start : start + _QUERIES_SENT]
        requests = [
            models.QueryRequest(query=next(_vectors(queries, range(number, number + 1))), using=_VECTOR, limit=top_k)
            for number in some
        ]
        for number, found in zip(some, client.query_batch_points(name, requests=requests), strict=True):
            hits[number] = [{"corpus_id": int(point.id), "score": float(point.score)} for point in found.points]
    return hits
