"""How common a word is in general: what a small collection cannot know of its own words.

The rarity of a word weighs it in BM25. In ten passages nearly every word is rare; the built-in list of stems by their
frequency in English stands in for passages that are not there. In a large collection it changes nothing.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "builtin" / "lexical"


class Prior:
    """Passages of general English, as if they were part of every collection.

    Args:
        terms: Stems, one a line, the most frequent first.
        passages: How many such passages are assumed.
        passage_length: Words in each.
        zipf_share: Share of the most frequent word, by Zipf's law as Mandelbrot has it.
        zipf_shift: That law's shift of the ranks.
        unknown_rank: Rank of a stem that is not listed.
    """

    def __init__(
        self,
        terms: bytes,
        *,
        passages: float,
        passage_length: float,
        zipf_share: float,
        zipf_shift: float,
        unknown_rank: int,
    ) -> None:
        self._terms = b"\n" + terms.rstrip(b"\n") + b"\n"
        self.passages = passages
        self._words = passage_length * zipf_share
        self._shift = zipf_shift
        self._unknown = unknown_rank

    def holding(self, term: str) -> float:
        """Return how many of the assumed passages hold ``term``."""
        # A search in the raw bytes, a few times a question, costs less than making a dictionary once.
        at = self._terms.find(b"\n" + term.encode("utf-8", "replace") + b"\n")
        rank = self._unknown if at < 0 else self._terms.count(b"\n", 0, at + 1)
        return self.passages * (1 - math.exp(-self._words / (rank + self._shift)))


@cache
def builtin() -> Prior:
    """Return the prior that comes with fourfold."""
    settings = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["prior"]
    return Prior((FOLDER / "terms.txt").read_bytes(), **settings)
