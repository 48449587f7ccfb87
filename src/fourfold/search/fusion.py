"""One score from the words and the meaning."""

from __future__ import annotations

import numpy as np

MIX = 0.5
"""Share of the dense score."""


def fuse(lexical: np.ndarray, dense: np.ndarray) -> np.ndarray:
    """Mix two scores of the same passages, ``[passages]`` each, as a convex combination of their normalised values."""
    best = float(lexical.max(initial=0.0))
    words = lexical / best if best > 0 else lexical
    return (1 - MIX) * words + MIX * dense
