"""Small graphs for tests: models of one layer, exports that are traced once a run, graphs written by hand."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from tests.support import named

from fourfold.testing import checkpoint

# OpenVINO would compute in half precision where the processor can.
EXACT: dict[str, dict[str, Any]] = {
    "onnx": {}, "openvino": {"model_kwargs": {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}}
}  # fmt: skip
# A tracer takes seconds a layer.
_LAYERS: dict[str, dict[str, Any]] = {
    "distilbert": {"n_layers": 1},
    "modernbert": {"num_hidden_layers": 1, "layer_types": ["sliding_attention"]},
    "qwen3": {"num_hidden_layers": 1, "layer_types": ["full_attention"]},
    "t5": {"num_layers": 1},
}


def one_layer(architecture: str, folder: Path, head: str | None = None, **options: Any) -> str:
    """Write a checkpoint with one layer."""
    layers = _LAYERS.get(architecture, {"num_hidden_layers": 1})
    return str(checkpoint(architecture, folder, head=head, **layers, **options))


def dense(folder: Path, architecture: str = "bert", mode: str = "mean", **pooling: Any) -> Any:
    """Return a dense model of one layer, whose weights float16 can hold."""
    from fourfold import SentenceTransformer
    from fourfold.modules import Normalize, Pooling, Transformer

    transformer = Transformer(one_layer(architecture, folder))
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), mode, **pooling), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu").half().float()


def sparse(folder: Path) -> Any:
    """Return a SPLADE model of one layer."""
    from fourfold import SparseEncoder
    from fourfold.modules import SpladePooling, Transformer

    transformer = Transformer(one_layer("bert", folder, "masked"), transformer_task="fill-mask")
    return SparseEncoder(modules=[transformer, SpladePooling()], device="cpu")


def cross(folder: Path, labels: int = 1, **options: Any) -> Any:
    """Return a cross encoder of one layer."""
    from fourfold import CrossEncoder
    from fourfold.modules import Transformer

    saved = one_layer("bert", folder, "labels", num_labels=labels)
    modules = [Transformer(saved, transformer_task="sequence-classification")]
    return CrossEncoder(modules=modules, device="cpu", **options)


def generative(folder: Path, *tokens: int) -> Any:
    """Return a cross encoder of one layer that scores by a language model's logits, of words or of given tokens."""
    from fourfold import CrossEncoder
    from fourfold.modules import LogitScore, Transformer

    transformer = Transformer(one_layer("qwen3", folder, "causal"), transformer_task="text-generation")
    score = LogitScore(*(tokens or transformer.tokenizer.convert_tokens_to_ids(["query", "document"])))
    return CrossEncoder(modules=[transformer, score], device="cpu")


def load(cls: Any, folder: Path | str, kind: str, **model_kwargs: Any) -> Any:
    """Return a model of a family's class over the graphs of a folder."""
    given = {**EXACT[kind].get("model_kwargs", {}), **model_kwargs}
    return cls(str(folder), device="cpu", backend=kind, model_kwargs=given)


def published(model: Any, root: Path) -> tuple[Path, Path]:
    """Save a model as it is, and with a graph for each runtime in the place of its transformer; return both folders."""
    plain, exported = root / "plain", root / "exported"
    model.save(str(plain))
    load(type(model), plain, "onnx").save_pretrained(str(exported))
    convert(exported / "onnx" / "model.onnx")
    return plain, exported


def convert(path: Path) -> Path:
    """Write the ONNX file of a model's folder as the OpenVINO model of the same, and return that."""
    from fourfold.runtimes import KINDS, export

    target = path.parent.parent / "openvino" / KINDS["openvino"].file
    export.convert(path, target)
    return target


# -- traces ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def remembered(folder: Path):
    """Run a block in which the export of what has been exported before is a copy, whichever process made it."""
    import pytest

    from fourfold.runtimes import export

    real = export.export_onnx

    def export_onnx(module, feeds, outputs, path):
        made = folder / _name(module, feeds, outputs) / "graph.onnx"
        with filelock.FileLock(f"{made.parent}.lock"):
            if not made.exists():
                gc.disable()  # a tracer makes millions of objects, and keeps most of them
                try:
                    with pytest.MonkeyPatch.context() as patch:
                        patch.setattr(export, "LARGEST", float("inf"))
                        real(module, feeds, outputs, made)
                finally:
                    gc.enable()
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_onnx", export_onnx)
        patch.setattr(logging.getLogger("torch.__trace"), "handlers", [])  # records for torch's own tools
        yield


def _name(module, feeds, outputs) -> str:
    parts = [named({name: value.tolist() for name, value in feeds.items()}), named(outputs)]
    for name, part in module.named_modules():
        config = getattr(part, "config", None)
        values = {**vars(part), **({} if config is None else vars(config))}
        plain = {key: value for key, value in values.items() if isinstance(value, (str, int, float, list))}
        # Names of files, and what is set when a model is saved, are no part of the graph.
        settings = {key: value for key, value in plain.items() if "name_or_path" not in key and key != "dtype"}
        parts += [name, type(part).__qualname__, named(settings)]
    digest = hashlib.sha256("\0".join(parts).encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


# -- written by hand ---------------------------------------------------------------------------------------------------


def handmade(
    path: Path, inputs: dict[str, list[Any]], output: str = "last_hidden_state", width: int = 32, also: str = ""
) -> Path:
    """Write an ONNX file whose token vectors are rows of :func:`table`, plus all its other inputs, one number a token.

    Args:
        path: The file.
        inputs: Axes of each input; ``input_ids`` among them. Inputs of four axes are float32, and are not read.
        output: Name of the token vectors.
        width: Their width.
        also: Another name, under which they are given once more.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = [numpy_helper.from_array(table(width), "table"), numpy_helper.from_array(np.array([2]), "last")]
    nodes, total = [helper.make_node("Gather", ["table", "input_ids"], ["at input_ids"])], "at input_ids"
    for name in (name for name, axes in inputs.items() if name != "input_ids" and len(axes) == 2):
        nodes += [
            helper.make_node("Cast", [name], [f"cast {name}"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", [f"cast {name}", "last"], [f"a {name}"]),
            helper.make_node("Add", [total, f"a {name}"], [f"at {name}"]),
        ]
        total = f"at {name}"
    outputs = [name for name in (output, also) if name]
    nodes += [helper.make_node("Identity", [total], [name]) for name in outputs]
    takes = [
        helper.make_tensor_value_info(name, TensorProto.INT64 if len(axes) < 4 else TensorProto.FLOAT, axes)
        for name, axes in inputs.items()
    ]
    axes = ["rows", "tokens", width]
    gives = [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in outputs]
    graph = helper.make_graph(nodes, "handmade", takes, gives, constants)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def scoring(folder: Path, labels: int) -> None:
    """Put a whole graph into a saved cross encoder: logits are quarters of sums of :func:`table`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from fourfold.runtimes.whole import WholeGraph, Wholes
    from fourfold.store.source import Source

    constants = [numpy_helper.from_array(table(labels) / 4, "table")]
    constants += [numpy_helper.from_array(np.array([axis]), f"axis {axis}") for axis in (1, 2)]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis 2"], ["real"]),
        helper.make_node("Mul", ["vectors", "real"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis 1"], ["logits"], keepdims=0),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    inputs, names = ("input_ids", "attention_mask"), ("scores", "logits")
    takes = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in inputs]
    gives = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", labels]) for name in names]
    made = helper.make_model(
        helper.make_graph(nodes, "scoring", takes, gives, constants), opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )  # fmt: skip
    (folder / "onnx").mkdir(exist_ok=True)
    onnx.save(made, folder / "onnx" / "whole.onnx")
    graph = WholeGraph(
        "whole.onnx", inputs=[{"name": name} for name in inputs], outputs=[{"name": name} for name in names],
        width=labels,
    )  # fmt: skip
    Wholes("CrossEncoder", "onnx", [graph]).write(Source(str(folder)))


def table(width: int = 32) -> np.ndarray:
    """Return the vectors of :func:`handmade`."""
    return np.random.default_rng(0).standard_normal((200, width), dtype=np.float32)
