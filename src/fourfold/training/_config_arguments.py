"""Keys of a training's file that are arguments of a class: whether it takes them, and whether they can be such."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Union

from fourfold.errors import did_you_mean
from fourfold.training._config_file import Faults, below, shown

_YES_NO = {"yes": True, "on": True, "no": False, "off": False}

# What a file that leaves it out gets; the older library's defaults are made for scripts.
_FIFTIETH = 0.02


def parameters(function: Callable[..., Any], *, aside: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
    """Return what a function takes by keyword, without what the caller gives itself."""
    left_out = {"self", *aside}
    every = inspect.signature(function).parameters
    return {
        name: parameter
        for name, parameter in every.items()
        if name not in left_out and parameter.kind is not parameter.VAR_POSITIONAL
    }


def check_keys(
    given: Mapping[str, Any], taken: Mapping[str, inspect.Parameter], at: str, faults: Faults, *, own: Iterable[str]
) -> None:
    """Note keys that a function does not take; one that takes any keyword takes all.

    Args:
        given: The keys and their values.
        taken: The function's parameters.
        at: Path of the mapping.
        faults: Takes what is wrong.
        own: Keys that mean something else.
    """
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return
    faults.unknown(at, given, [*own, *taken])


def check_missing(given: Iterable[str], taken: Mapping[str, inspect.Parameter], at: str, faults: Faults) -> None:
    """Note parameters that have no default and are not given."""
    there = set(given)
    for name, parameter in taken.items():
        needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if needed and name not in there:
            faults.add(below(at, name), "is missing")


def training_arguments(given: Any, cls: Any, at: str, faults: Faults) -> dict[str, Any]:
    """Return the arguments of a training, whose names and kinds are checked.

    Args:
        given: The mapping of the file.
        cls: The family's class of arguments.
        at: Path of the mapping.
        faults: Takes what is wrong.
    """
    values = faults.mapping(at, given, "a mapping of training arguments")
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    faults.unknown(at, values, names)
    hints = typing.get_type_hints(cls)
    found = {}
    for name, value in values.items():
        if name in names:
            found[name] = _checked(value, hints[name], below(at, name), faults)
    if not found.get("output_dir"):
        faults.add(below(at, "output_dir"), "is missing: the folder of checkpoints and of the trained model")
    return found


def with_defaults(given: Mapping[str, Any], *, evaluates: bool) -> dict[str, Any]:
    """Return arguments with what a training from a file does unless told otherwise.

    Args:
        given: The arguments of the file.
        evaluates: Whether there is something to evaluate.
    """
    # Left out, transformers shows a bar or not by the level of its log.
    found = {"report_to": "none", "disable_tqdm": False, **given}
    if not {"logging_steps", "logging_strategy"} & set(found):
        found["logging_steps"] = _FIFTIETH
    if evaluates and "eval_strategy" not in found:
        found["eval_strategy"] = "steps" if "eval_steps" in found else "epoch"
    if found.get("load_best_model_at_end") and "save_strategy" not in found:
        found["save_strategy"] = found.get("eval_strategy", "no")
        if "eval_steps" in found:
            found.setdefault("save_steps", found["eval_steps"])
    return found


def _checked(value: Any, hint: Any, at: str, faults: Faults) -> Any:
    """Return a value as its argument takes it; one of another kind is noted."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    if bool in parts and str not in parts and isinstance(value, str) and value.lower() in _YES_NO:
        return _YES_NO[value.lower()]
    for part in parts:
        if isinstance(part, type) and issubclass(part, Enum) and isinstance(value, str):
            known = [str(member.value) for member in part]
            if value not in known:
                hint_of = did_you_mean(value, known)
                faults.add(at, f"must be one of {', '.join(known)}; got {value!r}.{hint_of}")
            return value
    if not any(_fits(value, part) for part in parts):
        wanted = " or ".join(dict.fromkeys(_WORDS[_plain(part)] for part in parts if _plain(part) in _WORDS))
        faults.add(at, f"must be {wanted or 'of another kind'}, got {shown(value)}")
    return value


_WORDS: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text", dict: "a mapping", list: "a list",
    type(None): "null",
}  # fmt: skip


def _plain(part: Any) -> Any:
    return typing.get_origin(part) or part


def _fits(value: Any, part: Any) -> bool:
    kind = _plain(part)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is typing.Literal:
        return value in typing.get_args(part)
    if kind in _WORDS:
        return isinstance(value, kind)
    return False
