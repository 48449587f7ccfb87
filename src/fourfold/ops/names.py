"""Names of classes and similarity functions, as model cards and saved settings show them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def fullname(obj: Any) -> str:
    """Return ``module.Class`` of an object, or of a class; the module is left out for built-in ones.

    >>> fullname(1), fullname(functools.partial)
    ('int', 'functools.partial')
    """
    cls = obj if isinstance(obj, type) else type(obj)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def similarity_fct_name(similarity_fct: Callable[..., Any]) -> str:
    """Return a readable name for a similarity function.

    A partial shows its arguments, an object its settings, and ``model.similarity`` the function that it stands for.

    >>> similarity_fct_name(functools.partial(max, key=len))
    'max(key=<built-in function len>)'
    """
    if isinstance(similarity_fct, functools.partial):
        settings = ", ".join(f"{key}={value!r}" for key, value in similarity_fct.keywords.items())
        return f"{similarity_fct_name(similarity_fct.func)}({settings})"
    owner: Any = getattr(similarity_fct, "__self__", None)
    name = getattr(similarity_fct, "__name__", None)
    if name in ("similarity", "similarity_pairwise") and hasattr(owner, "similarity_fn_name"):
        from fourfold.ops.similarity import SimilarityFunction

        pairwise = name.endswith("pairwise")
        find = SimilarityFunction.to_similarity_pairwise_fn if pairwise else SimilarityFunction.to_similarity_fn
        return find(owner.similarity_fn_name).__name__
    if name is not None:
        return name
    config: dict[str, Any] = getattr(similarity_fct, "get_config_dict", dict)()
    shown = ", ".join(f"{key}={value!r}" for key, value in config.items())
    return f"{type(similarity_fct).__name__}({shown})" if config else type(similarity_fct).__name__
