"""One score from the words and the meaning; both constants and the formula were chosen by measurement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MEANING = 0.5
"""Share of the dense score."""
FEEDBACK = 3
"""So many of the best passages move the question towards what they say before it is asked again."""
PULL = 0.5
"""How far they move it; its own length is 1."""


def fuse(words: np.ndarray, meaning: np.ndarray) -> np.ndarray:
    """Mix two scores of the same passages.

    Args:
        words: ``[passages]`` BM25 scores, 0 where no word is found.
        meaning: ``[passages]`` cosines.

    Returns:
        ``[passages]``, about -0.5 to 1.
    """
    best = words.max(initial=0.0)
    # Where no passage holds a word of the question, the meaning decides alone.
    return (1 - MEANING) * words / best + MEANING * meaning if best > 0 else meaning


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
