"""Graphs of ONNX and OpenVINO: found in a folder, opened, fed with arrays. None of it needs torch or transformers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from fourfold.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Kind:
    """What tells the two runtimes apart before either is imported.

    Attributes:
        name: Name of the backend, of its folder in a model's folder, and of the extra that brings it.
        package: Import name of the runtime.
        file: Name of the plain graph.
        pattern: What its files match, anywhere in a model's folder.
    """

    name: str
    package: str
    file: str
    pattern: str

    def named(self, suffix: str) -> str:
        """Return the name of the graph with a suffix, such as ``model_O3.onnx``."""
        stem, dot, ending = self.file.rpartition(".")
        return f"{stem}_{suffix}{dot}{ending}" if suffix else self.file


KINDS = {
    "onnx": Kind("onnx", "onnxruntime", "model.onnx", "*.onnx"),
    "openvino": Kind("openvino", "openvino", "openvino_model.xml", "openvino*.xml"),
}


class Graph(Protocol):
    """An opened graph.

    Attributes:
        inputs: Its inputs by name, each with its shape; an axis that may have any length is None.
        outputs: Names of its outputs.
    """

    inputs: dict[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name for inputs by name."""


def open_graph(kind: str, path: Path, origin: str, options: Mapping[str, Any]) -> Graph:
    """Open a graph.

    Args:
        kind: A key of :data:`KINDS`.
        path: The file; others that belong to it lie beside it.
        origin: What errors call the file.
        options: What the runtime takes: see :func:`fourfold.runtimes.onnx.open_onnx` and
            :func:`fourfold.runtimes.openvino.open_openvino`; those of the other runtime are left out.

    Raises:
        InputError: If no runtime takes an option.
        MissingExtraError: If the runtime is not installed.
        FolderError: If it cannot read the file.
    """
    modules: dict[str, Any] = {name: importlib.import_module(f"fourfold.runtimes.{name}") for name in KINDS}
    module, known = modules[kind], [option for one in modules.values() for option in one.OPTIONS]
    for name in options:
        if name not in known:
            raise InputError(
                f"the {kind} runtime does not know the option {name!r}; known: {', '.join(module.OPTIONS)}."
                f"{did_you_mean(name, known)}"
            )
    taken = {name: value for name, value in options.items() if name in module.OPTIONS}
    return getattr(module, f"open_{kind}")(path, origin, **taken)
