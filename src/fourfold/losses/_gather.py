"""Vectors of all processes of a distributed training, with gradients."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, distributed

from fourfold.notices import warn_once

logger = logging.getLogger(__name__)


def all_gather_with_grad(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, in their order; gradients find their way back to each.

    Outside a distributed training the tensor is returned as it is, with one warning.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        warn_once(logger, "vectors are to be gathered across devices, but torch.distributed is not initialised")
        return tensor
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(tensor))


def rank_offset(rows: int) -> int:
    """Return where this process's rows begin among those of all, each of which has as many."""
    ready = distributed.is_available() and distributed.is_initialized()
    return distributed.get_rank() * rows if ready else 0
