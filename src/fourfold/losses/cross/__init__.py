"""Losses of cross encoders, one a file, found by :data:`registry`."""

from __future__ import annotations

import sys
from typing import Any

from fourfold.registry import Package, Registry

registry = Registry("fourfold.losses.cross", "cross-encoder loss")

sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    return registry.attribute(name)
