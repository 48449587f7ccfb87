"""Evaluation in a training of several processes: the first runs the evaluator, all encode."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from fourfold.errors import WorkerError
from fourfold.logs import disable_logging
from fourfold.ops.device import move, move_to_cpu
from fourfold.ops.processes import get_rank, get_world_size

logger = logging.getLogger(__name__)

_METHODS = ("encode", "predict")
_STOP = None


@contextmanager
def distributed_evaluation(model: Any, enabled: bool = True) -> Iterator[bool]:
    """Yield whether the evaluator is to be run here: by the first process, for which the others encode meanwhile.

    Inside the block the first process's ``encode`` and ``predict`` give each process an equal part of the inputs, the
    first ones one more where they do not divide, and join the results in order. One input, and inputs that cannot be
    sent, it handles itself.

    Args:
        model: The model, of which each process has a copy.
        enabled: False lets every process run the evaluator by itself.

    Raises:
        WorkerError: If a process fails; the message has the errors of all.
    """
    if not enabled or get_world_size() == 1:
        yield True
    elif get_rank() == 0:
        before = {name: vars(model).get(name) for name in _METHODS if hasattr(model, name)}
        for name in before:
            vars(model)[name] = _shared(model, getattr(model, name), name)
        try:
            yield True
        finally:
            for name, method in before.items():
                vars(model).pop(name)
                if method is not None:
                    vars(model)[name] = method
            distributed.broadcast_object_list([_STOP])
    else:
        with disable_logging(logging.INFO):
            _serve(model)
        yield False


def _shared(model: Any, method: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a method that gives each process its part of the inputs."""

    def call(inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        parts = _parts(model, inputs)
        call = None if parts is None else _pickled((name, args, kwargs))
        if parts is None or call is None:
            return method(inputs, *args, **kwargs)
        distributed.broadcast_object_list([call])
        distributed.scatter_object_list([None], parts)
        own = pickle.loads(parts[0])
        gathered: list[Any] = [None] * len(parts)
        distributed.gather_object(_attempt(lambda: method(own, *args, **kwargs)), gathered)
        if failed := [f"process {rank}: {why}" for rank, (why, _) in enumerate(gathered) if why]:
            raise WorkerError(f"{name} failed in {len(failed)} of {len(parts)} processes\n" + "\n".join(failed))
        return move(_joined([result for _, result in gathered]), model.device)

    return call


def _serve(model: Any) -> None:
    """Encode for the first process, until it says that there is nothing more."""
    while True:
        message: list[Any] = [None]
        distributed.broadcast_object_list(message)
        if message[0] is _STOP:
            return
        name, args, kwargs = pickle.loads(message[0])
        part: list[Any] = [None]
        distributed.scatter_object_list(part)
        inputs = pickle.loads(part[0])
        if "show_progress_bar" in kwargs:
            kwargs["show_progress_bar"] = False
        method = getattr(model, name)
        distributed.gather_object(_attempt(lambda: method(inputs, *args, **kwargs)))  # noqa: B023 - called at once


def _parts(model: Any, inputs: Any) -> list[bytes] | None:
    """Return the inputs of each process, to be sent; None for one input, too few, or such as cannot be sent."""
    world = get_world_size()
    if not isinstance(inputs, (list, np.ndarray)) or len(inputs) < world or model.is_singular_input(inputs):
        return None
    sizes = [len(inputs) // world + (rank < len(inputs) % world) for rank in range(world)]
    ends = np.cumsum(sizes)
    parts = [_pickled(inputs[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
    return None if None in parts else [part for part in parts if part is not None]


def _pickled(work: Any) -> bytes | None:
    try:
        return pickle.dumps(work)
    except Exception:
        logger.debug("inputs that cannot be sent are encoded by the first process alone", exc_info=True)
        return None


def _attempt(run: Callable[[], Any]) -> tuple[str | None, Any]:
    """Return why something failed, or None and what it gave, on the CPU."""
    try:
        return None, move_to_cpu(run())
    except Exception:
        return traceback.format_exc(), None


def _joined(results: list[Any]) -> Any:
    first = results[0]
    if isinstance(first, Tensor):
        return torch.cat(results)
    if isinstance(first, np.ndarray):
        return np.concatenate(results)
    if isinstance(first, dict):
        return {key: _joined([result[key] for result in results]) for key in first}
    return [row for result in results for row in result]
