"""Graphs in fewer bits: int8 by onnxruntime and by nncf, float16."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourfold.errors import InputError, did_you_mean, require
from fourfold.exporting import calibration
from fourfold.exporting.publish import graph_of, write
from fourfold.runtimes import open_graph
from fourfold.runtimes.export import is_large
from fourfold.runtimes.feeds import fed
from fourfold.runtimes.openvino import the_core

PRECISIONS = ("float32", "float16", "int8")


@dataclass(frozen=True)
class DynamicQuantization:
    """How onnxruntime quantises weights once, and activations by the range of each batch.

    Attributes:
        weights: ``QInt8`` or ``QUInt8``.
        symmetric: Whether the weights' zero is 0.
        per_channel: Whether each output of a layer has a scale of its own.
        reduce_range: Whether weights take 7 bits, for processors whose sums of products of 8 bits saturate.
        operators: Kinds of operators that are quantised; None is all that can be.
    """

    weights: str = "QInt8"
    symmetric: bool = False
    per_channel: bool = True
    reduce_range: bool = False
    operators: Sequence[str] | None = None


# By the processor that they are for; the names end the files' names.
DYNAMIC = {
    "arm64": DynamicQuantization("QInt8", symmetric=True),
    "avx2": DynamicQuantization("QUInt8"),
    "avx512": DynamicQuantization("QInt8"),
    "avx512_vnni": DynamicQuantization("QInt8"),
}


def export_dynamic_quantized_onnx_model(
    model: Any,
    quantization_config: Any,
    model_name_or_path: str,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
) -> None:
    """Quantise a model's ONNX graph to int8, activations by each batch's own range, and write or upload it.

    Args:
        model: A model with ``backend="onnx"``.
        quantization_config: ``arm64``, ``avx2``, ``avx512`` or ``avx512_vnni``, the processor that it is for; or an
            object with ``weights_dtype``, ``weights_symmetric``, ``per_channel``, ``reduce_range`` and
            ``operators_to_quantize``, as Optimum's ``QuantizationConfig``, or a :class:`DynamicQuantization`.
        model_name_or_path: The folder whose ``onnx/`` it is written to, or the repository that it is uploaded to.
        push_to_hub: Whether to upload.
        create_pr: Whether to upload as a pull request.
        file_suffix: Ends the file's name, ``model_<suffix>.onnx``; None is such as ``qint8_avx512``.

    Raises:
        InputError: If the model has another backend, or the configuration is unknown.
        MissingExtraError: If a package is not installed.
    """
    for package in ("onnx", "onnxruntime"):
        require(package, "onnx", "quantising an ONNX model")
    graph = graph_of(model, "onnx", "export_dynamic_quantized_onnx_model")
    config, suffix = _dynamic(quantization_config)
    write(
        lambda path: quantize_dynamic(graph.file, path, config),
        model, "onnx", file_suffix or suffix, model_name_or_path, config,
        push_to_hub=push_to_hub, create_pr=create_pr, function="export_dynamic_quantized_onnx_model",
    )  # fmt: skip


def _dynamic(given: Any) -> tuple[DynamicQuantization, str]:
    if isinstance(given, str):
        if given not in DYNAMIC:
            known = ", ".join(DYNAMIC)
            raise InputError(
                f"quantization_config must be one of {known}, or an object; got {given!r}."
                f"{did_you_mean(given, DYNAMIC)}"
            )
        return DYNAMIC[given], f"{DYNAMIC[given].weights.lower()}_{given}"
    if isinstance(given, DynamicQuantization):
        return given, f"{given.weights.lower()}_quantized"
    weights = getattr(getattr(given, "weights_dtype", None), "name", None)
    if weights not in ("QInt8", "QUInt8"):
        raise InputError(f"quantization_config must be one of {', '.join(DYNAMIC)}, or an object; got {given!r}")
    operators = getattr(given, "operators_to_quantize", None)
    config = DynamicQuantization(
        weights, bool(getattr(given, "weights_symmetric", False)), bool(getattr(given, "per_channel", False)),
        bool(getattr(given, "reduce_range", False)), operators or None,
    )  # fmt: skip
    return config, f"{weights.lower()}_quantized"


def quantize_dynamic(source: Path, target: Path, config: DynamicQuantization, kept: Sequence[str] = ()) -> None:
    """Write an ONNX file with weights in 8 bits, and activations quantised while it runs.

    Args:
        source: The file.
        target: The new one.
        config: How.
        kept: Names of nodes that stay as they are.
    """
    import onnx
    from onnxruntime import quantization

    large = is_large(source)
    model: Any = source if large else onnx.load(source)
    with silenced("root"):
        quantization.quantize_dynamic(
            model, target,
            op_types_to_quantize=None if config.operators is None else list(config.operators),
            nodes_to_exclude=list(kept),
            per_channel=config.per_channel, reduce_range=config.reduce_range,
            weight_type=getattr(quantization.QuantType, config.weights), use_external_data_format=large,
            # Products of two activations keep their precision: their ranges differ from row to row.
            extra_options={
                "MatMulConstBOnly": True, "WeightSymmetric": config.symmetric, "ActivationSymmetric": False,
                "EnableSubgraph": False,
            },
        )  # fmt: skip


# -- OpenVINO ----------------------------------------------------------------------------------------------------------

# Keys of a configuration, those of Optimum's class, and what they are unless given.
_STATIC = {
    "bits": 8, "sym": False, "num_samples": None, "fast_bias_correction": True, "smooth_quant_alpha": None,
    "overflow_fix": None, "ignored_scope": None, "model_type": "transformer",
}  # fmt: skip


def export_static_quantized_openvino_model(
    model: Any,
    quantization_config: Any,
    model_name_or_path: str,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    dataset_split: str | None = None,
    column_name: str | None = None,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str = "qint8_quantized",
) -> None:
    """Quantise a model's OpenVINO graph to int8, weights and activations, and write or upload it.

    Args:
        model: A model with ``backend="openvino"``.
        quantization_config: A dictionary, or an object with attributes, of ``num_samples``, ``sym``,
            ``fast_bias_correction``, ``smooth_quant_alpha``, ``overflow_fix``, ``ignored_scope``; None is the usual
            quantisation to 8 bits.
        model_name_or_path: The folder whose ``openvino/`` it is written to, or the repository that it is uploaded to.
        dataset_name: Data set to calibrate with; it and the next three are given together or not at all. None is
            ``nyu-mll/glue``, and where that cannot be had, texts that come with fourfold.
        dataset_config_name: Its configuration.
        dataset_split: Its split.
        column_name: Its column of texts.
        push_to_hub: Whether to upload.
        create_pr: Whether to upload as a pull request.
        file_suffix: Ends the file's name, ``openvino_model_<suffix>.xml``.

    Raises:
        InputError: If the model has another backend, or an argument is unusable.
        MissingExtraError: If a package is not installed.
    """
    for package in ("openvino", "nncf"):
        require(package, "openvino", "quantising an OpenVINO model")
    graph = graph_of(model, "openvino", "export_static_quantized_openvino_model")
    config = _static(quantization_config)
    dataset = (dataset_name, dataset_config_name, dataset_split, column_name)
    if any(part is None for part in dataset) and any(part is not None for part in dataset):
        raise InputError(
            "dataset_name, dataset_config_name, dataset_split and column_name must be given together, or none of them"
        )
    require("datasets", "train", "calibrating with a data set")
    texts = calibration.samples(None if dataset_name is None else dataset, config["num_samples"])  # type: ignore[arg-type]
    tokenizer = model.tokenizer
    longest = min(calibration.LONGEST, model.max_seq_length or calibration.LONGEST)
    encoded = [tokenizer(text, truncation=True, max_length=longest, return_tensors="np") for text in texts]
    write(
        lambda path: quantize_static(graph.file, path, encoded, config),
        model, "openvino", file_suffix, model_name_or_path, config,
        push_to_hub=push_to_hub, create_pr=create_pr, function="export_static_quantized_openvino_model",
    )  # fmt: skip


def _static(given: Any) -> dict[str, Any]:
    if given is None:
        return dict(_STATIC)
    values = dict(given) if isinstance(given, Mapping) else {
        key: getattr(given, key) for key in _STATIC if hasattr(given, key) and key != "model_type"
    }  # fmt: skip
    unknown = [key for key in values if key not in _STATIC]
    if unknown:
        raise InputError(
            f"quantization_config has the unknown key {unknown[0]!r}; known: {', '.join(_STATIC)}."
            f"{did_you_mean(unknown[0], _STATIC)}"
        )
    if values.get("bits", 8) != 8:
        raise InputError(f"quantization_config: bits must be 8, got {values['bits']!r}")
    return {**_STATIC, **values}


def quantize_static(
    source: Path, target: Path, feeds: Sequence[Mapping[str, Any]], config: Mapping[str, Any] | None = None
) -> None:
    """Write an OpenVINO model with weights and activations in 8 bits.

    Args:
        source: The model's ``.xml``.
        target: The new one's.
        feeds: Inputs that show the range of the activations.
        config: Keys of a configuration.
    """
    # nncf sends usage data unless told otherwise; a library has no business to do so unasked.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf
    import openvino

    settings = {**_STATIC, **(config or {})}
    advanced = nncf.AdvancedQuantizationParameters()
    if settings["smooth_quant_alpha"] is not None:
        advanced.smooth_quant_alphas.matmul = float(settings["smooth_quant_alpha"])
    if settings["overflow_fix"] is not None:
        advanced.overflow_fix = nncf.OverflowFix(getattr(settings["overflow_fix"], "value", settings["overflow_fix"]))
    scope = settings["ignored_scope"]
    if isinstance(scope, Mapping):
        scope = nncf.IgnoredScope(**scope)
    model = the_core().read_model(source)
    # Of a compiled copy what is fed is derived as it will be when the graph runs.
    graph = open_graph("openvino", source, str(source), {})
    complete = [fed(graph, feed) for feed in feeds]
    preset = nncf.QuantizationPreset.PERFORMANCE if settings["sym"] else nncf.QuantizationPreset.MIXED
    # Its bars are printed where a program's output belongs.
    with silenced("nncf"), contextlib.redirect_stdout(sys.stderr):
        smaller = nncf.quantize(
            model, nncf.Dataset(complete), model_type=nncf.ModelType.TRANSFORMER, preset=preset,
            subset_size=min(settings["num_samples"] or len(complete), len(complete)),
            fast_bias_correction=settings["fast_bias_correction"], ignored_scope=scope, advanced_parameters=advanced,
        )  # fmt: skip
    openvino.save_model(smaller, target, compress_to_fp16=False)


@contextlib.contextmanager
def silenced(name: str) -> Iterator[None]:
    """Keep a logger to its errors inside the block; ``root`` is the one above all."""
    logger = logging.getLogger() if name == "root" else logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


# -- any graph ---------------------------------------------------------------------------------------------------------


def reduce(kind: str, path: Path, precision: str, feeds: Sequence[Mapping[str, Any]] | None) -> None:
    """Replace a graph by itself in another precision.

    Args:
        kind: ``onnx`` or ``openvino``.
        path: The graph.
        precision: ``float16`` or ``int8``.
        feeds: Inputs to calibrate ``int8`` with.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        target = Path(scratch, path.name)
        if kind == "onnx":
            if precision == "int8":
                quantize_dynamic(path, target, DYNAMIC[_best_dynamic()], _first_layer(*_products_onnx(path)))
            else:
                to_float16(path, target)
        elif precision == "int8":
            kept = _first_layer(*_products_openvino(path))
            quantize_static(path, target, feeds or [], {"ignored_scope": {"names": kept} if kept else None})
        else:
            _compress(path, target)
        for part in (path, *path.parent.glob(f"{path.name}*"), path.with_suffix(".bin")):
            part.unlink(missing_ok=True)
        for part in target.parent.iterdir():
            part.rename(path.with_name(part.name))


def _first_layer(products: Sequence[str], layers: int) -> list[str]:
    """Return the products of the first of several layers, which 8 bits harm most: all that follow add to its error.

    Args:
        products: Names of the products with weights, in the order in which they run.
        layers: How many layers share them.
    """
    return list(products[: len(products) // layers]) if layers > 1 else []


def _products_onnx(path: Path) -> tuple[list[str], int]:
    """Return the names of an ONNX graph's products with weights, and how many attentions it has."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    products = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights]
    return products, sum(node.op_type == "Softmax" for node in graph.node)


def _products_openvino(path: Path) -> tuple[list[str], int]:
    """Return the same of an OpenVINO model."""
    operators = the_core().read_model(path).get_ordered_ops()
    products = [op for op in operators if op.get_type_name() == "MatMul" and _is_constant(op.input_value(1).get_node())]
    layers = sum(op.get_type_name() == "Softmax" for op in operators)
    return [op.get_friendly_name() for op in products], layers


def _is_constant(operator: Any) -> bool:
    while operator.get_type_name() in ("Convert", "Transpose", "Reshape"):
        operator = operator.input_value(0).get_node()
    return operator.get_type_name() == "Constant"


def _best_dynamic() -> str:
    """Return the kind of dynamic quantisation that is right everywhere: without saturation on older processors."""
    return "avx2"


def to_float16(source: Path, target: Path) -> None:
    """Write an ONNX file in float16; inputs and outputs stay what they are."""
    import onnx
    from onnxruntime.transformers import float16

    # onnxruntime cannot add up in half precision what it scatters.
    model = float16.convert_float_to_float16(
        onnx.load(source), keep_io_types=True, disable_shape_infer=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, "ScatterElements"],
    )  # fmt: skip
    beside: dict[str, Any] = {"save_as_external_data": True, "location": f"{target.name}_data"}
    onnx.save(model, target, **(beside if is_large(source) else {}))


def _compress(source: Path, target: Path) -> None:
    import openvino

    openvino.save_model(the_core().read_model(source), target, compress_to_fp16=True)
