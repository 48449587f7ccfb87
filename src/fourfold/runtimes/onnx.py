"""Run a graph by onnxruntime."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fourfold.errors import FolderError, InputError, did_you_mean, require
from fourfold.runtimes._errors import of_run, one_line
from fourfold.store.machine import processor

OPTIONS = ("provider", "provider_options", "session_options", "use_io_binding", "threads", "compile_cache")


class OnnxGraph:
    """A session of onnxruntime; see :class:`fourfold.runtimes.Graph`."""

    def __init__(self, session: Any, origin: str, *, binds: bool) -> None:
        import onnxruntime

        self._session = session
        self._quiet = onnxruntime.RunOptions()
        self._quiet.log_severity_level = 4  # what fails is raised, and need not be printed, too
        self._origin = origin
        self._binds = binds
        self.inputs = {
            entry.name: tuple(size if isinstance(size, int) else None for size in entry.shape)
            for entry in session.get_inputs()
        }
        self.outputs = tuple(entry.name for entry in session.get_outputs())

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name for inputs by name.

        Raises:
            ShapeError: If the graph does not take arrays of these shapes.
            MemoryError: If it lacks memory.
        """
        try:
            found = self._bound(feeds) if self._binds else self._session.run(None, dict(feeds), self._quiet)
        except Exception as error:  # the C++ side raises classes of its own that share no base
            raise of_run(error, self._origin, feeds) from None
        return dict(zip(self.outputs, found, strict=True))

    def _bound(self, feeds: Mapping[str, NDArray[Any]]) -> Any:
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name in self.outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding, self._quiet)
        return binding.copy_outputs_to_cpu()


def open_onnx(
    path: Path,
    origin: str,
    *,
    provider: str | None = None,
    provider_options: Mapping[str, Any] | None = None,
    session_options: Any = None,
    use_io_binding: bool | None = None,
    threads: int | None = None,
    compile_cache: str | None = None,
) -> OnnxGraph:
    """Open an ONNX file.

    Args:
        path: The file.
        origin: What errors call it.
        provider: onnxruntime's execution provider; None is the first that it has here, which is the fastest.
        provider_options: Options of the provider.
        session_options: An ``onnxruntime.SessionOptions``; None is the default.
        use_io_binding: Whether inputs and outputs are bound to memory of the provider's device.
        threads: Threads of one run; None is one a core. Ignored where ``session_options`` are given.
        compile_cache: Folder that keeps graphs as onnxruntime has optimised them for this processor, so that they open
            sooner; None keeps none. Ignored where ``session_options`` are given.

    Raises:
        InputError: If there is no such provider here.
        MissingExtraError: If onnxruntime is not installed.
        FolderError: If the file cannot be read.
    """
    require("onnxruntime", "onnx", f"the ONNX file {origin}")
    import onnxruntime

    known = onnxruntime.get_available_providers()
    if provider is not None and provider not in known:
        raise InputError(
            f"provider must be one that onnxruntime has here, {', '.join(known)}; got {provider!r}."
            f"{did_you_mean(provider, known)}"
        )
    # The first runs models in a cloud, which is nobody's default.
    chosen = next(name for name in known if name != "AzureExecutionProvider") if provider is None else provider
    kept = None
    if session_options is None:
        session_options = onnxruntime.SessionOptions()
        session_options.log_severity_level = 3
        session_options.intra_op_num_threads = threads or 0
        kept = None if compile_cache is None else _kept(path, Path(compile_cache), chosen, onnxruntime.__version__)
    making = kept is not None and not kept.is_file()
    if making and kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        session_options.optimized_model_filepath = f"{kept}.{os.getpid()}"
    elif kept is not None:
        path, session_options.graph_optimization_level = kept, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options = None if provider_options is None else [dict(provider_options)]
    try:
        session = onnxruntime.InferenceSession(str(path), session_options, [chosen], options)
    except Exception as error:
        raise FolderError(f"{origin} cannot be opened by onnxruntime: {one_line(error)}. {_advice(error)}") from None
    if making and kept is not None:
        Path(f"{kept}.{os.getpid()}").replace(kept)
    return OnnxGraph(session, origin, binds=bool(use_io_binding))


def _kept(path: Path, folder: Path, provider: str, version: str) -> Path | None:
    """Return where a graph is kept as it has been optimised; None for one whose weights lie beside it."""
    if any(path.parent.glob(f"{path.name}[._]data")):
        return None
    seen = path.stat()
    what = (str(path.resolve()), seen.st_size, seen.st_mtime_ns, provider, version, processor()[0])
    return folder / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.onnx"


def _advice(error: Exception) -> str:
    text = str(error)
    if "external data" in text.lower() or "_data" in text or ".data" in text:
        return "Its weights lie in a file beside it, which must come along"
    if "NOT_IMPLEMENTED" in text or "NotImplemented" in type(error).__name__:
        return "This provider or processor lacks an operator of the graph; take another file_name or provider"
    if any(word in text for word in ("INVALID_PROTOBUF", "Protobuf parsing", "INVALID_GRAPH")):
        return "It is truncated or damaged: download or export it again"
    return "Take another file_name, or export=True"
