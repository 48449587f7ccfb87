"""Search sparse embeddings with engines of others: Qdrant, Elasticsearch, OpenSearch and Seismic.

Each function puts a corpus into its engine, or takes an index that it made before, and asks for the nearest documents
of every query. The clients come with ``pip install "fourfold[search]"``; none is imported before its function runs.

>>> from fourfold.search.engines import semantic_search_qdrant
"""

from fourfold.search.engines.elasticsearch import semantic_search_elasticsearch
from fourfold.search.engines.opensearch import semantic_search_opensearch
from fourfold.search.engines.qdrant import semantic_search_qdrant
from fourfold.search.engines.seismic import semantic_search_seismic

__all__ = [
    "semantic_search_elasticsearch",
    "semantic_search_opensearch",
    "semantic_search_qdrant",
    "semantic_search_seismic",
]
