"""Run a graph by OpenVINO."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fourfold.errors import FolderError, InputError, require
from fourfold.runtimes._errors import of_run, one_line

OPTIONS = ("ov_config", "device", "threads", "compile_cache")


class OpenVinoGraph:
    """A compiled model of OpenVINO; see :class:`fourfold.runtimes.Graph`."""

    def __init__(self, compiled: Any, origin: str) -> None:
        self._compiled = compiled
        self._idle: list[Any] = []  # a request runs for one thread at a time, so each user takes one from here
        self._origin = origin
        self.inputs = {
            port.any_name: tuple(
                None if size.is_dynamic else size.get_length() for size in port.get_partial_shape()
            )
            for port in compiled.inputs
        }  # fmt: skip
        # An output may have several names, that of what was left out after it among them.
        self._names = [sorted(port.get_names()) or [f"output_{place}"] for place, port in enumerate(compiled.outputs)]
        self.outputs = tuple(name for names in self._names for name in names)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name for inputs by name.

        Raises:
            ShapeError: If the graph does not take arrays of these shapes.
            MemoryError: If it lacks memory.
        """
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            found = request.infer(dict(feeds), share_inputs=True)
        except Exception as error:
            raise of_run(error, self._origin, feeds) from None
        finally:
            self._idle.append(request)
        return {name: found[place] for place, names in enumerate(self._names) for name in names}


@cache
def the_core() -> Any:
    """Return OpenVINO's entrance, one for all graphs of the process and kept until it ends.

    With its CPU device comes a stack for signal handlers, which is put in the place of the thread's own and freed with
    it. Of two that end in the order in which they began, the second puts back the freed stack of the first, and the
    next signal, such as Ctrl-C, kills the process without a word.
    """
    import openvino

    return openvino.Core()


def open_openvino(
    path: Path,
    origin: str,
    *,
    ov_config: Mapping[str, Any] | str | Path | None = None,
    device: str = "CPU",
    threads: int | None = None,
    compile_cache: str | None = None,
) -> OpenVinoGraph:
    """Open an OpenVINO model, or an ONNX file, and compile it.

    Args:
        path: The ``.xml`` file, with its ``.bin`` beside it, or an ``.onnx`` file.
        origin: What errors call it.
        ov_config: Properties of the runtime, such as ``{"INFERENCE_PRECISION_HINT": "bf16"}``, or the path of a JSON
            file that holds them. ``PERFORMANCE_HINT`` is ``LATENCY`` unless given, which gives one batch all cores.
        device: OpenVINO's name of the device.
        threads: Threads of one run; None leaves it to the runtime.
        compile_cache: Folder that keeps what was compiled, so that it opens sooner: ``CACHE_DIR`` of ``ov_config``.

    Raises:
        InputError: If ``ov_config`` is unusable.
        MissingExtraError: If OpenVINO is not installed.
        FolderError: If the file cannot be read.
    """
    require("openvino", "openvino", f"the OpenVINO model {origin}")
    config = {"PERFORMANCE_HINT": "LATENCY", **read_config(ov_config)}
    if threads is not None:
        config.setdefault("INFERENCE_NUM_THREADS", threads)
    if compile_cache is not None:
        config.setdefault("CACHE_DIR", str(compile_cache))
    core = the_core()
    try:
        model = core.read_model(path)
    except Exception as error:
        raise FolderError(f"{origin} cannot be read by OpenVINO: {one_line(error)}. {_advice(path)}") from None
    try:
        compiled = core.compile_model(model, device, config)
    except Exception as error:
        raise FolderError(
            f"{origin} cannot be compiled by OpenVINO for {device} with {config}: {one_line(error)}. Take another "
            "file_name, or leave out what ov_config asks for"
        ) from None
    return OpenVinoGraph(compiled, origin)


def read_config(given: Mapping[str, Any] | str | Path | None) -> dict[str, Any]:
    """Return properties of the runtime as a dictionary.

    Raises:
        InputError: If they are neither a dictionary nor the path of a JSON object.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    path = Path(given)
    if not path.is_file():
        raise InputError(f"ov_config must be a dictionary or the path of a JSON file; there is no file {str(path)!r}")
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"ov_config: {path} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"ov_config: {path} must hold a JSON object, got {type(found).__name__}")
    return found


def _advice(path: Path) -> str:
    weights = path.with_suffix(".bin")
    if path.suffix == ".xml" and not weights.is_file():
        return f"Its weights, {weights.name}, are missing beside it"
    return "It is truncated or damaged: download or export it again"
