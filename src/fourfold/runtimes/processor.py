"""What quantised files ask of a processor."""

from __future__ import annotations

from fourfold.store.machine import processor

# What the name of a quantised file says of the processor that it is for, the longest first: the flag it needs, and
# what it is called.
_NEEDED = {
    "avx512_vnni": (("avx512_vnni", "avx512vnni", "avx_vnni"), "AVX-512 VNNI"),
    "avx512": (("avx512f",), "AVX-512"),
    "avx2": (("avx2",), "AVX2"),
    "arm64": (("asimd",), "ARM64"),
}


def lacking(file_name: str) -> str:
    """Return what a file, by its name, is quantised for and this processor lacks; empty if nothing is known to be.

    >>> lacking("model.onnx")
    ''
    """
    flags = processor()[1]
    part = next((part for part in _NEEDED if f"_{part}" in file_name), None)
    if part is None or not flags:
        return ""
    wanted, name = _NEEDED[part]
    return "" if flags & set(wanted) else name
