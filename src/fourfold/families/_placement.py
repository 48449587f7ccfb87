"""Where a model is, and who moves it: its owner, or accelerate, which then must not be disturbed."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fourfold.errors import PlacementError
from fourfold.notices import warn_once

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger(__name__)


class Placement(nn.Module):
    """The part of a model that knows its device.

    A model is placed by its owner, with ``device`` and ``to``, unless it was loaded with a ``device_map`` or accelerate
    put hooks on it: then placement is *delegated*, and a call's ``device`` is ignored.
    """

    transformers_model: Any
    _device_map: Any = None
    _modules_placed: bool = False

    @property
    def device(self) -> torch.device:
        """Where inputs go: accelerate's execution device, the backbone's, or where the first tensor of the model is."""
        if self._dispatch_hook is not None:
            return torch.device(self._dispatch_hook.execution_device)  # by name, or, as accelerate has it, by number
        backbone = self.transformers_model
        if backbone is not None and getattr(backbone, "device", None) is not None:
            return torch.device(backbone.device)
        first = next(itertools.chain(self.parameters(), self.buffers(), _tensor_attributes(self)), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def dtype(self) -> torch.dtype | None:
        """Data type of the model's first parameter; None without parameters."""
        first = next(self.parameters(), None)
        return None if first is None else first.dtype

    @property
    def _target_device(self) -> torch.device:
        warn_once(logger, f"{type(self).__name__}._target_device is deprecated; use device")
        return self.device

    @_target_device.setter
    def _target_device(self, device: int | str | torch.device | None) -> None:
        warn_once(logger, f"{type(self).__name__}._target_device is deprecated; use to(device)")
        self.to(device)

    # -- accelerate --------------------------------------------------------------------------------------------------

    @cached_property
    def _dispatch_hook(self) -> Any:
        """The first hook of accelerate that sends inputs to a device, or None."""
        return next(filter(None, map(_execution_hook, self.modules())), None)

    @property
    def _placement_is_delegated(self) -> bool:
        return self._device_map is not None or self._dispatch_hook is not None

    def clear_placement_cache(self) -> None:
        """Look for accelerate's hooks again, after they were added or removed, and align the modules at the next call.

        Modules beside the backbone are moved to its device and data type then.
        """
        self.__dict__.pop("_dispatch_hook", None)
        self._modules_placed = False

    def _align_modules(self) -> None:
        """Give each module after the first its data type and, where accelerate placed the model, its device."""
        first: Any = next(self.children(), None)
        dtype = None if first is None else next((p.dtype for p in first.parameters()), None)
        device = self.device if self._placement_is_delegated else None
        for module in itertools.islice(self.children(), 1, None):
            if any(_execution_hook(part) is not None or part is self.transformers_model for part in module.modules()):
                continue
            if device is not None:
                module.to(device)
            if dtype is not None and dtype.is_floating_point:
                module.to(dtype)
        self._modules_placed = True

    def _ready_on(self, device: int | str | torch.device | None) -> None:
        """Prepare for inference where a call asks for it; the model stays there."""
        if not self._placement_is_delegated:
            if device is not None:
                self.to(device)
            return
        if device is not None:
            warn_once(
                logger,
                f"device={device} is ignored: a device map or accelerate's hooks place this model. "
                "model.to(device) takes it over.",
            )
        if not self._modules_placed:
            self._align_modules()

    # -- moving ------------------------------------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or cast the model, as torch does, and return it; a device takes the placement over from a device map."""
        # The first of what torch understands by these arguments is the device.
        if torch._C._nn._parse_to(*args, **kwargs)[0] is not None:
            self._take_over()
        return super().to(*args, **kwargs)

    def cpu(self) -> Self:
        """Move the model to the CPU and return it."""
        self._take_over()
        return super().cpu()

    def cuda(self, device: int | torch.device | None = None) -> Self:
        """Move the model to a CUDA device, the current one by default, and return it."""
        self._take_over()
        return super().cuda(device)

    def _take_over(self) -> None:
        if self._dispatch_hook is not None:
            warn_once(logger, "a model that accelerate's hooks place should not be moved; remove the hooks first")
        self._device_map = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if self._dispatch_hook is not None and any(parameter.is_meta for parameter in self.parameters()):
            raise PlacementError(
                "parts of this model are offloaded to the CPU or to disk by accelerate, so it cannot be moved or cast; "
                "load it again without offloading"
            )
        return super()._apply(fn, recurse)


def best_device() -> torch.device:
    """Return the device that a model goes to when none is asked for: cuda, mps, npu, xpu, hpu or cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda", _cuda_index())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    for name in ("npu", "xpu", "hpu"):
        if name == "hpu" and importlib.util.find_spec("habana_frameworks") is not None:
            importlib.import_module("habana_frameworks.torch")  # it is this import that gives torch the device
        library = getattr(torch, name, None)
        if library is not None and library.is_available():
            return torch.device(name)
    return torch.device("cpu")


def _cuda_index() -> int:
    rank = os.environ.get("LOCAL_RANK")
    if rank is None and torch.distributed.is_available() and torch.distributed.is_initialized():
        rank = str(torch.distributed.get_rank())
    index = int(rank) if rank and rank.isdigit() else 0
    return index if index < torch.cuda.device_count() else 0


def _execution_hook(module: nn.Module) -> Any:
    """Return the hook of accelerate on a module that has an execution device, or None."""
    hook = vars(module).get("_hf_hook")
    parts = getattr(hook, "hooks", None) or [hook]
    return next((part for part in parts if getattr(part, "execution_device", None) is not None), None)


def _tensor_attributes(model: nn.Module) -> Iterator[Tensor]:
    return (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
