"""What is said once a process: older names, and things that a caller should know but not a thousand times."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])

_said: set[str] = set()


def warn_once(log: logging.Logger, message: str) -> None:
    """Log a warning the first time this process meets its text."""
    if message not in _said:
        _said.add(message)
        log.warning(message)


def renamed_keywords(**names: str) -> Callable[[_Function], _Function]:
    """Return a decorator that lets a function take keyword arguments under older names too.

    An old name logs one warning a process, and its value takes the new name; if both are given, the new one wins.

    Args:
        **names: The new name of each old one.

    >>> @renamed_keywords(sentences="inputs")
    ... def encode(inputs):
    ...     return len(inputs)
    >>> encode(sentences=["a", "b"])
    2
    """

    def decorate(function: _Function) -> _Function:
        log = logging.getLogger(function.__module__)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old, new in names.items():
                if old in kwargs:
                    value = kwargs.pop(old)
                    if new not in kwargs:
                        warn_once(log, f"The argument {old}= has been renamed; use {new}= instead.")
                        kwargs[new] = value
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
