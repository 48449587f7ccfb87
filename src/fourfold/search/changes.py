"""What an update tells: what it is doing, and what it has done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[str, int, int], None]
"""Called with what is being done (``"reading"`` bytes, ``"encoding"`` passages), how much is done, and of how much."""


@dataclass
class Changes:
    """What an update has done.

    Attributes:
        added: New files.
        changed: Files with new contents.
        removed: Files that are gone.
        skipped: File name to why it has no text.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)
