"""What a runtime's errors come to: its own classes share no base and are not to be imported to be caught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fourfold.errors import ShapeError

_LACKING = ("bad_alloc", "Failed to allocate", "not enough memory", "BFCArena", "out of memory")


def one_line(error: Exception) -> str:
    """Return an error's text as one line of bounded length."""
    return " ".join(str(error).split())[:400]


def of_run(error: Exception, origin: str, feeds: Mapping[str, NDArray[Any]]) -> Exception:
    """Return what to raise for an error of a run: lack of memory, which a smaller batch may cure, or of room."""
    text = one_line(error)
    if any(word in text for word in _LACKING):
        return MemoryError(f"{origin}: {text}")
    shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in feeds.items())
    return ShapeError(
        f"{origin} does not run on {shapes}: {text}. A text may be longer than the model's positions (lower "
        "max_seq_length), or the graph was exported for other shapes"
    )
