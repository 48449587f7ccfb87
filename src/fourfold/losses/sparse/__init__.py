"""Losses of sparse encoders, one a file, found by :data:`registry`."""

from __future__ import annotations

import sys
from typing import Any

from fourfold.registry import Package, Registry

registry = Registry("fourfold.losses.sparse", "sparse loss")

_BESIDE = {"CSRReconstructionLoss": "csr_loss"}

sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    if name in _BESIDE:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_BESIDE[name]}"), name)
    if name[:1].isupper() and name in registry and (part := registry.get(name)).__name__ == name:
        return part
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
