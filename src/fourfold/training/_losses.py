"""The losses of a training: built, looked up, and told which model they train."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.families._model import BaseModel

# What losses ask of a model besides running it; a wrapper for several processes has none of these.
_ASKED = ("preprocess", "batch_features", "get_embedding_dimension")

Loss = nn.Module | Callable[[Any], nn.Module]


def check_names(loss: Any, datasets: Any, argument: str) -> None:
    """Raise :class:`~fourfold.errors.InputError` unless each of some datasets has a loss of its name.

    Args:
        loss: Losses by name.
        datasets: Datasets by name, or None.
        argument: What the datasets are called.
    """
    if datasets is None:
        return
    if not isinstance(datasets, Mapping):
        raise InputError(f"losses by name need datasets by name: {argument} must be a dictionary or a DatasetDict")
    if missing := [name for name in datasets if name not in loss]:
        raise InputError(f"{argument} has datasets without a loss: {', '.join(missing)}; losses: {', '.join(loss)}")


def each(loss: Any, change: Callable[[Any], Any]) -> Any:
    """Return what a function makes of a loss, or of each of several by name."""
    return {name: change(part) for name, part in loss.items()} if isinstance(loss, Mapping) else change(loss)


def module_of(loss: Any) -> nn.Module:
    """Return a loss, or several by name, as one module, whose parameters are those that are trained."""
    if not isinstance(loss, Mapping):
        return loss
    return nn.Sequential(OrderedDict((name.replace(".", "_"), part) for name, part in loss.items()))


def with_model(loss: nn.Module, model: Any) -> nn.Module:
    """Let a loss, and the losses inside it, train another model, or a wrapper around its own.

    Args:
        loss: The loss, which is changed.
        model: What takes the place of each encoder that a loss calls its model.
    """
    if not isinstance(model, BaseModel):
        inner = _unwrapped(model)
        for name in _ASKED:
            if not hasattr(model, name) and hasattr(inner, name):
                setattr(model, name, getattr(inner, name))
    _replace(loss, model)
    return loss


def _replace(loss: nn.Module, model: Any) -> None:
    for name, child in loss.named_children():
        if name == "model" and isinstance(_unwrapped(child), BaseModel):
            loss.model = model
        elif not isinstance(child, BaseModel):
            _replace(child, model)


def _unwrapped(model: Any) -> Any:
    """Return the model inside wrappers: of torch.compile, and for several processes."""
    while not isinstance(model, BaseModel):
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner
    return model


def total(loss: Any) -> Tensor:
    """Return a loss, or the sum of its parts."""
    if not isinstance(loss, Mapping):
        return loss
    first, *others = loss.values()
    return functools.reduce(torch.add, others, first)
