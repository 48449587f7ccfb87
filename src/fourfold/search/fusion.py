"""One score from several of the same passages; the constants and the first formula were chosen by measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

Fusion = Literal["score", "rrf"]

FEEDBACK = 3
"""So many of the best passages move the question towards what they say before it is asked again."""
PULL = 0.5
"""How far they move it; its own length is 1."""
K = 60
"""How little the first ranks of a ranking stand out in reciprocal rank fusion, as its authors set it."""

_LEAST = 1e-12


def rounded(scores: np.ndarray) -> np.ndarray:
    """Drop the last bits: sums of the same numbers in another order differ in them, and equal passages must tie."""
    return np.round(scores.astype(np.float64), 6)


def by_score(matches: Sequence[np.ndarray], meaning: np.ndarray | None = None) -> np.ndarray:
    """Return the mean of several scores of the same passages, each on a scale on which about 1 is the best.

    Args:
        matches: ``[passages]`` each: BM25 scores or those of a sparse model, without an upper end, 0 where nothing
            matches. Each counts in shares of its best; one that finds nothing does not count.
        meaning: ``[passages]`` cosines, which count as they are.

    Returns:
        ``[passages]``, about -0.5 to 1; 0 if nothing counts.
    """
    found = [scores / best for scores in matches if (best := scores.max(initial=0.0)) > 0]
    found += [] if meaning is None else [meaning]
    if not found:
        return np.zeros_like(matches[0])
    share = 1 / len(found)
    return rounded(sum((share * scores for scores in found[1:]), share * found[0]))


def by_rank(matches: Sequence[np.ndarray], meaning: np.ndarray | None = None) -> np.ndarray:
    """Return the sum of ``1 / (60 + rank)`` over several rankings of the same passages.

    It looks at ranks alone, so that no scale has to be chosen (Cormack, Clarke and Büttcher, "Reciprocal rank fusion
    outperforms Condorcet and individual rank learning methods", SIGIR 2009). Equal scores have the same rank, the best
    of them.

    Args:
        matches: ``[passages]`` each: scores, of which only those above 0 are ranked.
        meaning: ``[passages]`` cosines, all of which are ranked.
    """
    found = [_reciprocal(scores / max(scores.max(initial=0.0), _LEAST), scores > 0) for scores in matches]
    found += [] if meaning is None else [_reciprocal(meaning, np.ones(len(meaning), bool))]
    return sum(found[1:], found[0])


def _reciprocal(scores: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    negative = -rounded(scores[ranked])
    parts = np.zeros(len(scores))
    parts[ranked] = 1 / (K + 1 + np.searchsorted(np.sort(negative), negative))
    return parts


FUSIONS: dict[str, Callable[[Sequence[np.ndarray], np.ndarray | None], np.ndarray]] = dict(
    zip(get_args(Fusion), (by_score, by_rank), strict=True)
)


def feedback(question: np.ndarray, best: Sequence[np.ndarray]) -> np.ndarray:
    """Return the question's vector moved towards those of the best passages, the first counting most.

    Passages found by their words show the model what the question is about.

    Args:
        question: ``[width]``, of length 1.
        best: Vectors of the best passages, best first.
    """
    centre = sum((vector / rank for rank, vector in enumerate(best, start=1)), np.zeros_like(question))
    moved = question + PULL * centre / max(float(np.linalg.norm(centre)), 1e-12)
    return moved / max(float(np.linalg.norm(moved)), 1e-12)
