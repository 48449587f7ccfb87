"""Search in files: an index kept beside them, by words, by meaning, or by both.

>>> from fourfold.search import Hit, Index
"""

from fourfold.search.hits import Hit
from fourfold.search.index import Index

__all__ = ["Hit", "Index"]
