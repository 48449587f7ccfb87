"""Search with Seismic, an approximate index within the process (Bruch et al. 2024)."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import MissingExtraError, check_positive
from fourfold.search.engines._common import Decoded, Found, Hits, answer, check_corpus, weights

if TYPE_CHECKING:
    from seismic import SeismicIndex

_SEARCH = {"query_cut": 10, "heap_factor": 0.7}


def semantic_search_seismic(
    query_embeddings_decoded: Decoded,
    corpus_embeddings_decoded: Decoded | None = None,
    corpus_index: SeismicIndex | None = None,
    top_k: int = 10,
    output_index: bool = False,
    index_kwargs: dict[str, Any] | None = None,
    search_kwargs: dict[str, Any] | None = None,
) -> Found:
    """Return for each query the documents of a Seismic index with about the largest dot products.

    Seismic looks at the query's heaviest tokens and at blocks of documents that promise most, and keeps weights in
    16 bits, so hits may be missed and scores are rounded.

    Args:
        query_embeddings_decoded: For each query its (token, weight) pairs, as ``model.decode`` gives them. Tokens that
            no document has are passed over.
        corpus_embeddings_decoded: The same of each document, for a new index.
        corpus_index: The index of an earlier call, searched instead.
        top_k: How many hits a query gets.
        output_index: Whether to return the index too.
        index_kwargs: For ``SeismicIndex.build_from_dataset``, such as ``n_postings``.
        search_kwargs: For ``SeismicIndex.batch_search``; by default the 10 heaviest tokens of a query
            (``query_cut=10``) and blocks that promise 0.7 of the worst hit so far (``heap_factor=0.7``).

    Returns:
        For each query a list, best first, of ``{"corpus_id": row of the corpus, "score": dot product}``, empty without
        hits; the seconds that the search took; and with ``output_index`` the index.

    Raises:
        MissingExtraError: If the package pyseismic-lsr is not installed.
        InputError: If the embeddings are of another form, or there is nothing to search in.
    """
    if importlib.util.find_spec("seismic") is None:
        raise MissingExtraError(
            "semantic_search_seismic needs the package seismic. Install it with: pip install pyseismic-lsr"
        )
    check_positive(top_k=top_k)
    queries = weights("query_embeddings_decoded", query_embeddings_decoded, positive=False)
    check_corpus("corpus_embeddings_decoded", corpus_embeddings_decoded, corpus_index)
    index = corpus_index
    if index is None:
        docs = weights("corpus_embeddings_decoded", corpus_embeddings_decoded, positive=False)
        index = _built(docs, index_kwargs or {})
    return answer(lambda: _hits(index, queries, top_k, {**_SEARCH, **(search_kwargs or {})}), index, output_index)


def _built(docs: list[dict[str, float]], options: dict[str, Any]) -> SeismicIndex:
    from seismic import SeismicDataset, SeismicIndex

    dataset = SeismicDataset()
    for number, text in enumerate(docs):
        dataset.add_document(str(number), *_arrays(text))
    return SeismicIndex.build_from_dataset(dataset, **options)


def _arrays(text: dict[str, float]) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    from seismic import get_seismic_string

    return np.array(list(text), dtype=get_seismic_string()), np.array(list(text.values()), dtype=np.float32)


def _hits(index: SeismicIndex, queries: list[dict[str, float]], top_k: int, options: dict[str, Any]) -> Hits:
    from seismic import get_seismic_string

    hits: Hits = [[] for _ in queries]
    asked = [number for number, text in enumerate(queries) if text]
    if not asked or not index.dim:  # an index of no tokens would end the thread that searches it
        return hits
    components, values = zip(*(_arrays(queries[number]) for number in asked), strict=True)
    found = index.batch_search(
        queries_ids=np.array([str(number) for number in asked], dtype=get_seismic_string()),
        query_components=list(components),
        query_values=list(values),
        k=top_k,
        **options,
    )
    for rows in found:  # in no order of the queries: each hit says whose it is
        for query, score, doc in rows:
            hits[int(query)].append({"corpus_id": int(doc), "score": float(score)})
    return hits
