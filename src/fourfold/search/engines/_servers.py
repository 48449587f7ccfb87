"""What Elasticsearch and OpenSearch share: an index of ``rank_features``, filled in bulk and asked text by text."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fourfold.errors import check_positive
from fourfold.search.engines._common import Decoded, Found, answer, check_corpus, check_pair, weights

ADDRESS = "http://localhost:9200"
PROPERTIES = {"tokens": {"type": "rank_features"}, "id": {"type": "keyword"}}
_BULK = 1000


@dataclass(frozen=True)
class Server:
    """How a server is spoken to.

    Attributes:
        client: Name of the client's class, for errors.
        connect: Returns a client of keyword arguments.
        create: Makes an index of a client by name.
        bulk: Sends a client actions, some at a time.
        find: Returns the answer of a client, as a mapping, for an index, the weights of a query's tokens, and how many
            documents are wanted.
        spelled: Returns a token as the server's indexes take it.
    """

    client: str
    connect: Callable[..., Any]
    create: Callable[[Any, str], Any]
    bulk: Callable[..., Any]
    find: Callable[[Any, str, dict[str, float], int], Any]
    spelled: Callable[[str], str] = str


def search(
    server: Server,
    queries: Decoded,
    corpus: Decoded | None,
    corpus_index: tuple[Any, str] | None,
    top_k: int,
    output_index: bool,
    options: dict[str, Any],
) -> Found:
    """Search a server; the arguments are those of the contract's functions."""
    check_positive(top_k=top_k)
    asked = [_spelled(server, text) for text in weights("query_embeddings_decoded", queries)]
    check_corpus("corpus_embeddings_decoded", corpus, corpus_index)
    if corpus_index is not None:
        client, name = check_pair(corpus_index, server.client)
    else:
        docs = weights("corpus_embeddings_decoded", corpus)
        client, name = server.connect(**options), f"sparse_index_{uuid.uuid4().hex}"
    try:
        if corpus_index is None:
            server.create(client, name)
            server.bulk(client, _actions(server, name, docs), chunk_size=_BULK)
            client.indices.refresh(index=name)
        return answer(
            lambda: [_hits(server, client, name, text, top_k) for text in asked], (client, name), output_index
        )
    finally:
        if corpus_index is None and not output_index:  # nobody else has this client
            client.close()


def _spelled(server: Server, text: dict[str, float]) -> dict[str, float]:
    return {server.spelled(token): weight for token, weight in text.items()}


def _actions(server: Server, name: str, docs: list[dict[str, float]]) -> Iterator[dict[str, Any]]:
    for number, text in enumerate(docs):
        source = {"id": str(number), "tokens": _spelled(server, text)}
        yield {"_index": name, "_id": str(number), "_source": source}


def _hits(server: Server, client: Any, name: str, text: dict[str, float], top_k: int) -> list[dict[str, int | float]]:
    if not text:  # a query of no clauses is an error for one server, and matches every document for the other
        return []
    found = server.find(client, name, text, top_k)
    return [{"corpus_id": int(hit["_id"]), "score": float(hit["_score"])} for hit in found["hits"]["hits"]]
