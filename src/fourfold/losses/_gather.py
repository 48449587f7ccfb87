"""Vectors of all processes of a distributed training, with gradients."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, distributed
from torch.nn import functional

from fourfold.notices import warn_once
from fourfold.ops.processes import get_rank, get_world_size, is_dist_initialized

logger = logging.getLogger(__name__)


def all_gather(tensor: Tensor, with_grad: bool = False) -> Tensor:
    """Return the rows of all processes, in their order; outside a distributed training the tensor, with one warning.

    Args:
        tensor: ``[rows, ...]``, as many rows in each process.
        with_grad: Whether gradients find their way back to each process; else they do to this one's rows alone.
    """
    if not is_dist_initialized():
        warn_once(logger, "vectors are to be gathered across devices, but torch.distributed is not initialised")
        return tensor
    if with_grad:
        from torch.distributed.nn.functional import all_gather as gather

        return torch.cat(gather(tensor))
    parts = [torch.empty_like(tensor) for _ in range(get_world_size())]
    distributed.all_gather(parts, tensor.detach().contiguous())
    parts[get_rank()] = tensor
    return torch.cat(parts)


def all_gather_with_grad(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, in their order; gradients find their way back to each."""
    return all_gather(tensor, with_grad=True)


def all_gather_padded(tensor: Tensor, mask: Tensor, with_grad: bool = False) -> tuple[Tensor, Tensor]:
    """Return the rows of all processes and their mask, padded to the longest of all processes.

    Args:
        tensor: ``[rows, tokens, ...]``.
        mask: ``[rows, tokens]``.
        with_grad: As for :func:`all_gather`.
    """
    if is_dist_initialized():
        longest = torch.tensor(tensor.shape[1], device=tensor.device)
        distributed.all_reduce(longest, op=distributed.ReduceOp.MAX)
        missing = int(longest) - tensor.shape[1]
        tensor = functional.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, missing))
        mask = functional.pad(mask, (0, missing))
    return all_gather(tensor, with_grad), all_gather(mask)


def rank_offset(rows: int) -> int:
    """Return where this process's rows begin among those of all, each of which has as many."""
    return get_rank() * rows
