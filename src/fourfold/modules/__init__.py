"""Model parts, one a file, found by :data:`registry`.

Names of classes are served lazily, so that ``from fourfold.modules import Pooling`` imports only that part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fourfold.registry import Registry

if TYPE_CHECKING:
    from fourfold.modules._base import InputModule as InputModule
    from fourfold.modules._base import Module as Module
    from fourfold.modules.dense import Dense as Dense
    from fourfold.modules.normalize import Normalize as Normalize
    from fourfold.modules.pooling import Pooling as Pooling
    from fourfold.modules.static_embedding import StaticEmbedding as StaticEmbedding
    from fourfold.modules.transformer import Transformer as Transformer

registry = Registry("fourfold.modules", "module")


def __getattr__(name: str) -> Any:
    if name in ("Module", "InputModule"):
        from fourfold.modules import _base

        return getattr(_base, name)
    # Only the exact class name is answered, so that submodules keep theirs.
    if name[:1].isupper() and name in registry and (part := registry.get(name)).__name__ == name:
        return part
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
