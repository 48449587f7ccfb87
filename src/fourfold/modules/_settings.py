"""Settings that a folder states, checked against the constructor that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

import torch

from fourfold.errors import FolderError, FourfoldError, InputError, UnknownKeyError, did_you_mean
from fourfold.text.inputs import short


def construct(cls: Any, config: dict[str, Any], origin: str) -> Any:
    """Call a constructor with what a folder says, turning what does not fit it into an error that names file and key.

    Args:
        cls: The class to build.
        config: Its arguments.
        origin: The file that they come from.

    Raises:
        UnknownKeyError: If a key is unknown, or one that has no default is absent.
        FolderError: If the constructor refuses a value.
    """
    config = dict(config)
    known = inspect.signature(cls).parameters
    check_keys(cls, config, known, origin)
    needed = [name for name, p in known.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    missing = [name for name in needed if name not in config]
    if missing:
        raise UnknownKeyError(f"{origin}: {cls.__name__} needs the key {missing[0]!r}")
    for key, value in config.items():
        wanted = _annotation(known.get(key))
        if wanted == "bool" and (value is None or (type(value) is int and value in (0, 1))):
            config[key] = value = bool(value)  # as some older folders write it
        if not _fits(value, wanted):
            raise FolderError(f"{origin}: {key!r} must be {wanted}, got {short(value)}")
    try:
        return cls(**config)
    except InputError as error:
        raise FolderError(f"{origin}: {error}") from error
    except (FourfoldError, torch.OutOfMemoryError):
        raise
    except TypeError as error:
        raise UnknownKeyError(f"{origin}: {error}") from error
    except (ValueError, OverflowError, MemoryError, RuntimeError) as error:
        raise FolderError(f"{origin}: {cls.__name__} cannot be built: {error}") from error


# What JSON gives for the annotations that settings have.
_KINDS: dict[str, Any] = {
    "int": int, "float": (int, float), "bool": bool, "str": str, "None": type(None), "dict": dict,
    "list": (list, tuple), "Sequence": (list, tuple),
}  # fmt: skip


def _annotation(parameter: inspect.Parameter | None) -> str:
    """Return a parameter's annotation as it is written, or an empty string."""
    found = parameter.annotation if parameter is not None else ""
    return found.__name__ if isinstance(found, type) else str(found)


def _fits(value: Any, annotation: str) -> bool:
    """Whether a value read from JSON is of the annotated kind; annotations that JSON knows nothing of fit all."""
    names = [part.partition("[")[0].strip() for part in annotation.split("|")]
    return not all(name in _KINDS for name in names) or any(isinstance(value, _KINDS[name]) for name in names)


def check_keys(cls: Any, config: Collection[str], known: Collection[str], origin: str) -> None:
    """Raise :class:`~fourfold.errors.UnknownKeyError` if a folder states a key that a class does not know.

    Args:
        cls: The class, for the message.
        config: The keys that are stated.
        known: The keys that are known.
        origin: The file that states them.
    """
    for key in config:
        if key not in known:
            raise UnknownKeyError(f"{origin}: unknown key {key!r} for {cls.__name__}.{did_you_mean(key, known)}")
