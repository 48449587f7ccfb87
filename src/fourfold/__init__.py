"""fourfold: dense, sparse, cross and multi-vector text encoders over one engine.

Importing this package loads neither torch nor transformers: names arrive on first use (PEP 562). The paths of
sentence-transformers below its top name work here too (``fourfold.util``, ``fourfold.models``, ...); they are made from
one table, in :mod:`fourfold.compat`.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import TYPE_CHECKING, Any

__version__ = "0.6.0.dev0"

if TYPE_CHECKING:
    from fourfold.exporting.folder import export as export
    from fourfold.exporting.optimize import export_optimized_onnx_model as export_optimized_onnx_model
    from fourfold.exporting.quantize import export_dynamic_quantized_onnx_model as export_dynamic_quantized_onnx_model
    from fourfold.exporting.quantize import (
        export_static_quantized_openvino_model as export_static_quantized_openvino_model,
    )
    from fourfold.families.cross import CrossEncoder as CrossEncoder
    from fourfold.families.dense import SentenceTransformer as SentenceTransformer
    from fourfold.families.load import load as load
    from fourfold.families.model_card import CrossEncoderModelCardData as CrossEncoderModelCardData
    from fourfold.families.model_card import SentenceTransformerModelCardData as SentenceTransformerModelCardData
    from fourfold.families.model_card import SparseEncoderModelCardData as SparseEncoderModelCardData
    from fourfold.families.sparse import SparseEncoder as SparseEncoder
    from fourfold.logs import LoggingHandler as LoggingHandler
    from fourfold.ops.quantize import quantize_embeddings as quantize_embeddings
    from fourfold.ops.similarity import SimilarityFunction as SimilarityFunction
    from fourfold.text.example import InputExample as InputExample
    from fourfold.training.arguments import CrossEncoderTrainingArguments as CrossEncoderTrainingArguments
    from fourfold.training.arguments import SentenceTransformerTrainingArguments as SentenceTransformerTrainingArguments
    from fourfold.training.arguments import SparseEncoderTrainingArguments as SparseEncoderTrainingArguments
    from fourfold.training.cross import CrossEncoderTrainer as CrossEncoderTrainer
    from fourfold.training.dense import SentenceTransformerTrainer as SentenceTransformerTrainer
    from fourfold.training.samplers import DefaultBatchSampler as DefaultBatchSampler
    from fourfold.training.samplers import MultiDatasetDefaultBatchSampler as MultiDatasetDefaultBatchSampler
    from fourfold.training.sparse import SparseEncoderTrainer as SparseEncoderTrainer

# Where each name lives, as "module:name". The first are those that the older library has at its top.
_CONTRACT = {
    "CrossEncoder": "fourfold.families.cross:CrossEncoder",
    "CrossEncoderModelCardData": "fourfold.families.model_card:CrossEncoderModelCardData",
    "CrossEncoderTrainer": "fourfold.training.cross:CrossEncoderTrainer",
    "CrossEncoderTrainingArguments": "fourfold.training.arguments:CrossEncoderTrainingArguments",
    "DefaultBatchSampler": "fourfold.training.samplers:DefaultBatchSampler",
    "export_dynamic_quantized_onnx_model": "fourfold.exporting.quantize:export_dynamic_quantized_onnx_model",
    "export_optimized_onnx_model": "fourfold.exporting.optimize:export_optimized_onnx_model",
    "export_static_quantized_openvino_model": "fourfold.exporting.quantize:export_static_quantized_openvino_model",
    "InputExample": "fourfold.text.example:InputExample",
    "LoggingHandler": "fourfold.logs:LoggingHandler",
    "MultiDatasetDefaultBatchSampler": "fourfold.training.samplers:MultiDatasetDefaultBatchSampler",
    "SentenceTransformer": "fourfold.families.dense:SentenceTransformer",
    "SentenceTransformerModelCardData": "fourfold.families.model_card:SentenceTransformerModelCardData",
    "SentenceTransformerTrainer": "fourfold.training.dense:SentenceTransformerTrainer",
    "SentenceTransformerTrainingArguments": "fourfold.training.arguments:SentenceTransformerTrainingArguments",
    "SimilarityFunction": "fourfold.ops.similarity:SimilarityFunction",
    "SparseEncoder": "fourfold.families.sparse:SparseEncoder",
    "SparseEncoderModelCardData": "fourfold.families.model_card:SparseEncoderModelCardData",
    "SparseEncoderTrainer": "fourfold.training.sparse:SparseEncoderTrainer",
    "SparseEncoderTrainingArguments": "fourfold.training.arguments:SparseEncoderTrainingArguments",
    "quantize_embeddings": "fourfold.ops.quantize:quantize_embeddings",
}
_HOME = {
    **_CONTRACT,
    "export": "fourfold.exporting.folder:export",
    "load": "fourfold.families.load:load",
}

__all__ = [
    "CrossEncoder",
    "CrossEncoderModelCardData",
    "CrossEncoderTrainer",
    "CrossEncoderTrainingArguments",
    "DefaultBatchSampler",
    "InputExample",
    "LoggingHandler",
    "MultiDatasetDefaultBatchSampler",
    "SentenceTransformer",
    "SentenceTransformerModelCardData",
    "SentenceTransformerTrainer",
    "SentenceTransformerTrainingArguments",
    "SimilarityFunction",
    "SparseEncoder",
    "SparseEncoderModelCardData",
    "SparseEncoderTrainer",
    "SparseEncoderTrainingArguments",
    "__version__",
    "export",
    "export_dynamic_quantized_onnx_model",
    "export_optimized_onnx_model",
    "export_static_quantized_openvino_model",
    "load",
    "quantize_embeddings",
]


def _fetch(home: str) -> Any:
    """Import ``"module:name"``; a class whose packages are missing is replaced by one that says so when built."""
    module, _, name = home.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        package = error.name
        if package not in ("torch", "transformers"):
            raise
        from fourfold.errors import require, stand_in

        doc = f'Needs {package}: pip install "fourfold[torch]"'
        return stand_in(name, lambda: require(package, "torch", name), doc)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return _fetch(_HOME[name])
    if name == "testing":
        return importlib.import_module("fourfold.testing")
    if not name.startswith("_") and importlib.import_module("fourfold.compat.paths").canonical(name) is not None:
        return importlib.import_module(f"fourfold.{name}")
    raise AttributeError(f"module 'fourfold' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


# Sparse vectors come as CSR tensors for whom asks for them; that torch calls these a beta feature helps nobody.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state", category=UserWarning)


class _LastResort:
    """Asked for a module of ours when no file holds it: the paths of the contract are made from a table."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> Any:
        if not fullname.startswith("fourfold."):
            return None
        return importlib.import_module("fourfold.compat.namespaces").ours.find_spec(fullname)


if not any(getattr(finder, "__name__", "") == _LastResort.__name__ for finder in sys.meta_path):
    sys.meta_path.append(_LastResort)
