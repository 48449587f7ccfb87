"""Activations by the dotted path of their class, as folders name them."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import torch
from torch import nn

from fourfold.errors import FolderError

logger = logging.getLogger(__name__)


def path_of(activation: Any) -> str:
    """Return the path by which a folder names an activation: that of its class.

    >>> path_of(nn.Sigmoid())
    'torch.nn.modules.activation.Sigmoid'
    """
    kind = type(activation)
    return f"{kind.__module__}.{kind.__name__}"


def from_path(
    path: Any, origin: str, trust_remote_code: bool, otherwise: nn.Module, *, key: str = "activation_function"
) -> nn.Module:
    """Return an instance of the activation that a folder names by its dotted path.

    Args:
        path: The path.
        origin: The file that names it, for errors.
        trust_remote_code: Whether a path outside torch may be imported.
        otherwise: What is used, with a warning, if it may not.
        key: The key that names it, for errors.

    Raises:
        FolderError: If the path is none, or names no ``torch.nn.Module`` class.
    """
    if not isinstance(path, str):
        raise FolderError(f"{origin}: {key!r} must be the path of a class, got {path!r}")
    home, _, name = path.rpartition(".")
    if not path.startswith("torch.") and not trust_remote_code:
        used = type(otherwise).__name__
        logger.warning(
            "%s: activation %r is outside torch; %s is used unless trust_remote_code=True", origin, path, used
        )
        return otherwise
    try:
        activation = getattr(importlib.import_module(home), name)
    except (ImportError, AttributeError, ValueError):
        activation = None
    if not (isinstance(activation, type) and issubclass(activation, torch.nn.Module)):
        raise FolderError(f"{origin}: {key} {path!r} names no torch.nn.Module class")
    return activation()
