"""Merge models of one structure into one: by the arithmetic of mergekit, on their weights."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fourfold.errors import InputError, require
from fourfold.modules._base import Module

if TYPE_CHECKING:
    from typing_extensions import Self

_DTYPES = ("float16", "bfloat16", "float32", "float64")
# What two configs may differ in: where they were saved, and as what.
_INCIDENTAL = {"architectures", "transformers_version", "dtype", "torch_dtype"}
# For how many steps of a training each unit of a sparse auto-encoder has been silent.
_COUNTER = "stats_last_nonzero"
# What a module finds out by itself when it first runs; None is not a different answer.
_FOUND_OUT = {"embedding_dimension"}


class Merging(nn.Module):
    """The part of a model class that makes one model of several."""

    @classmethod
    def merge(
        cls,
        models: Sequence[str | Path | Self],
        method: str = "linear",
        *,
        base_model: str | Path | Self | None = None,
        parameters: Mapping[str, Any] | None = None,
        dtype: str | torch.dtype | None = torch.float32,
        out_dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        batch_options: Any = None,
        **load_kwargs: Any,
    ) -> Self:
        """Return a new model whose weights are merged from those of others; they stay as they are.

        Settings, prompts and processor are the first model's.

        Args:
            models: At least two models of this class, folders or hub names.
            method: A method of mergekit, such as ``linear``, ``slerp``, ``task_arithmetic``, ``ties``, ``dare_ties`` or
                ``model_stock``.
            base_model: The model that the others are compared with, for methods that have one: one of ``models``, or
                another. ``slerp`` takes the first model by default.
            parameters: The method's parameters. One that belongs to each model is a list in their order, or one value
                for all. ``weight`` is 1.0 by default, and the ``t`` of ``slerp`` 0.5.
            dtype: Data type to compute in: float16, bfloat16, float32 or float64, or its name. None takes the widest of
                each weight.
            out_dtype: Data type of the result; None keeps the one computed in.
            device: Where to compute; the new model stays there.
            batch_options: mergekit's ``BatchOptions``, which bound the memory of a step.
            **load_kwargs: Constructor arguments for models given by name.

        Raises:
            MissingExtraError: If mergekit is not installed.
            InputError: If the models or the method do not fit together.
            TypeError: If an item is neither a model of this class nor a name.
        """
        require("mergekit", "merge", f"{cls.__name__}.merge")
        from mergekit.merge_methods import get
        from mergekit.merge_methods.api import merge_state_dicts

        if isinstance(models, (str, Path)) or len(models) < 2:
            raise InputError("merge needs at least two models")
        kinds = {"dtype": _dtype(dtype, "dtype"), "out_dtype": _dtype(out_dtype, "out_dtype")}
        items = list(models)
        chosen = get(method)
        if base_model is None and method == "slerp":
            base_model = items[0]
        base = _place_of(base_model, items)
        if base is not None and chosen.spec.contract.base.value in ("ignored", "forbidden"):
            raise InputError(f"the merge method {method!r} has no base model; leave base_model away")
        if base == len(items):
            items.append(base_model)  # type: ignore[arg-type]
        loaded = [_model_of(cls, item, load_kwargs) for item in items]
        check_alike(loaded)
        states = [{name: tensor.to(device) for name, tensor in model.state_dict().items()} for model in loaded]
        _share_counters(states)
        with torch.no_grad():
            merged = merge_state_dicts(
                states, chosen, parameters=_with_defaults(chosen, parameters), base=base, batch_options=batch_options,
                **kinds,
            )  # fmt: skip
        return _with_weights(loaded[0], merged, device)


def _dtype(value: str | torch.dtype | None, name: str) -> torch.dtype | None:
    if value is None:
        return None
    kind = getattr(torch, value, None) if isinstance(value, str) else value
    if kind not in [getattr(torch, known) for known in _DTYPES]:
        raise InputError(f"{name} must be None or one of {', '.join(_DTYPES)}, got {value!r}")
    return kind


def _place_of(base: Any, items: Sequence[Any]) -> int | None:
    """Return the position of the base among the models, that after their last if it is another one."""
    if base is None:
        return None
    named = isinstance(base, (str, Path))
    return next(
        (
            i for i, item in enumerate(items)
            if item is base or (named and isinstance(item, (str, Path)) and str(item) == str(base))
        ),
        len(items),
    )  # fmt: skip


def _model_of(cls: type, item: Any, load_kwargs: dict[str, Any]) -> Any:
    if isinstance(item, (str, Path)):
        return cls(str(item), **{"device": "cpu", **load_kwargs})
    if not isinstance(item, cls):
        raise TypeError(f"merge takes models of {cls.__name__}, or their folders or names; got {type(item).__name__}")
    return item


def _with_defaults(method: Any, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    given = dict(parameters or {})
    known = {parameter.name for parameter in method.spec.parameters}
    if "weight" in known:
        given.setdefault("weight", 1.0)
    if method.spec.name == "slerp":
        given.setdefault("t", 0.5)
    return given


def _share_counters(states: Sequence[dict[str, Tensor]]) -> None:
    """Give all models the same counters, which are no weights: a unit is as alive as in the liveliest of them."""
    for name in [name for name in states[0] if name.rpartition(".")[2] == _COUNTER]:
        least = torch.stack([state[name] for state in states]).amin(0)
        for state in states:
            state[name] = least


def _with_weights(first: Any, weights: Mapping[str, Tensor], device: str | torch.device) -> Any:
    """Return a copy of a model with other weights, in evaluation mode and with a card of its own."""
    model = copy.deepcopy(first)
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if name in weights:
            value = weights[name]
            if value.untyped_storage().nbytes() > value.nbytes:  # a piece of a buffer, which could not be saved alone
                value = value.clone()
            tensor.data = value  # the tensor stays the same object, so what is tied stays tied
    model._model_card_text = None
    model.model_card_data = model.model_card_data_class()
    model.model_card_data.register_model(model)
    return model.to(device).eval()


# -- what must be alike ------------------------------------------------------------------------------------------------


def check_alike(models: Sequence[Any]) -> None:
    """Raise :class:`~fourfold.errors.InputError` unless the models differ in nothing but their weights and prompts."""
    for number, model in enumerate(models):
        _check_plain(model, number)
    first = models[0]
    for number, other in enumerate(models[1:], start=1):
        _check_structure(first, other, number)
        if first.state_dict().keys() != other.state_dict().keys():
            raise InputError(f"model {number} has other weights than model 0")
        if _tied(first) != _tied(other):
            raise InputError(f"model {number} ties other weights together than model 0")


def _check_plain(model: Any, number: int) -> None:
    if model.get_backend() != "torch":
        raise InputError(
            f"only models on the torch backend can be merged; model {number} runs on {model.get_backend()}"
        )
    for module in model.modules():
        if getattr(module, "_hf_peft_config_loaded", False) or hasattr(module, "peft_config"):
            raise InputError(
                f"model {number} has PEFT adapters; merge them into its weights first, with PEFT's merge_and_unload"
            )
        foreign = type(module).__module__.startswith(("torch.ao.", "bitsandbytes"))
        if foreign or getattr(module, "is_quantized", False) or getattr(module, "hf_quantizer", None) is not None:
            raise InputError(f"model {number} is quantized, and quantized weights cannot be merged")


def _check_structure(first: Any, other: Any, number: int) -> None:
    ours, theirs = dict(first.named_modules()), dict(other.named_modules())
    if [(name, type(module)) for name, module in ours.items()] != [(n, type(m)) for n, m in theirs.items()]:
        raise InputError(f"model {number} is built from other modules than model 0")
    for name, module in itertools.islice(ours.items(), 1, None):  # the first is the model itself
        twin: Any = theirs[name]
        settings = _settings(module)
        different = sorted(key for key, value in _settings(twin).items() if _differ(key, settings.get(key), value))
        if different or settings.keys() != _settings(twin).keys() or module.extra_repr() != twin.extra_repr():
            raise InputError(f"module {name!r} of model {number} has other settings than that of model 0: {different}")
        if _vocabulary(module) != _vocabulary(twin):
            raise InputError(
                f"the tokenizer of module {name!r} of model {number} has another vocabulary than model 0's"
            )


def _differ(key: str, one: Any, other: Any) -> bool:
    return one != other and not (key in _FOUND_OUT and None in (one, other))


def _settings(module: nn.Module) -> dict[str, Any]:
    if isinstance(module, Module):
        return module.get_config_dict()
    config: Any = getattr(module, "config", None)
    known = config.to_dict() if hasattr(config, "to_dict") else {}
    return {key: value for key, value in known.items() if key not in _INCIDENTAL and not key.startswith("_")}


def _vocabulary(module: nn.Module) -> Any:
    tokenizer: Any = getattr(module, "tokenizer", None)
    if not hasattr(tokenizer, "get_vocab"):
        return None
    return tokenizer.get_vocab(), getattr(tokenizer, "special_tokens_map", None)


def _tied(model: nn.Module) -> list[list[str]]:
    """Return the groups of names that share their memory."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in model.state_dict().items():
        groups.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), []).append(name)
    return sorted(group for group in groups.values() if len(group) > 1)
