"""What a search returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hit:
    """One passage found.

    Attributes:
        path: The file, relative to the index's folder.
        line: Line of the passage's first character (for PDF, the page).
        score: Higher is better; comparable within one search only.
        text: The passage.
        heading: The headings above it, outermost first.
    """

    path: str
    line: int
    score: float
    text: str
    heading: str = ""
