"""ONNX graphs with operators fused for onnxruntime, by level."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourfold.errors import InputError, did_you_mean, require
from fourfold.exporting.publish import graph_of, write
from fourfold.exporting.quantize import silenced, to_float16
from fourfold.runtimes.export import is_large


@dataclass(frozen=True)
class Optimization:
    """What is done to a graph.

    Attributes:
        level: Of onnxruntime's own optimisations: 0 none, 1 basic, 2 extended, 99 all.
        fusions: Whether attention, normalisation and the like become operators of their own.
        gelu_approximation: Whether GELU is computed by a formula that is near it and faster.
        float16: Whether weights and products are in half precision.
        gpu: Whether the graph is for a GPU.
    """

    level: int = 1
    fusions: bool = False
    gelu_approximation: bool = False
    float16: bool = False
    gpu: bool = False


LEVELS = {
    "O1": Optimization(1),
    "O2": Optimization(2, fusions=True),
    "O3": Optimization(2, fusions=True, gelu_approximation=True),
    "O4": Optimization(2, fusions=True, gelu_approximation=True, float16=True, gpu=True),
}


def export_optimized_onnx_model(
    model: Any,
    optimization_config: Any,
    model_name_or_path: str,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
) -> None:
    """Optimise a model's ONNX graph for onnxruntime, and write or upload it.

    Args:
        model: A model with ``backend="onnx"``.
        optimization_config: ``O1``, ``O2``, ``O3`` or ``O4``; or an object with ``optimization_level``,
            ``enable_transformers_specific_optimizations``, ``enable_gelu_approximation``, ``fp16`` and
            ``optimize_for_gpu``, as Optimum's ``OptimizationConfig``, or an :class:`Optimization`.
        model_name_or_path: The folder whose ``onnx/`` it is written to, or the repository that it is uploaded to.
        push_to_hub: Whether to upload.
        create_pr: Whether to upload as a pull request.
        file_suffix: Ends the file's name, ``model_<suffix>.onnx``; None is the level, or ``optimized``.

    Raises:
        InputError: If the model has another backend, or the level is unknown.
        MissingExtraError: If a package is not installed.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "onnx", "optimising an ONNX model")
    graph = graph_of(model, "onnx", "export_optimized_onnx_model")
    config, suffix = _chosen(optimization_config)
    write(
        lambda path: optimize(graph.file, path, config, graph.config),
        model, "onnx", file_suffix or suffix, model_name_or_path, config,
        push_to_hub=push_to_hub, create_pr=create_pr, function="export_optimized_onnx_model",
    )  # fmt: skip


def _chosen(given: Any) -> tuple[Optimization, str]:
    if isinstance(given, str):
        if given not in LEVELS:
            known = ", ".join(LEVELS)
            raise InputError(
                f"optimization_config must be one of {known}, or an object; got {given!r}.{did_you_mean(given, LEVELS)}"
            )
        return LEVELS[given], given
    if isinstance(given, Optimization):
        return given, "optimized"
    if not hasattr(given, "optimization_level"):
        raise InputError(f"optimization_config must be one of {', '.join(LEVELS)}, or an object; got {given!r}")
    return Optimization(
        int(given.optimization_level),
        bool(getattr(given, "enable_transformers_specific_optimizations", True)),
        bool(getattr(given, "enable_gelu_approximation", False)),
        bool(getattr(given, "fp16", False)),
        bool(getattr(given, "optimize_for_gpu", False)),
    ), "optimized"


def optimize(source: Path, target: Path, how: Optimization, config: Any) -> None:
    """Write an ONNX file with fused operators.

    Args:
        source: The file.
        target: The new file.
        how: What is done.
        config: The transformers config, for the number of heads.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    text = config.get_text_config()
    with tempfile.TemporaryDirectory(prefix="fourfold-optimize-") as scratch, silenced("root"):
        fused = Path(scratch, "fused.onnx")
        if how.fusions:
            _fuse(source, fused)
        options = FusionOptions("bert")
        options.enable_gelu_approximation = how.gelu_approximation
        options.enable_gelu = options.enable_bias_gelu = how.fusions
        made = optimizer.optimize_model(
            str(fused if how.fusions else source), "bert",
            num_heads=getattr(text, "num_attention_heads", 0) or 0, hidden_size=getattr(text, "hidden_size", 0) or 0,
            opt_level=how.level, optimization_options=options, only_onnxruntime=not how.fusions,
            use_gpu=False,  # which says where this runs, not what it is for
        )  # fmt: skip
        if not how.float16:
            made.save_model_to_file(str(target), use_external_data_format=is_large(source))
            return
        whole = Path(scratch, "whole.onnx")
        made.save_model_to_file(str(whole), use_external_data_format=is_large(source))
        to_float16(whole, target)


def _fuse(source: Path, target: Path) -> None:
    """Fuse attention and normalisation in a graph of torch's exporter, whose patterns onnxruntime does not know."""
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    made = optimize_for_ort(onnx_ir.load(source))
    model = made[0] if isinstance(made, tuple) else made
    onnx_ir.save(model, target, external_data=f"{target.name}_data" if is_large(source) else None)
