"""fourfold: dense, sparse, cross and multi-vector text encoders over one engine.

Importing this package loads neither torch nor transformers: names arrive on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fourfold.families.dense import SentenceTransformer as SentenceTransformer
    from fourfold.families.load import load as load
    from fourfold.ops.similarity import SimilarityFunction as SimilarityFunction

_HOME = {
    "SentenceTransformer": "fourfold.families.dense",
    "SimilarityFunction": "fourfold.ops.similarity",
    "load": "fourfold.families.load",
}

__all__ = ["SentenceTransformer", "SimilarityFunction", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        try:
            return getattr(importlib.import_module(_HOME[name]), name)
        except ModuleNotFoundError as error:
            if error.name not in ("torch", "transformers"):
                raise
            from fourfold.errors import stand_in

            return stand_in(name, error.name, "torch")
    if name == "testing":
        return importlib.import_module("fourfold.testing")
    raise AttributeError(f"module 'fourfold' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
