"""Decorators that let functions take their older arguments, for code that subclasses the older library's classes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from fourfold.notices import renamed_keywords

logger = logging.getLogger(__name__)


def save_to_hub_args_decorator(func: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method ``save_to_hub(self, repo_id, organization, token, ...)`` take its older arguments.

    ``repo_name=`` is an older name of ``repo_id=``. Where more than two arguments are given by position, the caller
    knows no ``token``, which stands third today.
    """
    renamed = renamed_keywords(repo_name="repo_id")(func)

    @functools.wraps(func)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) >= 2:
            args = (*args[:2], None, *args[2:])
        return renamed(self, *args, **kwargs)

    return call
