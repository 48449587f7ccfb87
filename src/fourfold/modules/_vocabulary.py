"""Leave the projection onto the vocabulary out of a transformers model's forward, for who pools its logits anyway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fourfold.modules import _packed
from fourfold.ops.attention import Packing
from fourfold.ops.splade import VocabularyLogits

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class _LeftOut(TorchFunctionMode):
    """Gives back the states that one linear layer gets, in place of its output; the model itself is not touched."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.met = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is functional.linear and len(args) > 1 and args[1] is self.weight:
            self.met += 1
            return args[0]
        return func(*args, **(kwargs or {}))


def projection(model: Any) -> nn.Linear | None:
    """Return the layer that makes a model's logits, if it is a plain one that nobody has wrapped or listens to."""
    inner = _packed.unwrapped(model)
    layer = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    if type(layer) is not nn.Linear or "forward" in vars(layer) or any(vars(layer)[hooks] for hooks in _HOOKS):
        return None
    return layer if type(layer.weight) is nn.Parameter else None


def left_out(layer: nn.Linear) -> _LeftOut:
    """Return a context in which ``layer`` is not computed."""
    return _LeftOut(layer.weight)


def deferred(states: Tensor, layer: nn.Linear) -> VocabularyLogits:
    """Return logits from what a forward without ``layer`` gave."""
    return VocabularyLogits(states, layer.weight, layer.bias)


def can_be_left_out(model: nn.Module, start: int, vocabulary: int) -> bool:
    """Whether a packed forward without the projection, and the projection, give the model's logits; by its numbers.

    Args:
        model: A model that runs packed.
        start: Position of a text's first token.
        vocabulary: Number of ids that may be used.
    """
    layer = projection(model)
    if layer is None:
        return False
    packing = Packing(np.array([0, 3, 5]))
    ids = torch.arange(5, device=layer.weight.device) % vocabulary
    arguments = _packed.inputs(model, ids, packing, None, start)
    with _packed.evaluated(model), _packed.packed(packing):
        wanted = model(**arguments)[0]
        with left_out(layer) as seen:
            states = model(**arguments)[0]
    if seen.met != 1 or states.shape[-1] != layer.in_features:
        return False
    with torch.inference_mode():
        got = deferred(states, layer).whole()
    return got.shape == wanted.shape and _packed.close(got.float(), wanted.float(), _packed.tolerance(model))
