"""The loss of a training's file: its class, the losses inside it, and settings that are no text in code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fourfold.errors import InputError, did_you_mean
from fourfold.registry import Registry
from fourfold.training._config_arguments import check_keys, check_missing, parameters
from fourfold.training._config_file import Faults, below, shown

PACKAGES = {"dense": "fourfold.losses", "sparse": "fourfold.losses.sparse", "cross": "fourfold.losses.cross"}

# Arguments that are losses themselves.
_NESTED = ("loss", "document_regularizer", "query_regularizer")
# An argument that is the width of the model's vectors, which the model knows.
_WIDTH = "embedding_dimension"


@dataclass(frozen=True)
class LossSpec:
    """A loss that is yet to be built.

    Attributes:
        at: Path of the key that says it.
        cls: Its class.
        options: Arguments, besides the model and the losses inside.
        inner: The losses inside, by argument.
        guide: Name of the model that guides it, or None.
    """

    at: str
    cls: Any
    options: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, LossSpec] = field(default_factory=dict)
    guide: str | None = None

    def build(self, model: Any) -> Any:
        """Return the loss of a model."""
        options = {**self.options, **{name: loss.build(model) for name, loss in self.inner.items()}}
        if _WIDTH in parameters(self.cls.__init__) and _WIDTH not in options:
            options[_WIDTH] = model.get_embedding_dimension()
        if self.guide is not None:
            from fourfold.families.dense import SentenceTransformer

            options["guide"] = SentenceTransformer(self.guide, device=str(model.device))
        return self.cls(model, **options)


Losses = LossSpec | dict[str, LossSpec] | None


def parse(given: Any, family: str, at: str, faults: Faults) -> Losses:
    """Return the loss that a file names, or one a dataset; what is wrong with it is noted.

    Args:
        given: A name, a mapping with ``name`` and arguments, or a mapping with ``by_dataset``; None is none.
        family: The family of the model.
        at: Path of the key.
        faults: Takes what is wrong.
    """
    if given is None:
        return None
    if isinstance(given, Mapping) and "by_dataset" in given:
        faults.unknown(at, given, ["by_dataset"])
        named = faults.mapping(below(at, "by_dataset"), given["by_dataset"], "a mapping of dataset: loss")
        each = {name: _one(part, family, f"{at}.by_dataset.{name}", faults) for name, part in named.items()}
        return {name: loss for name, loss in each.items() if loss is not None}
    return _one(given, family, at, faults)


def find(package: str, name: str) -> Any:
    """Return the class of a part by its name.

    Raises:
        InputError: If there is none; the message tells the nearest.
    """
    registry: Registry = importlib.import_module(package).registry
    if name in registry.beside:
        return registry.attribute(name)
    if name in registry:
        return registry.get(name)
    known = {stem.replace("_", ""): stem for stem in registry.names()}
    hint = did_you_mean(name.replace("_", "").lower(), known)
    if hint:
        near = registry.get(known[hint.split("'")[1]]).__name__
        raise InputError(f"there is no {registry.kind} {name!r}. Did you mean {near!r}?")
    raise InputError(f"there is no {registry.kind} {name!r}; there are {', '.join(registry.names())}")


def _one(given: Any, family: str, at: str, faults: Faults) -> LossSpec | None:
    if isinstance(given, str):
        given = {"name": given}
    values = faults.mapping(at, given, "the name of a loss, or a mapping with name")
    name = values.pop("name", None)
    if not isinstance(name, str):
        if isinstance(given, Mapping):
            faults.add(below(at, "name"), "is missing: the name of a loss" if name is None else f"got {shown(name)}")
        return None
    with faults.during(at):
        cls = find(PACKAGES[family], name)
        return _arguments(cls, values, family, at, faults)
    return None


def _arguments(cls: Any, values: dict[str, Any], family: str, at: str, faults: Faults) -> LossSpec:
    taken = parameters(cls.__init__, aside=["model"])
    check_keys(values, taken, at, faults, own=["name"])
    check_missing([*values, _WIDTH], taken, at, faults)
    options: dict[str, Any] = {}
    inner: dict[str, LossSpec] = {}
    guide = None
    for key, value in values.items():
        if key in _NESTED and value is not None:
            if (loss := _one(value, family, below(at, key), faults)) is not None:
                inner[key] = loss
        elif key == "guide":
            guide = str(value)
        elif key in taken or any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            with faults.during(below(at, key)):
                options[key] = _value(cls, key, value, taken.get(key))
    return LossSpec(at, cls, options, inner, guide)


def _value(cls: Any, key: str, value: Any, parameter: Any) -> Any:
    """Return the value of an argument: functions, modules and tensors from what can be written of them."""
    kind = "" if parameter is None else str(parameter.annotation)
    if key == "similarity_fct":
        return _similarity(value, pairwise=parameter.default.__name__.startswith("pairwise"))
    if key == "distance_metric" and callable(parameter.default):
        return _distance(cls, value, parameter.default)
    if "nn.Module" in kind and isinstance(value, str):
        return torch_module(value)
    if "Tensor" in kind and isinstance(value, (int, float, list)):
        import torch

        return torch.tensor(value, dtype=torch.float32)
    return value


def torch_module(name: str) -> Any:
    """Return a module of ``torch.nn`` by its name; raises :class:`~fourfold.errors.InputError` if there is none."""
    from torch import nn

    found = getattr(nn, name.removeprefix("torch.nn.").removeprefix("nn."), None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        known = [key for key, value in vars(nn).items() if isinstance(value, type) and issubclass(value, nn.Module)]
        raise InputError(f"must be a module of torch.nn, got {name!r}.{did_you_mean(name, known)}")
    return found()


def _similarity(value: Any, *, pairwise: bool) -> Callable[..., Any]:
    from fourfold.ops import similarity

    if isinstance(value, str) and value.endswith(("_sim", "_score")) and hasattr(similarity, value):
        if value.startswith("pairwise_") != pairwise:
            raise InputError(f"must compare {'row by row' if pairwise else 'all with all'}; {value} does not")
        return getattr(similarity, value)
    known = similarity.SimilarityFunction.possible_values()
    if value not in known:
        raise InputError(f"must be one of {', '.join(known)}; got {shown(value)}.{did_you_mean(value, known)}")
    kind = similarity.SimilarityFunction
    return (kind.to_similarity_pairwise_fn if pairwise else kind.to_similarity_fn)(value)


def _distance(cls: Any, value: Any, default: Callable[..., Any]) -> Callable[..., Any]:
    """Return the member, by its name, of the group of distances that the default belongs to."""
    for module in (sys.modules[kind.__module__] for kind in cls.__mro__):
        for group in vars(module).values():
            if isinstance(group, type) and default in _members(group).values():
                members = _members(group)
                by_name = {name.lower(): member for name, member in members.items()}
                if str(value).lower() not in by_name:
                    hint = did_you_mean(str(value).lower(), by_name)
                    raise InputError(f"must be one of {', '.join(members)}; got {shown(value)}.{hint}")
                return by_name[str(value).lower()]
    raise InputError("can only be given in Python")


def _members(group: type) -> dict[str, Any]:
    return {name: getattr(group, name) for name in vars(group) if not name.startswith("_")}
