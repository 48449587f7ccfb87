"""A model whose weights FSDP shares out among processes, whole again: to be saved, loaded and evaluated.

Its layers only run inside its own forward, and its weights are parts. So a copy without weights is kept from before
they were shared out, and is filled for as long as it is needed.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


def is_sharded(model: Any) -> bool:
    """Whether FSDP, of either version, shares out a model's weights."""
    if "torch.distributed.fsdp" not in sys.modules:  # whoever shares weights out has imported it
        return False
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    return isinstance(model, (FSDPModule, FullyShardedDataParallel))


def emptied(model: Any) -> Any:
    """Return a copy of an encoder that has no weights, and shares its card's data."""
    memo: dict[int, Any] = {
        id(part): nn.Parameter(torch.empty_like(part, device="meta"), requires_grad=part.requires_grad)
        for part in model.parameters()
    }
    memo[id(model.model_card_data)] = model.model_card_data
    return copy.deepcopy(model, memo)


def weights(model: Any) -> dict[str, Any]:
    """Return all weights of a sharded model, on its device, in every process; all take part."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))


def load(model: Any, state: Mapping[str, Any]) -> None:
    """Give a sharded model all weights; all processes take part, and each has them."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(model, dict(state), options=StateDictOptions(full_state_dict=True))


@contextlib.contextmanager
def filled(empty: Any, state: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what :func:`emptied` returned with weights in it, which are taken out again.

    Args:
        empty: The model without weights.
        state: All of them, by the names of the model's ``state_dict``.
    """
    card = empty.model_card_data
    sharded = card.model
    empty.load_state_dict(state, assign=True)
    empty.to(next(iter(state.values())).device)  # what is no weight was copied before the model was put on its device
    for module in empty.modules():
        if hasattr(module, "tie_weights"):
            module.tie_weights()
    card.register_model(empty)
    try:
        yield empty
    finally:
        if sharded is not None:
            card.register_model(sharded)
        nothing = {name: torch.empty_like(part, device="meta") for name, part in empty.state_dict().items()}
        empty.load_state_dict(nothing, assign=True)
