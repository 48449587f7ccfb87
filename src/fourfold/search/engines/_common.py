"""What the engines share: what a caller gets back, and how texts as lists of tokens with weights are checked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from numbers import Real
from typing import Any

from fourfold.errors import InputError

Decoded = list[list[tuple[str, float]]]
"""For each text its tokens and their weights, as :meth:`fourfold.SparseEncoder.decode` gives them."""

Hits = list[list[dict[str, int | float]]]
"""For each query, best first, ``{"corpus_id": row of the corpus, "score": similarity}``."""

Found = tuple[Hits, float] | tuple[Hits, float, Any]
"""The hits, the seconds that the search took, and the index if it was asked for."""


def answer(search: Callable[[], Hits], index: Any, output_index: bool) -> Found:
    """Run a search and return what it found, how many seconds it took, and the index if it is wanted."""
    start = time.perf_counter()
    hits = search()
    seconds = time.perf_counter() - start
    return (hits, seconds, index) if output_index else (hits, seconds)


def check_corpus(name: str, corpus: Any, index: Any) -> None:
    """Raise :class:`~fourfold.errors.InputError` if there is nothing to search in."""
    if corpus is None and index is None:
        raise InputError(f"there is nothing to search in: give {name}=, or corpus_index= of an earlier call")


def check_pair(index: Any, client: str) -> tuple[Any, str]:
    """Return a client and the name of an index; raises :class:`~fourfold.errors.InputError` if it is not a pair."""
    if isinstance(index, (tuple, list)) and len(index) == 2 and isinstance(index[1], str):
        return index[0], index[1]
    raise InputError(f"corpus_index must be a pair of {client} and a name, got {type(index).__name__}")


def weights(name: str, texts: Any, *, positive: bool = True) -> list[dict[str, float]]:
    """Return the weight of each token of each text, those that are 0 left out; of a token given twice the last counts.

    Args:
        name: The argument's, for errors.
        texts: As :data:`Decoded`.
        positive: Whether the engine takes positive weights alone.

    Raises:
        InputError: If it is something else, or a weight is one that the engine would refuse.
    """
    if not isinstance(texts, (list, tuple)):
        raise InputError(f"{name} must be a list of lists of (token, weight), got {type(texts).__name__}")
    return [_checked(f"{name}[{number}]", text, positive) for number, text in enumerate(texts)]


def _checked(name: str, text: Any, positive: bool) -> dict[str, float]:
    if not isinstance(text, list):
        raise InputError(f"{name} must be a list of (token, weight), as decode gives it, got {type(text).__name__}")
    found = {}
    for pair in text:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Real)):
            raise InputError(f"{name} must hold tuples of a token and its weight, got {pair!r}")
        token, weight = pair[0], float(pair[1])
        if not math.isfinite(weight) or (positive and weight < 0):
            kind = "a positive number" if positive else "a finite number"
            raise InputError(f"{name} gives {token!r} the weight {weight}, which must be {kind} for this engine")
        if weight:
            found[token] = weight
    return found
