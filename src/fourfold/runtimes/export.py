"""Write a torch module as an ONNX file, and an ONNX file as an OpenVINO model. Needs torch and onnx, not Optimum."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourfold.errors import FourfoldError, InputError, require
from fourfold.runtimes.openvino import the_core

if TYPE_CHECKING:
    from torch import Tensor, nn

# A protobuf message holds 2 GB; some room is for the graph itself.
LARGEST = 1_900_000_000
_OPSET = 20
# Loggers of torch that tell how an export goes on.
_TALKATIVE = ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir", "torch.export")


def export(kind: str, module: nn.Module, feeds: Mapping[str, Tensor], outputs: list[str], path: Path) -> None:
    """Write a module as a graph whose inputs have any number of rows and tokens.

    Args:
        kind: ``onnx`` or ``openvino``.
        module: Takes ``feeds`` by name and returns a tensor, or a tuple of them; in evaluation mode.
        feeds: Inputs to trace it with, int64 ``[rows, tokens]`` of at least two each, or a single number.
        outputs: Names of what it returns.
        path: The file to write; what is written beside it begins with its name.

    Raises:
        MissingExtraError: If a package is not installed.
        InputError: If the module cannot be traced.
    """
    if kind == "onnx":
        export_onnx(module, feeds, outputs, path)
        return
    require("openvino", "openvino", "an OpenVINO model")
    whole = path.with_name(f"{path.stem}.onnx")
    try:
        export_onnx(module, feeds, outputs, whole)
        convert(whole, path)
    finally:
        for part in path.parent.glob(f"{whole.name}*"):
            part.unlink()


def export_onnx(module: nn.Module, feeds: Mapping[str, Tensor], outputs: list[str], path: Path) -> None:
    """Write a module as an ONNX file; see :func:`export`. Weights above 2 GB go to ``<file>_data`` beside it."""
    for package in ("onnx", "onnxscript"):
        require(package, "onnx", "exporting a graph")
    import onnx_ir
    import torch

    axes = {name: {0: "batch_size", 1: "sequence_length"} if value.ndim == 2 else {} for name, value in feeds.items()}
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                module, (), kwargs=dict(feeds), dynamo=True, dynamic_shapes=axes, input_names=list(feeds),
                output_names=outputs, opset_version=_OPSET, verbose=False,
            )  # fmt: skip
        except FourfoldError:
            raise
        except Exception as error:
            cause = error.__cause__ or error
            text = " ".join(str(cause).split())[:600]
            raise InputError(f"the model cannot be exported: {type(cause).__name__}: {text}") from error
    weights = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    beside = f"{path.name}_data" if weights > LARGEST else None
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx_ir.save(program.model, path, external_data=beside)


def is_large(path: Path) -> bool:
    """Whether the weights of an ONNX file are too large for one file."""
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*")) > LARGEST


def convert(onnx_file: Path, path: Path) -> None:
    """Write an ONNX file as an OpenVINO model, ``path`` and its weights beside it, in the precision that it has."""
    import openvino

    path.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(the_core().read_model(onnx_file), path, compress_to_fp16=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says about itself to itself."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
