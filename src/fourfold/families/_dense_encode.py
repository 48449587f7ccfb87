"""The dense family's encode: from a caller's flags to the engine and back to the form the flags ask for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fourfold.backends import Batch
from fourfold.backends.torch import TorchBackend
from fourfold.containers import Tokens
from fourfold.engine.collect import ListSink, RowSink
from fourfold.engine.plan import Budget
from fourfold.engine.run import run
from fourfold.errors import InputError
from fourfold.modules._base import Features
from fourfold.ops.quantize import check_precision, quantize_embeddings
from fourfold.text.inputs import as_list, is_single

# Where a model sets no length, batch_size bounds memory as if texts had this many tokens.
_USUAL_LENGTH = 512


@dataclass(frozen=True)
class Options:
    """What a caller asked of ``encode``, checked."""

    prompt: str | None = None
    batch_size: int = 32
    show_progress_bar: bool | None = None
    output_value: str | None = "sentence_embedding"
    precision: str | None = "float32"
    as_tensor: bool = False
    as_numpy: bool = True
    normalize: bool = False
    truncate_dim: int | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)


def refuse_unsupported(pool: Any, device: Any) -> None:
    """Raise for the arguments of many processes, which are not there yet."""
    if pool is not None or isinstance(device, (list, tuple)):
        raise InputError("encoding with several processes (pool=, or a list of devices) is not supported yet")


def encode(model: Any, inputs: Any, options: Options) -> Any:
    """Encode one input or a batch with a model; see ``SentenceTransformer.encode``."""
    if options.batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {options.batch_size}")
    precision = check_precision(options.precision)
    _check_kwargs(model, options.kwargs)
    single = is_single(inputs)
    items = [inputs] if single else as_list(inputs)
    if not items:
        return _empty(options)
    if model.training or any(module.training for module in model):
        model.eval()
    if options.output_value == "sentence_embedding":
        result = _vectors(model, items, options)
        return _converted(result, precision, single, options)
    return _features(model, items, options, precision, single)


def _check_kwargs(model: Any, kwargs: dict[str, Any]) -> None:
    known = [*model.get_model_kwargs(), "task", "processing_kwargs"]
    unknown = [name for name in kwargs if name not in known]
    if unknown:
        raise InputError(f"encode got unknown keyword arguments {unknown}; this model takes {sorted(set(known))}")


def _progress(asked: bool | None) -> bool:
    if asked is not None:
        return asked
    return logging.getLogger("fourfold").getEffectiveLevel() in (logging.INFO, logging.DEBUG)


def budget_for(model: Any, backend: TorchBackend, batch_size: int) -> Budget:
    """Return what a batch may hold: the caller's bound, or less where the device runs no faster for more."""
    if not backend.tokenises:
        return Budget(tokens=2**62, rows=batch_size)
    length = model.max_seq_length
    length = _USUAL_LENGTH if length is None or length > 10**6 else int(length)
    return Budget(min(batch_size * max(length, 1), backend.best_tokens), padded=not backend.packed)


def _vectors(model: Any, items: list[Any], options: Options) -> Any:
    """Return all vectors: a numpy array on the CPU, or a tensor on the model's device if tensors are wanted."""
    backend = TorchBackend(model, options.prompt, options.kwargs)
    on_device = not options.as_numpy and model.device.type != "cpu"

    def finish(features: Features, batch: Batch) -> Any:
        vectors = features["sentence_embedding"]
        if options.truncate_dim is not None:
            vectors = vectors[..., : options.truncate_dim]
        if options.normalize:
            vectors = functional.normalize(vectors.float(), dim=-1).to(vectors.dtype)
        # numpy has no bfloat16, so an array of such a model holds float32.
        dtype = torch.float32 if options.as_numpy and vectors.dtype == torch.bfloat16 else vectors.dtype
        return vectors.to(vectors.device if on_device else "cpu", dtype)

    sink = RowSink(len(items), lambda shape, like: torch.empty(shape, dtype=like.dtype, device=like.device))
    with torch.inference_mode():
        budget = budget_for(model, backend, options.batch_size)
        run(items, backend, sink, budget, finish=finish, progress=_progress(options.show_progress_bar))
    return sink.result()


def _converted(vectors: Tensor, precision: str, single: bool, options: Options) -> Any:
    """Return the vectors in the form that the flags ask for; nothing is copied unless it is quantised."""
    if precision != "float32":
        quantised = quantize_embeddings(vectors[0] if single else vectors, precision)
        if options.as_numpy:
            return quantised
        tensor = torch.from_numpy(quantised)
        return tensor if single or options.as_tensor else list(tensor)
    if single:
        vectors = vectors[0]
    if options.as_numpy:
        return vectors.numpy()
    return vectors if single or options.as_tensor else list(vectors)


def _empty(options: Options) -> Any:
    if options.as_tensor:
        return torch.empty(0)
    if options.as_numpy:
        return np.empty(0)
    return []


def _features(model: Any, items: list[Any], options: Options, precision: str, single: bool) -> Any:
    """Return one object a row: the tensor of a named feature, or a dictionary of all features."""
    whole = options.output_value is None
    tokens_wanted = options.output_value == "token_embeddings"
    backend = TorchBackend(model, options.prompt, options.kwargs, pad=not tokens_wanted)
    split = (
        _split_tokens if tokens_wanted else _split_all(options) if whole else _split_named(str(options.output_value))
    )
    sink: ListSink[Any] = ListSink(len(items))
    with torch.inference_mode():
        budget = budget_for(model, backend, options.batch_size)
        run(items, backend, sink, budget, finish=split, progress=_progress(options.show_progress_bar))
    results = sink.items
    if precision != "float32":
        results = quantize_embeddings(results, precision)
    return results[0] if single else results


def _split_tokens(features: Features, batch: Batch) -> list[Tensor]:
    """Return each text's token vectors ``[tokens, width]``, without padding."""
    vectors = features["token_embeddings"]
    if "cu_seq_lens_q" in features and isinstance(batch, Tokens):
        # Each text gets its own memory, so that keeping one does not keep its whole batch.
        texts = vectors[0, : len(batch.ids)].split(batch.lengths.tolist())
        return [part.clone() for part in texts]
    mask = features.get("attention_mask")
    if mask is None:
        return [row.clone() for row in vectors]
    # Trailing padding is cut; one row at least stays.
    ends = mask.shape[1] - mask.flip(1).int().argmax(dim=1)
    return [row[: max(1, int(end))].clone() for row, end in zip(vectors, ends, strict=True)]


def _split_named(name: str) -> Callable[[Features, Batch], list[Any]]:
    def split(features: Features, batch: Batch) -> list[Any]:
        return list(features[name])

    return split


def _split_all(options: Options) -> Callable[[Features, Batch], list[dict[str, Any]]]:
    def split(features: Features, batch: Batch) -> list[dict[str, Any]]:
        if options.truncate_dim is not None:
            features["sentence_embedding"] = features["sentence_embedding"][..., : options.truncate_dim]
        count = len(batch)

        def at(value: Any, row: int) -> Any:
            return value[row] if isinstance(value, Tensor) and value.ndim and len(value) == count else value

        return [{key: at(value, row) for key, value in features.items()} for row in range(count)]

    return split
