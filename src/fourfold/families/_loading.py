"""Build a model's modules from its folder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fourfold.errors import InputError
from fourfold.modules._loading import load_part, part_class
from fourfold.store.layouts import is_library_type
from fourfold.store.manifest import MODULES_FILE, ModuleEntry
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
        classes: Classes by type string, asked before the library's own and before any import.
    """

    trust_remote_code: bool = False
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    processor_kwargs: dict[str, Any] = field(default_factory=dict)
    config_kwargs: dict[str, Any] = field(default_factory=dict)
    backend: str = "torch"
    classes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code_revision(self) -> str | None:
        """Branch, tag or commit of the modules' code, if it is another than the model's."""
        return self.model_kwargs.get("code_revision")

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
            "module_classes": self.classes,
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
    # Every class is looked up before any weights are read, so that a wrong one is told at once.
    classes = [
        module_class(entry.type, source, options, entry.path) if class_of is None else class_of(entry.type)
        for entry in entries
    ]
    keywords = options.keywords(source)
    if not all(is_library_type(entry.type) for entry in entries):
        # The revision was the modules' own; transformers would take it for that of a backbone's code.
        keywords["model_kwargs"] = {k: v for k, v in options.model_kwargs.items() if k != "code_revision"}
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for entry, cls in zip(entries, classes, strict=True):
        defaults = init_defaults(entry.type)
        offered = {**keywords, "init_defaults": defaults} if defaults else keywords
        modules[entry.name] = load_part(cls, source, entry.path, offered)
    return modules, {entry.name: list(entry.kwargs) for entry in entries}


def module_class(type_string: str, source: Source, options: LoadOptions, path: str = "") -> Any:
    """Return the class that a type string of ``modules.json`` names; see :func:`~fourfold.modules._loading.part_class`.

    Raises:
        FolderError: If it is no part of this library, or somebody else's class without ``trust_remote_code``.
    """
    return part_class(
        type_string,
        source,
        source.pretty(MODULES_FILE),
        trust_remote_code=options.trust_remote_code,
        code_revision=options.code_revision,
        classes=options.classes,
        path=path,
    )


def as_modules(modules: Any) -> OrderedDict[str, nn.Module]:
    """Return modules given as a list or mapping under their names; a list is named by position."""
    items = modules.items() if isinstance(modules, Mapping) else ((str(i), module) for i, module in enumerate(modules))
    named = OrderedDict(items)
    if not named:
        raise InputError("modules must hold at least one module, got an empty list")
    return named
