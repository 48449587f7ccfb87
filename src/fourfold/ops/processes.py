"""The group of processes that a distributed program consists of."""

from __future__ import annotations


def is_dist_initialized() -> bool:
    """Whether this process belongs to an initialised ``torch.distributed`` group."""
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def get_rank() -> int:
    """Return this process's number in its ``torch.distributed`` group; 0 without one."""
    import torch

    return torch.distributed.get_rank() if is_dist_initialized() else 0


def get_world_size() -> int:
    """Return how many processes its ``torch.distributed`` group has; 1 without one."""
    import torch

    return torch.distributed.get_world_size() if is_dist_initialized() else 1
