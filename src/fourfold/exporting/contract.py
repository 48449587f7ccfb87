"""The older library's helpers around exported graphs, under its names and with its arguments."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fourfold.errors import FolderError
from fourfold.exporting.publish import write
from fourfold.modules import _runtime
from fourfold.runtimes import KINDS, files
from fourfold.store.source import Source


def load_onnx_model(model_name_or_path: str, config: Any, task_name: str, **model_kwargs: Any) -> Any:
    """Return a checkpoint's ONNX graph, with the face of a transformers model; exported first if there is none.

    Args:
        model_name_or_path: Folder or hub name of the checkpoint.
        config: Its transformers config.
        task_name: ``feature-extraction``, ``fill-mask``, ``sequence-classification`` or ``text-generation``.
        **model_kwargs: ``provider``, ``file_name``, ``subfolder``, ``export`` and the like.

    Raises:
        InputError: If there is no graph for the task.
        MissingExtraError: If onnxruntime is not installed.
    """
    return _runtime.load("onnx", model_name_or_path, config, task_name, model_kwargs)


def load_openvino_model(model_name_or_path: str, config: Any, task_name: str, **model_kwargs: Any) -> Any:
    """Return a checkpoint's OpenVINO graph; arguments as for :func:`load_onnx_model`, and ``ov_config``."""
    return _runtime.load("openvino", model_name_or_path, config, task_name, model_kwargs)


def backend_should_export(
    load_path: str | os.PathLike[str],
    is_local: bool,
    model_kwargs: Mapping[str, Any],
    target_file_name: str,
    target_file_glob: str,
    backend_name: str,
) -> tuple[bool, dict[str, Any]]:
    """Return whether a graph must be exported, and the arguments with which it is loaded.

    Args:
        load_path: Folder or hub name.
        is_local: Whether it is a folder; it is looked at all the same.
        model_kwargs: ``export``, ``file_name``, ``subfolder``, and where the hub is asked: ``revision``, ``token``,
            ``cache_dir``, ``local_files_only``.
        target_file_name: Name of the plain graph.
        target_file_glob: What graphs' names match; known by the backend.
        backend_name: ``ONNX`` or ``OpenVINO``.
    """
    source = Source(
        str(load_path), model_kwargs.get("revision"), model_kwargs.get("token"), model_kwargs.get("cache_dir"),
        bool(model_kwargs.get("local_files_only")),
    )  # fmt: skip
    return files.should_export(source, backend_name.lower(), model_kwargs, file_name=target_file_name)


def backend_warn_to_save(model_name_or_path: str, is_local: bool, backend_name: str) -> None:
    """Advise to keep what was exported: the next load would export it again."""
    _runtime.warn_to_save(str(model_name_or_path), is_local, backend_name)


def _save_pretrained_wrapper(fn: Callable[..., Any], subfolder: str) -> Callable[..., Any]:
    """Return a model's ``save_pretrained`` that writes into a folder of its own below the one it is given."""

    def save_pretrained(save_directory: str | os.PathLike[str], **kwargs: Any) -> Any:
        folder = Path(save_directory, subfolder)
        folder.mkdir(parents=True, exist_ok=True)
        return fn(folder, **kwargs)

    return save_pretrained


def save_or_push_to_hub_model(
    export_function: Callable[[str], Any],
    export_function_name: str,
    config: Any,
    model_name_or_path: str,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
    backend: str = "onnx",
    model: Any = None,
) -> None:
    """Write what a function exports into a folder's ``onnx/`` or ``openvino/``, or upload it there.

    Args:
        export_function: Writes one graph, with what belongs to it, into the folder that it is given.
        export_function_name: Its name, for the commit.
        config: How the graph was made, for a pull request.
        model_name_or_path: The folder, or the repository.
        push_to_hub: Whether to upload.
        create_pr: Whether to upload as a pull request.
        file_suffix: Ends the file's name; None is ``optimized`` or ``quantized``.
        backend: ``onnx`` or ``openvino``.
        model: The model, for the snippet in a pull request.

    Raises:
        FolderError: If the function writes no graph, or several.
    """

    def make(path: Path) -> None:
        export_function(str(path.parent))
        made = sorted(path.parent.glob(KINDS[backend].pattern))
        if len(made) != 1:
            got = ", ".join(one.name for one in made) or "none"
            raise FolderError(f"{export_function_name} must write one {backend} file, it wrote {got}")
        beside = files.companions(Source(str(path.parent)), made[0].name)
        made[0].rename(path)
        for name in beside if backend == "openvino" else ():
            (path.parent / name).rename(path.with_suffix(Path(name).suffix))

    write(
        make, model, backend, file_suffix or ("optimized" if backend == "onnx" else "quantized"), model_name_or_path,
        config, push_to_hub=push_to_hub, create_pr=create_pr, function=export_function_name,
    )  # fmt: skip
