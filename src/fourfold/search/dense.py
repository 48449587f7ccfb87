"""Cosine of a question with every stored vector, a chunk of the memory map at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CHUNK = 4096  # rows; as float32 they fit the processor's cache, so the matrix is never in memory twice


def scores(vectors: Sequence[np.ndarray], question: np.ndarray) -> list[np.ndarray]:
    """Score every passage by its vector.

    Args:
        vectors: For each segment its rows, as :func:`fourfold.search.vectors.open_vectors` gives them.
        question: ``[width]`` float32, of length 1.

    Returns:
        For each segment ``[rows]`` float32.
    """
    found = []
    for stored in vectors:
        score = np.empty(len(stored), np.float32)
        for start in range(0, len(stored), _CHUNK):
            piece = stored[start : start + _CHUNK]
            score[start : start + _CHUNK] = (piece["row"].astype(np.float32) @ question) * piece["scale"]
        found.append(score)
    return found
