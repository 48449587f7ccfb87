"""Cosine of a question with every stored vector, a chunk of the memory map at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Numbers turned into float32 at a time: they fit the processor's cache, so the matrix is never in memory twice, and a
# product this small is not worth a second thread to BLAS, whose threads take longer to start than a whole search.
_CHUNK = 1 << 17


def scores(vectors: Sequence[np.ndarray], question: np.ndarray) -> list[np.ndarray]:
    """Score every passage by its vector.

    Args:
        vectors: For each segment its rows, as :func:`fourfold.search.vectors.open_vectors` gives them.
        question: ``[width]`` float32, of length 1.

    Returns:
        For each segment ``[rows]`` float32.
    """
    rows = max(1, _CHUNK // len(question))
    buffer = np.empty((rows, len(question)), np.float32)
    found = []
    for stored in vectors:
        score = np.empty(len(stored), np.float32)
        for start in range(0, len(stored), rows):
            piece = stored[start : start + rows]
            numbers = buffer[: len(piece)]
            numbers[...] = piece["row"]
            score[start : start + rows] = (numbers @ question) * piece["scale"]
        found.append(score)
    return found


def vector(stored: np.void) -> np.ndarray:
    """Return one stored row as the vector ``[width]`` it stands for, float32."""
    return np.asarray(stored["row"], np.float32) * stored["scale"]
