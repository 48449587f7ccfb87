"""The older arguments of ``CrossEncoder`` and of its methods."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from fourfold.notices import renamed_keywords, warn_once

logger = logging.getLogger(__name__)

_Function = TypeVar("_Function", bound=Callable[..., Any])

_POSITIONAL = ("num_labels", "max_length", "activation_fn", "device")


def older_init_arguments(init: _Function) -> _Function:
    """Let a constructor take its older keywords, and by position what came after the model's name."""
    renamed = renamed_keywords(
        model_name="model_name_or_path",
        automodel_args="model_kwargs",
        tokenizer_args="processor_kwargs",
        tokenizer_kwargs="processor_kwargs",
        config_args="config_kwargs",
        cache_dir="cache_folder",
        default_activation_function="activation_fn",
    )(init)

    @functools.wraps(init)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        for name, value in zip(_POSITIONAL, args[1:], strict=False):
            logger.warning("the argument %s= should be given by its name, not by position", name)
            kwargs.setdefault(name, value)
        if "classifier_dropout" in kwargs:
            logger.warning("the argument classifier_dropout= is deprecated; put it into config_kwargs")
            dropout = kwargs.pop("classifier_dropout")
            if dropout is not None:
                kwargs["config_kwargs"] = {**(kwargs.get("config_kwargs") or {}), "classifier_dropout": dropout}
        renamed(self, *args[:1], **kwargs)

    return call  # type: ignore[return-value]


def older_arguments(*ignored: str) -> Callable[[_Function], _Function]:
    """Return a decorator that lets a method take its older keywords.

    Args:
        *ignored: Keywords that mean nothing any more.
    """

    def decorate(method: _Function) -> _Function:
        renamed = renamed_keywords(activation_fct="activation_fn", sentences="inputs")(method)

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            for name in ("num_workers", *ignored):
                if name in kwargs:
                    warn_once(logger, f"The argument {name}= of {method.__name__} has no effect any more.")
                    kwargs.pop(name)
            return renamed(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


older_predict_arguments = older_arguments()
older_rank_arguments = older_arguments("apply_softmax", "convert_to_numpy", "convert_to_tensor")
