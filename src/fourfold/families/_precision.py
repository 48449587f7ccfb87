"""Linear layers that compute in float32 inside a model of half precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fourfold.errors import InputError, MissingMethodError


class Float32Linear(nn.Linear):
    """A linear layer that takes and gives float32 whatever the type of its weights, under autocast too."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """Map ``[..., in_features]`` to ``[..., out_features]``."""
        with torch.autocast(input.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return functional.linear(input.float(), self.weight.float(), bias)


def keep_in_float32(model: nn.Module, paths: Sequence[str], before: Sequence[str] = ()) -> None:
    """Make the linear layers at some paths compute in float32, and those at the paths of before as they are.

    Raises:
        InputError: If ``paths`` is no list of paths, or what one leads to is not a plain ``nn.Linear``.
        MissingMethodError: If a path leads nowhere.
    """
    if not isinstance(paths, (list, tuple)) or not all(isinstance(path, str) for path in paths):
        raise InputError(f"keep_in_fp32_modules must be a list of paths of layers, got {paths!r}")
    layers = [_layer(model, path) for path in paths]
    for path in before:
        if path not in paths:
            _layer(model, path).__class__ = nn.Linear
    for layer in layers:
        layer.__class__ = Float32Linear


def _layer(model: nn.Module, path: str) -> nn.Module:
    try:
        layer: Any = model.get_submodule(path)
    except AttributeError as error:
        raise MissingMethodError(f"keep_in_fp32_modules: the model has no module {path!r}") from error
    layer = getattr(layer, "base_layer", layer)  # inside what peft wraps it in
    if type(layer) not in (nn.Linear, Float32Linear) or "forward" in vars(layer):
        raise InputError(f"keep_in_fp32_modules: {path!r} is a {type(layer).__name__}, not a plain nn.Linear")
    return layer
