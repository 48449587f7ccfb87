"""Generate token sequences from the teacher's vocabulary alone.

The permitted text is narrow (health, banking, voice commands). Token sequences that no one wrote cover the rest of the
vocabulary: the teacher is asked what it makes of them and the table learns how tokens add up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FUNCTION_WORDS = 150  # the most frequent whole words, kept as glue


class Sampler:
    """Draws token sequences: Zipf-random, topical, or a real sentence with its content words exchanged."""

    def __init__(self, tokens: list[str], neighbours: NDArray[np.int32], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.neighbours = neighbours
        first = tokens.index("the")  # the vocabulary is sorted by frequency from here on
        ids = range(first, len(tokens))
        self.words = np.array([i for i in ids if tokens[i].isascii() and tokens[i].isalpha() and len(tokens[i]) > 1])
        self.pieces = np.array([i for i in ids if tokens[i].startswith("##")])
        self.glue = self.words[:FUNCTION_WORDS]
        self.is_content = np.zeros(len(tokens), dtype=bool)
        self.is_content[self.words[FUNCTION_WORDS:]] = True
        self._cumulative = {
            (id(pool), power): np.cumsum(1.0 / (np.arange(len(pool)) + 10.0) ** power)
            for pool in (self.words, self.pieces)
            for power in (0.5, 0.9)
        }

    def draw(self, pool: NDArray[np.int64], size: int, power: float) -> NDArray[np.int64]:
        """Draw `size` ids of `pool` with probability 1 / (rank + 10) ** power."""
        cumulative = self._cumulative[id(pool), power]
        return pool[np.searchsorted(cumulative, self.rng.random(size) * cumulative[-1])]

    def zipf(self) -> list[int]:
        """Return unrelated words, some of them followed by word pieces so that those are learned too."""
        length = int(self.rng.integers(1, 17))
        ids: list[int] = []
        for word in self.draw(self.words, length, 0.5 if self.rng.random() < 0.7 else 0.9):
            ids.append(int(word))
            if self.rng.random() < 0.2:
                ids += self.draw(self.pieces, int(self.rng.integers(1, 4)), 0.5).tolist()
        return ids

    def topic(self) -> list[int]:
        """Return words near one to three seeds, with glue and a few strangers, as a passage about something has."""
        length = int(self.rng.integers(4, 33))
        seeds = self.draw(self.words, int(self.rng.integers(1, 4)), 0.5)
        near = self.neighbours[self.rng.choice(seeds, length), self.rng.integers(0, self.neighbours.shape[1], length)]
        strangers = self.draw(self.words, length, 0.9)
        glue = self.rng.choice(self.glue, length)
        kind = self.rng.random(length)
        return np.where(kind < 0.5, near, np.where(kind < 0.75, strangers, glue)).tolist()

    def frame(self, sentence: list[int]) -> list[int]:
        """Return a real sentence with most of its content words exchanged for others, topical or random."""
        ids = np.array(sentence)
        size = len(ids)
        seeds = self.draw(self.words, 2, 0.5)
        near = self.neighbours[self.rng.choice(seeds, size), self.rng.integers(0, self.neighbours.shape[1], size)]
        strangers = self.draw(self.words, size, 0.5)
        new = np.where(self.rng.random(size) < 0.5, near, strangers)
        return np.where(self.is_content[ids] & (self.rng.random(size) < 0.8), new, ids).tolist()
