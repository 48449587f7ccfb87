"""Search with Elasticsearch, by the features that a document ranks by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fourfold.errors import require
from fourfold.search.engines import _servers
from fourfold.search.engines._common import Decoded, Found

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


def semantic_search_elasticsearch(
    query_embeddings_decoded: Decoded,
    corpus_embeddings_decoded: Decoded | None = None,
    corpus_index: tuple[Elasticsearch, str] | None = None,
    top_k: int = 10,
    output_index: bool = False,
    **kwargs: Any,
) -> Found:
    """Return for each query the best documents of an Elasticsearch index.

    A document scores the sum over the query's tokens of ``weight * w / (w + pivot)``, with its own weight ``w`` of the
    token and about the mean of all documents' as pivot: Elasticsearch's saturation, which is no dot product.

    Args:
        query_embeddings_decoded: For each query its (token, weight) pairs, as ``model.decode`` gives them. A dot in a
            token becomes ``_``, since Elasticsearch's features may not have one.
        corpus_embeddings_decoded: The same of each document. They go into a new index, which stays on the server; its
            name is in what ``output_index`` returns.
        corpus_index: Client and index name of an earlier call, searched instead.
        top_k: How many hits a query gets.
        output_index: Whether to return client and index name too.
        **kwargs: For the constructor of ``elasticsearch.Elasticsearch``; ``hosts`` is ``http://localhost:9200`` unless
            said otherwise.

    Returns:
        For each query a list, best first, of ``{"corpus_id": row of the corpus, "score": score}``; the seconds that the
        search took; and with ``output_index`` the pair for ``corpus_index``. A query without tokens has no hits.

    Raises:
        MissingExtraError: If the package elasticsearch is not installed.
        InputError: If the embeddings are of another form or have a weight below 0, or there is nothing to search in.
    """
    require("elasticsearch", "search", "semantic_search_elasticsearch")
    from elasticsearch import helpers

    server = _servers.Server("Elasticsearch", _connect, _create, helpers.bulk, _find, _spelled)
    queries, corpus = query_embeddings_decoded, corpus_embeddings_decoded
    return _servers.search(server, queries, corpus, corpus_index, top_k, output_index, kwargs)


def _connect(**options: Any) -> Elasticsearch:
    from elasticsearch import Elasticsearch

    return Elasticsearch(**options if "cloud_id" in options else {"hosts": _servers.ADDRESS, **options})


def _create(client: Elasticsearch, name: str) -> None:
    client.indices.create(index=name, mappings={"properties": _servers.PROPERTIES})


def _find(client: Elasticsearch, name: str, text: dict[str, float], top_k: int) -> Any:
    clauses = [
        {"rank_feature": {"field": f"tokens.{token}", "saturation": {}, "boost": weight}}
        for token, weight in text.items()
    ]
    query = {"bool": {"should": clauses, "minimum_should_match": 1}}
    return client.search(index=name, size=top_k, query=query, source=False)


def _spelled(token: str) -> str:
    return token.replace(".", "_")
