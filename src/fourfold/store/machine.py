"""What this machine's processor is called, and which instruction sets it has."""

from __future__ import annotations

import contextlib
import platform
from functools import cache
from pathlib import Path


@cache
def processor() -> tuple[str, frozenset[str]]:
    """Return the processor's name, and the instruction sets that it has; none are known outside Linux."""
    name, flags = platform.processor() or platform.machine(), frozenset[str]()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            label, _, value = line.partition(":")
            if label.strip() == "model name":
                name = value.strip()
            if label.strip() in ("flags", "Features"):
                flags = frozenset(value.split())
                break
    return name, flags
