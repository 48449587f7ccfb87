"""Texts to token ids: inputs, prompts, tokenizers, chunks. Knows no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fourfold.text.chunks import Chunk as Chunk
    from fourfold.text.chunks import split as split

__all__ = ["Chunk", "split"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from fourfold.text import chunks

        return getattr(chunks, name)
    raise AttributeError(f"module 'fourfold.text' has no attribute {name!r}")
