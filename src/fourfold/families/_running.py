"""What the ``encode`` of every family shares: how a model's batches are run, here or by worker processes."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourfold.backends.torch import TorchBackend, every_part
from fourfold.engine.collect import numpy_rows
from fourfold.engine.plan import Budget
from fourfold.engine.run import LocalRunner
from fourfold.engine.workers import PoolRunner, WorkerPool
from fourfold.errors import InputError

# Where a model sets no length, batch_size bounds memory as if texts had this many tokens.
_USUAL_LENGTH = 512
_USUAL_WORKERS = 4


def check_kwargs(model: Any, kwargs: dict[str, Any]) -> None:
    """Raise :class:`~fourfold.errors.InputError` for keyword arguments of ``encode`` that no module takes."""
    if not kwargs:
        return
    known = {*model.get_model_kwargs(), "task", "processing_kwargs"}
    unknown = [name for name in kwargs if name not in known]
    if unknown:
        raise InputError(f"encode got unknown keyword arguments {unknown}; this model takes {sorted(known)}")


def progress(asked: bool | None) -> bool:
    """Whether to show a bar: as asked; unasked only if this library's logger is at INFO or DEBUG."""
    if asked is not None:
        return asked
    return logging.getLogger("fourfold").getEffectiveLevel() in (logging.INFO, logging.DEBUG)


@contextlib.contextmanager
def inference(model: Any) -> Iterator[None]:
    """Put a model into evaluation mode, for good, and switch gradients off inside the block."""
    if any(module.training for module in every_part(model)):
        model.eval()
    with torch.inference_mode():
        yield


def budget_for(backend: TorchBackend, batch_size: int, kinds: Sequence[str] | None = None) -> Budget:
    """Return what a batch may hold: the caller's bound, or less where the device runs no faster for more.

    Args:
        backend: What runs the batches.
        batch_size: The caller's bound, in inputs of the model's full length.
        kinds: Kinds of device that batches are for; None is the model's own.
    """
    if not backend.tokenises:
        return Budget(tokens=2**62, rows=batch_size)
    length = backend.model._longest()
    length = _USUAL_LENGTH if length is None or length > 10**6 else int(length)
    best = backend.best_tokens if kinds is None else max(map(backend.best_tokens_on, kinds))
    return Budget(min(batch_size * max(length, 1), best), padded=not backend.packed)


# -- worker processes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Puts a model in its place inside a worker."""

    device: str
    threads: int | None

    def __call__(self, model: Any) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        model.to(self.device)


def start_pool(model: Any, target_devices: Sequence[str | torch.device] | None = None) -> WorkerPool:
    """Start a process a device, each with the model; its weights are moved to shared memory on the CPU, not copied.

    Args:
        model: The model. It stays on the CPU.
        target_devices: Devices; None takes all of cuda, or all of npu, or four times ``cpu``.

    Raises:
        InputError: If no device is named, or parts of the model are placed on devices by accelerate.
    """
    devices = _usual_devices() if target_devices is None else [str(torch.device(device)) for device in target_devices]
    if not devices:
        raise InputError("no device is named for the worker processes; give at least one, such as 'cpu'")
    if model._dispatch_hook is not None:
        raise InputError("a model that accelerate's hooks place cannot be handed to worker processes; load it without")
    model.to("cpu")
    model.share_memory()
    on_cpu = sum(torch.device(device).type == "cpu" for device in devices)
    setups = [_Place(device, _threads(on_cpu) if device.startswith("cpu") else None) for device in devices]
    return WorkerPool(model, setups, devices)


def _usual_devices() -> list[str]:
    if torch.cuda.is_available():
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    npu = getattr(torch, "npu", None)
    if npu is not None and npu.is_available():
        return [f"npu:{i}" for i in range(npu.device_count())]
    return ["cpu"] * _USUAL_WORKERS


def _threads(workers: int) -> int:
    """Return the threads of each of several workers on the CPU: they divide the cores between them."""
    mine = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        return max(1, mine // workers)
    # What the environment says is meant for each process.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(mine, max(1, cores // workers))


@contextlib.contextmanager
def opened(model: Any, pool: Any, devices: Sequence[str] | None) -> Iterator[WorkerPool | None]:
    """Yield the pool that a call uses: the caller's, one for the block if devices are listed, or None.

    Raises:
        InputError: If ``pool`` is none.
    """
    if pool is None and devices is None:
        yield None
    elif pool is not None:
        yield checked_pool(pool)
    else:
        own = start_pool(model, devices)
        try:
            yield own
        finally:
            own.stop()


def checked_pool(pool: Any) -> WorkerPool:
    """Return the pool; raises :class:`~fourfold.errors.InputError` if it is none."""
    if not isinstance(pool, WorkerPool):
        raise InputError(f"pool must come from start_multi_process_pool, got {type(pool).__name__}")
    return pool


def pool_runner(
    pool: WorkerPool,
    backend: TorchBackend,
    batch_size: int,
    work: Callable[[Any], LocalRunner],
    chunk_size: int | None = None,
) -> PoolRunner:
    """Return what runs a call's batches in the workers of a pool.

    Args:
        pool: The workers.
        backend: The model's, of this process, which tokenises.
        batch_size: The caller's bound of a batch.
        work: Makes, in a worker, the runner of its model; it is pickled.
        chunk_size: Most inputs handed to a worker at a time.
    """
    kinds = [device.partition(":")[0] for device in pool.devices]
    return PoolRunner(pool, work, budget_for(backend, batch_size, kinds), chunk_size)


def as_array(vectors: Tensor) -> NDArray[Any]:
    """Return a CPU tensor as an array over the same memory; bfloat16, which numpy lacks, as the uint16 of its bits."""
    if vectors.dtype == torch.bfloat16:
        return vectors.contiguous().view(torch.int16).numpy().view(np.uint16)
    return vectors.numpy()


def as_tensor(vectors: NDArray[Any] | Tensor) -> Tensor:
    """Return the tensor that :func:`as_array` made an array of; a tensor is left as it is."""
    if isinstance(vectors, Tensor):
        return vectors
    if vectors.dtype == np.uint16:
        return torch.from_numpy(vectors.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(vectors)


def allocate(shape: tuple[int, ...], like: Any) -> Any:
    """Return an empty result of the kind of a batch's output, an array or a tensor."""
    if isinstance(like, Tensor):
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    return numpy_rows(shape, like)


class Processes:
    """The part of every family that starts and stops worker processes."""

    def start_multi_process_pool(self, target_devices: Sequence[str | torch.device] | None = None) -> WorkerPool:
        """Start worker processes for ``encode(pool=...)``, one a device.

        The model is moved to the CPU and stays there; workers on the CPU share its weights and divide the cores between
        them. A script that starts processes needs ``if __name__ == "__main__":`` around what it runs.

        Args:
            target_devices: Devices, one named several times for several workers; None takes all of cuda, or all of npu,
                or four times ``cpu``.

        Returns:
            A dictionary of ``processes``, the pipes to them (``input``) and from them (``output``).

        Raises:
            InputError: If no device is named, or accelerate has placed the model.
        """
        return start_pool(self, target_devices)

    @staticmethod
    def stop_multi_process_pool(pool: WorkerPool) -> None:
        """End a pool's processes."""
        checked_pool(pool).stop()
