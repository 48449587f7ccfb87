"""Models written as graphs that ONNX and OpenVINO run: whole or in the published layout, optimised and quantised."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "export": "folder",
    "export_dynamic_quantized_onnx_model": "quantize",
    "export_optimized_onnx_model": "optimize",
    "export_static_quantized_openvino_model": "quantize",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
