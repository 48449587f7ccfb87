"""Where tensors are, and moving them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def move(value: Any, device: str | torch.device) -> Any:
    """Return a value with every tensor on a device, inside dictionaries, lists and tuples too."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: move(part, device) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(move(part, device) for part in value))
    if isinstance(value, (list, tuple)):
        return type(value)(move(part, device) for part in value)
    return value


def move_to_cpu(value: Any) -> Any:
    """Return a value with every tensor on the CPU, inside dictionaries, lists and tuples too."""
    return move(value, "cpu")


def batch_to_device(batch: dict[str, Any], target_device: str | torch.device) -> dict[str, Any]:
    """Move the tensors of a dictionary to a device, in place, and return it.

    >>> batch_to_device({"a": torch.ones(2), "b": "text"}, "cpu")["b"]
    'text'
    """
    for key, value in batch.items():
        if isinstance(value, Tensor):
            batch[key] = value.to(target_device)
    return batch
