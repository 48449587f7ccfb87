"""The dense family's encode: from a caller's flags to the engine and back to the form the flags ask for."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fourfold.backends import Batch
from fourfold.backends.torch import TorchBackend
from fourfold.containers import Tokens
from fourfold.engine.collect import ListSink, RowSink, Sink
from fourfold.engine.shared import SharedRowSink
from fourfold.errors import InputError
from fourfold.families import _encoding, _running
from fourfold.families._encoding import Call, embedding_of, shared
from fourfold.modules._base import Features
from fourfold.modules._router_rows import PerRow
from fourfold.ops.quantize import check_precision, quantize_embeddings
from fourfold.ops.splade import whole

_BITS = ("binary", "ubinary")
_RANGED = ("int8", "uint8")


@dataclass(frozen=True)
class Options(Call):
    """What a caller asked of the dense ``encode``, checked. ``ranges`` are those of int8 and uint8, if known."""

    output_value: str | None = "sentence_embedding"
    precision: str | None = "float32"
    as_tensor: bool = False
    as_numpy: bool = True
    normalize: bool = False
    truncate_dim: int | None = None
    ranges: Any = None

    @classmethod
    def of(
        cls,
        model: Any,
        *,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        ranges: Any = None,
        **given: Any,
    ) -> Options:
        """Return the options of a call of a model from the arguments of ``SentenceTransformer.encode``.

        A single device moves the model there.

        Raises:
            InputError: If one is unusable, or the model takes no such keyword argument.
        """
        options = cls(
            **shared(model, device=device, **given),
            output_value=output_value,
            precision=check_precision(precision),
            as_tensor=convert_to_tensor,
            as_numpy=convert_to_numpy and not convert_to_tensor,
            normalize=normalize_embeddings,
            truncate_dim=model.truncate_dim if truncate_dim is None else truncate_dim,
            ranges=ranges,
        )
        model._ready_on(None if options.devices is not None else device)
        return options

    @property
    def vectors(self) -> bool:
        """Whether a row's result is its vector, not another feature."""
        return self.output_value == "sentence_embedding"

    def backend(self, model: Any) -> TorchBackend:
        """Return what tokenises and runs: texts whose other features are wanted are padded."""
        padded = not self.vectors and self.output_value != "token_embeddings"
        return TorchBackend(model, self.prompt, self.kwargs, pad=padded)

    def part(self, count: int) -> Sink:
        """Return what collects the results of ``count`` rows."""
        return RowSink(count, _running.allocate) if self.vectors else ListSink(count)

    def sink(self, count: int) -> Sink:
        """Return what collects the whole result, which workers write in place."""
        return SharedRowSink(count) if self.vectors and self.pool is not None else self.part(count)

    # -- one batch ---------------------------------------------------------------------------------------------------

    def finish(self, features: Features, batch: Batch) -> Any:
        """Return what the sink takes of a batch's features."""
        return self._vectors(features, batch) if self.vectors else self._features(features, batch)

    def _vectors(self, features: Features, batch: Batch) -> Any:
        """Return a batch's vectors ``[rows, width]``, on the CPU unless tensors are wanted."""
        vectors = embedding_of(features)
        if self.truncate_dim is not None:
            vectors = vectors[..., : self.truncate_dim]
        if self.normalize:
            vectors = functional.normalize(vectors.float(), dim=-1).to(vectors.dtype)
        if self.precision in _BITS:
            vectors = torch.from_numpy(quantize_embeddings(vectors, self.precision))
        # numpy has no bfloat16, so an array of such a model holds float32.
        dtype = torch.float32 if self.as_numpy and vectors.dtype == torch.bfloat16 else vectors.dtype
        vectors = vectors.to("cpu" if self.as_numpy or self.apart else vectors.device, dtype)
        return _running.as_array(vectors) if self.apart else vectors

    def _features(self, features: Features, batch: Batch) -> list[Any]:
        """Return one object a row: the tensor of a named feature, or a dictionary of all features."""
        if self.output_value == "token_embeddings":
            rows: list[Any] = list(_split_tokens(features, batch))
        elif self.output_value is None:
            rows = _split_all(features, batch, self.truncate_dim)
        else:
            rows = [_own(row) for row in whole(features[self.output_value])]
        return [_on_cpu(row) for row in rows] if self.apart else rows

    # -- the whole result --------------------------------------------------------------------------------------------

    def empty(self) -> Any:
        """Return the result for no inputs."""
        if self.vectors and self.as_tensor:
            return torch.empty(0)
        return np.empty(0) if self.vectors and self.as_numpy else []

    def result(self, sink: Any, single: bool) -> Any:
        """Return the rows of a full sink in the form that the flags ask for; only what is quantised is copied."""
        if not self.vectors:
            rows = self._quantised(sink.items)
            return rows[0] if single else rows
        vectors = _running.as_tensor(sink.result())
        vectors = self._quantised(vectors[0] if single else vectors)
        if self.as_numpy:
            return vectors.numpy() if isinstance(vectors, Tensor) else vectors
        tensor = vectors if isinstance(vectors, Tensor) else torch.from_numpy(vectors)
        return tensor if single or self.as_tensor else list(tensor)

    def _quantised(self, rows: Any) -> Any:
        if self.precision == "float32" or (self.vectors and self.precision in _BITS):
            return rows
        return quantize_embeddings(rows, str(self.precision), self.ranges)

    def each(self, sink: Any) -> Iterator[Any]:
        """Yield the rows of a full sink one by one, each in memory of its own."""
        if not self.vectors:
            yield from self._quantised(sink.items)
            return
        rows = self._quantised(sink.result())
        if isinstance(rows, Tensor) and self.as_numpy:
            rows = rows.numpy()
        elif not self.as_numpy:
            rows = _running.as_tensor(rows)
        for row in rows:
            yield row.clone() if isinstance(row, Tensor) else row.copy()


def encode_stream(model: Any, inputs: Iterable[Any], options: Options, window: int) -> Generator[Any, None, None]:
    """Encode an iterable row by row; see ``SentenceTransformer.encode_stream``."""
    if options.precision in _RANGED and options.ranges is None:
        raise InputError(
            f"precision {options.precision!r} needs the range of each dimension, which a stream tells only at its end: "
            "give ranges [2, width], the smallest and largest values of a sample"
        )
    return _encoding.encode_stream(model, inputs, options, window)


def _split_tokens(features: Features, batch: Batch) -> list[Tensor]:
    """Return each text's token vectors ``[tokens, width]``, without padding."""
    vectors = whole(features["token_embeddings"])
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


def _split_all(features: Features, batch: Batch, truncate_dim: int | None) -> list[dict[str, Any]]:
    """Return each input's features as a dictionary; what is not one a row is in all of them."""
    if truncate_dim is not None:
        features["sentence_embedding"] = embedding_of(features)[..., :truncate_dim]
    count = len(batch)

    def at(value: Any, row: int) -> Any:
        if isinstance(value, PerRow):
            return value[row]
        return _own(value[row]) if isinstance(value, Tensor) and value.ndim and len(value) == count else value

    return [{key: at(value, row) for key, value in features.items()} for row in range(count)]


def _own(row: Any) -> Any:
    """Return a row in memory of its own, so that keeping it does not keep its whole batch."""
    return row.clone() if isinstance(row, Tensor) else row


def _on_cpu(row: Any) -> Any:
    if isinstance(row, dict):
        return {key: _on_cpu(value) for key, value in row.items()}
    return row.cpu() if isinstance(row, Tensor) else row
