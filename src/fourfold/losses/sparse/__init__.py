"""Losses of sparse encoders, one a file, found by :data:`registry`."""

from __future__ import annotations

import sys
from typing import Any

from fourfold.registry import Package, Registry

# What is defined beside a part of another name.
_BESIDE = {"CSRReconstructionLoss": "csr_loss"}

registry = Registry("fourfold.losses.sparse", "sparse loss", _BESIDE)

sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    return registry.attribute(name)
