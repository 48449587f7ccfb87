"""What this machine's processor is and can, as far as quantised files ask for it."""

from __future__ import annotations

import contextlib
import platform
from functools import cache
from pathlib import Path

# What the name of a quantised file says of the processor that it is for, the longest first: the flag it needs, and
# what it is called.
_NEEDED = {
    "avx512_vnni": (("avx512_vnni", "avx512vnni", "avx_vnni"), "AVX-512 VNNI"),
    "avx512": (("avx512f",), "AVX-512"),
    "avx2": (("avx2",), "AVX2"),
    "arm64": (("asimd",), "ARM64"),
}


@cache
def info() -> tuple[str, frozenset[str]]:
    """Return the processor's name, and the instruction sets that it has; none are known outside Linux."""
    name, flags = platform.processor() or platform.machine(), frozenset[str]()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() in ("flags", "Features"):
                flags = frozenset(value.split())
                break
    return name, flags


def lacking(file_name: str) -> str:
    """Return what a file, by its name, is quantised for and this processor lacks; empty if nothing is known to be.

    >>> lacking("model.onnx")
    ''
    """
    flags = info()[1]
    part = next((part for part in _NEEDED if f"_{part}" in file_name), None)
    if part is None or not flags:
        return ""
    wanted, name = _NEEDED[part]
    return "" if flags & set(wanted) else name
