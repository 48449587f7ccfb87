"""Segments: immutable files that each hold some passages, their words' postings, and beside them vectors.

Rows are passages. A segment is one file of named arrays::

    text.blob, text.ends          the passages
    heading.blob, heading.ends    their headings
    line            [rows]        the line each begins on
    length          [rows]        its number of terms
    term.blob, term.ends          the distinct terms, sorted by their bytes
    stop            [terms]       where each term's postings end
    row, count      [postings]    which passages hold it, and how often
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fourfold.errors import SearchIndexError
from fourfold.search.arrays import MEND, ArrayFile, Strings

SUFFIX = ".segment"


class Segment:
    """One open segment.

    Raises:
        SearchIndexError: if its file is damaged.
        FileNotFoundError: if a writer has merged it away meanwhile; the catalog then names others.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        arrays = ArrayFile(folder / (name + SUFFIX))
        try:
            self.texts = Strings.unpack("text", arrays)
            self.headings = Strings.unpack("heading", arrays)
            self.line, self.length = arrays["line"], arrays["length"]
            self.terms = Strings.unpack("term", arrays)
            self.stop, self.row, self.count = arrays["stop"], arrays["row"], arrays["count"]
        except KeyError as error:
            raise SearchIndexError(f"{folder / name}{SUFFIX} is damaged: it has no {error}. {MEND}") from error
        self.rows = len(self.line)

    def postings(self, term: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that hold ``term``, ascending, and how often each does."""
        index = self.terms.find(term)
        if index < 0:
            return self.row[:0], self.count[:0]
        start = self.stop[index - 1] if index else 0
        return self.row[start : self.stop[index]], self.count[start : self.stop[index]]

    def embedded_text(self, row: int) -> str:
        """Return what an encoder gets to see of a passage."""
        heading = self.headings[row]
        return f"{heading}\n{self.texts[row]}" if heading else self.texts[row]
