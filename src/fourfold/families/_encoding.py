"""The ``encode`` of every family, from a caller's arguments to the engine; a family adds what its rows become."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fourfold.backends import Batch
from fourfold.backends.torch import TorchBackend
from fourfold.engine.collect import Sink
from fourfold.engine.run import LocalRunner, Runner, run, stream
from fourfold.errors import MissingFeatureError, check_positive
from fourfold.families import _running
from fourfold.modules._base import Features
from fourfold.text import prompts as prompting
from fourfold.text.inputs import as_list, check_stream


@dataclass(frozen=True)
class Call(ABC):
    """What a caller asked of ``encode``, checked.

    ``apart`` says that outputs are made in another process: rows are then numpy arrays, other tensors on the CPU.
    """

    prompt: str | None = None
    batch_size: int = 32
    show_progress_bar: bool | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    pool: Any = None
    devices: Sequence[str] | None = None
    chunk_size: int | None = None
    apart: bool = False

    def backend(self, model: Any) -> TorchBackend:
        """Return what tokenises and runs."""
        return TorchBackend(model, self.prompt, self.kwargs)

    def runner(self, backend: TorchBackend) -> LocalRunner:
        """Return what runs batches and gives each row's result."""
        return LocalRunner(backend, _running.budget_for(backend, self.batch_size), self.finish)

    def work(self, model: Any) -> LocalRunner:
        """Return what does so in a worker process."""
        return self.runner(self.backend(model))

    @abstractmethod
    def finish(self, features: Features, batch: Batch) -> Any:
        """Return what the sink takes of a batch's features."""

    @abstractmethod
    def sink(self, count: int) -> Sink:
        """Return what collects the whole result of ``count`` rows."""

    @abstractmethod
    def part(self, count: int) -> Sink:
        """Return what collects the results of the ``count`` rows of a window."""

    @abstractmethod
    def empty(self) -> Any:
        """Return the result for no inputs."""

    @abstractmethod
    def result(self, sink: Any, single: bool) -> Any:
        """Return the rows of a full sink in the form that the caller asked for."""

    @abstractmethod
    def each(self, sink: Any) -> Iterator[Any]:
        """Yield the rows of a full sink one by one, each in memory of its own."""


def embedding_of(features: Features) -> Any:
    """Return the rows that a model's last module wrote.

    Raises:
        MissingFeatureError: If no module of the model wrote any.
    """
    if "sentence_embedding" not in features:
        known = ", ".join(map(str, features)) or "none"
        raise MissingFeatureError(f"no module of the model wrote the feature 'sentence_embedding'; there are: {known}")
    return features["sentence_embedding"]


def shared(
    model: Any,
    *,
    prompt_name: str | None = None,
    prompt: str | None = None,
    batch_size: int = 32,
    show_progress_bar: bool | None = None,
    device: Any = None,
    pool: Any = None,
    chunk_size: int | None = None,
    any_keyword: bool = False,
    **kwargs: Any,
) -> dict[str, Any]:
    """Return the fields of :class:`Call` from the arguments that every ``encode`` takes, those for modules included.

    ``any_keyword`` leaves it to the modules to find keyword arguments among the rest that are for them. A single device
    moves the model there, once all arguments are checked: the caller does so by ``_ready_on``.

    Raises:
        InputError: If one is unusable, or the model takes no such keyword argument.
    """
    check_positive(batch_size=batch_size)
    if not any_keyword:
        _running.check_kwargs(model, kwargs)
    devices = list(device) if isinstance(device, (list, tuple)) else None
    if chunk_size is not None and (pool is not None or devices is not None):
        check_positive(chunk_size=chunk_size)
    return {
        "prompt": prompting.resolve(model.prompts, model.default_prompt_name, prompt, prompt_name),
        "batch_size": batch_size,
        "show_progress_bar": show_progress_bar,
        "kwargs": kwargs,
        "pool": pool,
        "devices": devices,
        "chunk_size": chunk_size,
    }


def encode(model: Any, inputs: Any, call: Call) -> Any:
    """Encode one input or a batch with a model."""
    single = model.is_singular_input(inputs)
    items = [inputs] if single else as_list(inputs)
    if not items:
        return call.empty()
    with _running.opened(model, call.pool, call.devices) as pool, _running.inference(model):
        call = replace(call, pool=pool)
        sink, backend = call.sink(len(items)), call.backend(model)
        run(items, backend, sink, _runner(backend, call), progress=_running.progress(call.show_progress_bar))
        return call.result(sink, single)


def encode_stream(model: Any, inputs: Iterable[Any], call: Call, window: int) -> Generator[Any, None, None]:
    """Encode an iterable row by row; what cannot be streamed is told at once."""
    check_stream(inputs, window)
    return _rows(model, inputs, call, window)


def _rows(model: Any, inputs: Iterable[Any], call: Call, window: int) -> Generator[Any, None, None]:
    with _running.opened(model, call.pool, call.devices) as pool:
        call = replace(call, pool=pool)
        backend = call.backend(model)
        parts = stream(
            inputs, backend, _runner(backend, call), call.part, window=window,
            progress=_running.progress(call.show_progress_bar),
        )  # fmt: skip
        with contextlib.closing(parts):
            while True:
                # Between two rows the caller's own code runs, which must not find inference mode switched on.
                with _running.inference(model):
                    sink = next(parts, None)
                    rows = None if sink is None else list(call.each(sink))
                if rows is None:
                    return
                yield from rows


def _runner(backend: TorchBackend, call: Call) -> Runner:
    if call.pool is None:
        return call.runner(backend)
    work = replace(call, apart=True, pool=None, devices=None).work
    return _running.pool_runner(call.pool, backend, call.batch_size, work, call.chunk_size)
