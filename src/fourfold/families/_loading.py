"""Build a model's modules from its folder."""

from __future__ import annotations

import importlib
import inspect
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fourfold.errors import FolderError, InputError, UnknownModuleError
from fourfold.modules import registry
from fourfold.store.layouts import is_library_type, part_name
from fourfold.store.manifest import ModuleEntry
from fourfold.store.source import Source


@dataclass(frozen=True)
class LoadOptions:
    """What a caller says about loading, besides where from.

    Attributes:
        trust_remote_code: Whether code outside this library may be imported and run.
        model_kwargs: For the model's ``from_pretrained``.
        processor_kwargs: For the tokenizer's ``from_pretrained``.
        config_kwargs: For the config's ``from_pretrained``.
        backend: What runs the transformer.
    """

    trust_remote_code: bool = False
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    processor_kwargs: dict[str, Any] = field(default_factory=dict)
    config_kwargs: dict[str, Any] = field(default_factory=dict)
    backend: str = "torch"

    def keywords(self, source: Source) -> dict[str, Any]:
        """Return everything that a module's ``load`` is offered."""
        return {
            "token": source.token,
            "cache_folder": source.cache_folder,
            "revision": source.revision,
            "local_files_only": source.offline,
            "trust_remote_code": self.trust_remote_code,
            "model_kwargs": self.model_kwargs,
            "processor_kwargs": self.processor_kwargs,
            "config_kwargs": self.config_kwargs,
            "backend": self.backend,
        }


def hub_arguments(
    model_name_or_path: str,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    local_files_only: bool = False,
    model_kwargs: dict[str, Any] | None = None,
    processor_kwargs: dict[str, Any] | None = None,
    config_kwargs: dict[str, Any] | None = None,
) -> tuple[Source, LoadOptions]:
    """Return the arguments of a loading hook as the two values that everything below takes."""
    source = Source(model_name_or_path, revision, token, cache_folder, local_files_only)
    model, processor, config = (dict(kwargs or {}) for kwargs in (model_kwargs, processor_kwargs, config_kwargs))
    return source, LoadOptions(bool(trust_remote_code), model, processor, config)


def load_modules(
    entries: list[ModuleEntry],
    source: Source,
    options: LoadOptions,
    *,
    class_of: Callable[[str], Any] | None = None,
    init_defaults: Callable[[str], dict[str, Any]] = lambda type_string: {},
) -> tuple[OrderedDict[str, nn.Module], dict[str, list[str]]]:
    """Return the modules by name, and the names of ``encode`` keywords that each takes besides its own.

    Args:
        entries: What ``modules.json`` lists.
        source: The model's folder.
        options: What the caller said.
        class_of: Gives the class of a type string; None is :func:`module_class`.
        init_defaults: Gives a type string's constructor arguments for keys that its folder does not state.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for entry in entries:
        cls = module_class(entry.type, source, options) if class_of is None else class_of(entry.type)
        modules[entry.name] = _load_one(cls, entry, source, options, init_defaults(entry.type))
    return modules, {entry.name: list(entry.kwargs) for entry in entries}


def module_class(type_string: str, source: Source, options: LoadOptions) -> Any:
    """Return the class that a type string names.

    Raises:
        FolderError: If it is no part of this library, or somebody else's class without ``trust_remote_code``.
    """
    if is_library_type(type_string):
        name = part_name(type_string)
        if name is None or name not in registry:
            known = ", ".join(registry.names())
            raise UnknownModuleError(
                f"{source.pretty('modules.json')}: unknown module type {type_string!r}; known parts: {known}"
            )
        return registry.get(name)
    if not options.trust_remote_code:
        raise FolderError(
            f"{source.pretty('modules.json')}: module type {type_string!r} is code outside this library. "
            "If you trust it, pass trust_remote_code=True."
        )
    return _remote_class(type_string, source, options)


def _remote_class(type_string: str, source: Source, options: LoadOptions) -> Any:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    home, _, name = type_string.rpartition(".")
    try:
        return get_class_from_dynamic_module(
            type_string,
            source.name,
            cache_dir=source.cache_folder,
            token=source.token,
            revision=source.revision,
            code_revision=options.model_kwargs.pop("code_revision", None),
            local_files_only=source.offline,
        )
    except (OSError, ValueError):
        # Not a file of the folder: then it is a package that the user has installed.
        return getattr(importlib.import_module(home), name)


def _load_one(
    cls: Any, entry: ModuleEntry, source: Source, options: LoadOptions, init_defaults: dict[str, Any]
) -> nn.Module:
    load = cls.load
    parameters = inspect.signature(load).parameters
    if len(parameters) == 1:
        # Modules written for the first interface take the path of their local folder and nothing else.
        folder = _local_folder(source, entry.path)
        return load(folder)
    keywords = options.keywords(source)
    if init_defaults:
        keywords["init_defaults"] = init_defaults
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        keywords = {key: value for key, value in keywords.items() if key in parameters}
    return load(source.name, subfolder=entry.path, **keywords)


def _local_folder(source: Source, path: str) -> str:
    if source.is_local:
        return f"{source.name}/{path}".rstrip("/")
    from huggingface_hub import snapshot_download

    root = snapshot_download(
        source.name,
        revision=source.revision,
        token=source.token,
        cache_dir=source.cache_folder,
        local_files_only=source.offline,
        allow_patterns=[f"{path}/**" if path else "*"],
    )
    return f"{root}/{path}".rstrip("/")


def as_modules(modules: Any) -> OrderedDict[str, nn.Module]:
    """Return modules given as a list or mapping under their names; a list is named by position."""
    named = (
        modules
        if isinstance(modules, OrderedDict)
        else OrderedDict((str(i), module) for i, module in enumerate(modules))
    )
    if not named:
        raise InputError("modules must hold at least one module, got an empty list")
    return named
