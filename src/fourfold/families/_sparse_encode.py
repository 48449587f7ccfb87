"""The sparse family's encode: rows of few terms, collected sparse and handed out in the form that the flags ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fourfold.backends import Batch
from fourfold.backends.torch import TorchBackend
from fourfold.containers import Terms
from fourfold.engine.collect import RowSink, Sink, TermsSink
from fourfold.engine.plan import windows
from fourfold.engine.run import LocalRunner
from fourfold.engine.shared import SharedRowSink
from fourfold.errors import InputError, did_you_mean
from fourfold.families import _running
from fourfold.families._encoding import Call, embedding_of, shared
from fourfold.modules._base import Features
from fourfold.ops import sparse
from fourfold.ops.terms import check_active, strongest

LAYOUTS = ("coo", "csr")

# A dense batch [rows, width] that is made on the way holds at most so many numbers.
_CPU_NUMBERS = 8_000_000
_DEVICE_NUMBERS = 256_000_000


@dataclass(frozen=True)
class Options(Call):
    """What a caller asked of the sparse ``encode``, checked.

    ``layout`` is ``coo``, ``csr`` or None for dense rows; ``device`` where the result lies; ``dtype`` its data type
    where numpy, in which rows are collected, has none like it.
    """

    as_tensor: bool = True
    layout: str | None = "coo"
    most: int | None = None
    device: str | torch.device = "cpu"
    dtype: torch.dtype | None = None
    width: int | None = None

    @classmethod
    def of(
        cls,
        model: Any,
        *,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool | str = True,
        save_to_cpu: bool = False,
        device: Any = None,
        max_active_dims: int | None = None,
        **given: Any,
    ) -> Options:
        """Return the options of a call of a model from the arguments of ``SparseEncoder.encode``.

        A single device moves the model there.

        Raises:
            InputError: If one is unusable, or the model takes no such keyword argument.
        """
        common = shared(model, device=device, **given)
        most = model.max_active_dims if max_active_dims is None else max_active_dims
        check_active(most)
        layout = _layout(convert_to_sparse_tensor)
        if layout == "csr" and not convert_to_tensor:
            raise InputError(
                'convert_to_sparse_tensor="csr" makes one tensor of all rows; give convert_to_tensor=True with it'
            )
        if most is not None and "max_active_dims" in model.get_model_kwargs():
            common["kwargs"] = {**common["kwargs"], "max_active_dims": most}
        model._ready_on(None if common["devices"] is not None else device)
        away = save_to_cpu or common["pool"] is not None or common["devices"] is not None
        return cls(
            **common,
            as_tensor=convert_to_tensor,
            layout=layout,
            most=most,
            device="cpu" if away else model.device,
            dtype=torch.bfloat16 if model.dtype == torch.bfloat16 else None,
            width=model.get_embedding_dimension(),
        )

    def runner(self, backend: TorchBackend) -> LocalRunner:
        """Return what runs batches and gives each row's result; few enough rows at a time to hold them dense."""
        budget = _running.budget_for(backend, self.batch_size)
        numbers = _CPU_NUMBERS if backend.model.device.type == "cpu" else _DEVICE_NUMBERS
        rows = max(1, numbers // max(1, self.width or 1))
        return LocalRunner(backend, replace(budget, rows=min(rows, budget.rows or rows)), self.finish)

    def part(self, count: int) -> Sink:
        """Return what collects the results of the ``count`` rows of a window."""
        return RowSink(count, _allocate) if self.layout is None else TermsSink(count, [range(count)])

    def sink(self, count: int) -> Sink:
        """Return what collects the whole result; workers write dense rows in place."""
        if self.layout is not None:
            return TermsSink(count, windows(count))
        return SharedRowSink(count) if self.pool is not None else RowSink(count, _allocate)

    def finish(self, features: Features, batch: Batch) -> Any:
        """Return a batch's rows: sparse ones as ``Terms``, dense ones as a tensor, or an array from another process."""
        rows = embedding_of(features)
        if self.layout is not None:
            return strongest(sparse.terms_of(rows), self.most)
        if self.most is not None:
            rows = _strongest_dense(rows, self.most)
        rows = (rows.to_dense() if rows.is_sparse else rows).to("cpu" if self.apart else self.device)
        return _running.as_array(rows) if self.apart else rows

    def empty(self) -> Any:
        """Return the result for no inputs."""
        if not self.as_tensor:
            return []
        if self.layout == "csr":
            return sparse.csr(Terms.of(np.zeros((0, 0), np.float32)))
        empty = torch.zeros(0)
        return empty if self.layout is None else empty.to_sparse()

    def result(self, sink: Any, single: bool) -> Any:
        """Return the rows of a full sink in the form that the flags ask for, as tensors that autograd may use."""
        with torch.inference_mode(False):
            return self._result(sink.result(), single)

    def _result(self, rows: Any, single: bool) -> Any:
        if self.layout is None:
            rows = _running.as_tensor(rows)
            return rows[0] if single else rows if self.as_tensor else list(rows)
        if single:
            return self._placed(sparse.coo_rows(rows)[0] if self.layout == "coo" else sparse.csr(rows))
        if not self.as_tensor:
            return [self._placed(row) for row in sparse.coo_rows(rows)]
        return self._placed(sparse.coo(rows) if self.layout == "coo" else sparse.csr(rows))

    def each(self, sink: Any) -> Iterator[Any]:
        """Yield the rows of a full sink one by one, each in memory of its own."""
        rows = sink.result()
        with torch.inference_mode(False):
            if self.layout is None:
                found = [row.clone() for row in _running.as_tensor(rows)]
            else:
                found = [self._placed(row) for row in sparse.coo_rows(rows, apart=True)]
        yield from found

    def _placed(self, rows: Tensor) -> Tensor:
        return rows.to(device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class TermsOptions(Options):
    """The same for who takes rows as they are collected: ``Terms`` of float32 weights."""

    def result(self, sink: Any, single: bool) -> Terms:
        """Return the rows of a full sink."""
        rows = sink.result()
        return replace(rows, weights=rows.weights.astype(np.float32, copy=False))

    def each(self, sink: Any) -> Iterator[Terms]:
        """Yield the rows of a full sink one by one, each in memory of its own."""
        return self.result(sink, single=False).each()


def _layout(asked: bool | str) -> str | None:
    if isinstance(asked, str):
        if asked not in LAYOUTS:
            raise InputError(
                f"convert_to_sparse_tensor must be True, False or one of {', '.join(LAYOUTS)}; got {asked!r}."
                f"{did_you_mean(asked, LAYOUTS)}"
            )
        return asked
    return "coo" if asked else None


def _strongest_dense(rows: Tensor, most: int) -> Tensor:
    terms = strongest(sparse.terms_of(rows), most)
    return torch.from_numpy(terms.dense()).to(rows.device, rows.dtype)


def _allocate(shape: tuple[int, ...], like: Any) -> Any:
    """Return an empty result of the kind of a batch's output; one that autograd may use later."""
    with torch.inference_mode(False):
        return _running.allocate(shape, like)
