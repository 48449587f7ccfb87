"""Search with OpenSearch's neural sparse queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fourfold.errors import require
from fourfold.search.engines import _servers
from fourfold.search.engines._common import Decoded, Found

if TYPE_CHECKING:
    from opensearchpy import OpenSearch


def semantic_search_opensearch(
    query_embeddings_decoded: Decoded,
    corpus_embeddings_decoded: Decoded | None = None,
    corpus_index: tuple[OpenSearch, str] | None = None,
    top_k: int = 10,
    output_index: bool = False,
    **kwargs: Any,
) -> Found:
    """Return for each query the documents of an OpenSearch index with the largest dot products.

    The server needs its neural search plugin, as the usual distribution has it.

    Args:
        query_embeddings_decoded: For each query its (token, weight) pairs, as ``model.decode`` gives them.
        corpus_embeddings_decoded: The same of each document. They go into a new index, which stays on the server; its
            name is in what ``output_index`` returns.
        corpus_index: Client and index name of an earlier call, searched instead.
        top_k: How many hits a query gets.
        output_index: Whether to return client and index name too.
        **kwargs: For the constructor of ``opensearchpy.OpenSearch``; ``hosts`` is ``http://localhost:9200`` unless said
            otherwise.

    Returns:
        For each query a list, best first, of ``{"corpus_id": row of the corpus, "score": score}``; the seconds that the
        search took; and with ``output_index`` the pair for ``corpus_index``. A query without tokens has no hits.

    Raises:
        MissingExtraError: If the package opensearch-py is not installed.
        InputError: If the embeddings are of another form or have a weight below 0, or there is nothing to search in.
    """
    require("opensearchpy", "search", "semantic_search_opensearch")
    from opensearchpy import helpers

    server = _servers.Server("OpenSearch", _connect, _create, helpers.bulk, _find)
    queries, corpus = query_embeddings_decoded, corpus_embeddings_decoded
    return _servers.search(server, queries, corpus, corpus_index, top_k, output_index, kwargs)


def _connect(**options: Any) -> OpenSearch:
    from opensearchpy import OpenSearch

    return OpenSearch(**{"hosts": _servers.ADDRESS, **options})


def _create(client: OpenSearch, name: str) -> None:
    client.indices.create(index=name, body={"mappings": {"properties": _servers.PROPERTIES}})


def _find(client: OpenSearch, name: str, text: dict[str, float], top_k: int) -> Any:
    query = {"neural_sparse": {"tokens": {"query_tokens": text}}}
    return client.search(index=name, body={"size": top_k, "query": query, "_source": False})
