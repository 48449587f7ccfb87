"""One training example, as the older training interface takes it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class InputExample:
    """Texts that belong together, and what is known about them.

    Args:
        guid: A name for the example.
        texts: The texts.
        label: A class's number, or a similarity.

    >>> InputExample(texts=["a text", "another"], label=0.5).label
    0.5
    """

    guid: str = ""
    texts: list[str] | None = field(default=None)
    label: int | float = 0

    def __str__(self) -> str:
        return f"<InputExample> label: {self.label}, texts: {'; '.join(self.texts or [])}"
