"""Search in files: an index kept beside them, by words, by meaning, or by both. And an index of sparse vectors.

>>> from fourfold.search import Hit, Index, SparseIndex
"""

from typing import TYPE_CHECKING, Any

from fourfold.search.hits import Hit
from fourfold.search.index import Index

if TYPE_CHECKING:
    from fourfold.search.sparse_index import SparseIndex

__all__ = ["Hit", "Index", "SparseIndex"]


def __getattr__(name: str) -> Any:
    if name != "SparseIndex":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # A search in files starts sooner without it.
    from fourfold.search.sparse_index import SparseIndex

    return SparseIndex
