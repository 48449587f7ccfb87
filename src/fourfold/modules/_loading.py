"""Find the class that a folder names for a part, load the part and save it: for models, and for parts that hold parts.

Code outside this library runs only with ``trust_remote_code=True``, whether it lies in a folder of this machine, in a
repository of the hub or in an installed package.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fourfold.errors import FolderError, UnknownKeyError, UnknownModuleError, did_you_mean
from fourfold.modules import registry
from fourfold.store.layouts import family_of, is_library_type, is_remote, part_name
from fourfold.store.source import Source

# Constructor arguments of the first interface, under the names that followed.
_OLD_NAMES = {"model_kwargs": "model_args", "processor_kwargs": "tokenizer_args", "config_kwargs": "config_args"}


def part_class(
    type_string: str,
    source: Source,
    origin: str,
    *,
    trust_remote_code: bool = False,
    code_revision: str | None = None,
    classes: Mapping[str, Any] | None = None,
    path: str = "",
) -> Any:
    """Return the class that a type string names.

    Args:
        type_string: What the folder states.
        source: The model's folder.
        origin: The file that states it, for errors.
        trust_remote_code: Whether code outside this library may be imported and run.
        code_revision: Branch, tag or commit of the code's repository, if it is another than the model's.
        classes: Classes by type string that the caller gives; asked first.
        path: The part's folder inside the model's, where code is looked for after the model's own.

    Raises:
        UnknownModuleError: If it is no part of this library, or code that is nowhere.
        FolderError: If it is code outside this library without ``trust_remote_code``.
    """
    if classes and type_string in classes:
        return classes[type_string]
    if not is_library_type(type_string):
        return foreign_class(
            type_string, source, origin, trust_remote_code=trust_remote_code, code_revision=code_revision, path=path
        )
    name = part_name(type_string)
    if name is not None and name in registry:
        return registry.get(name)
    if name is not None and (family := family_of(name)) != "dense":
        raise UnknownModuleError(f"{origin}: {name}, a part of {family} models, is not supported yet ({type_string!r})")
    known = registry.names()
    hint = did_you_mean(type_string.rpartition(".")[2], [registry.get(stem).__name__ for stem in known])
    raise UnknownModuleError(f"{origin}: unknown module type {type_string!r}; known parts: {', '.join(known)}.{hint}")


def foreign_class(
    type_string: str,
    source: Source,
    origin: str,
    *,
    trust_remote_code: bool,
    code_revision: str | None = None,
    path: str = "",
) -> Any:
    """Return a class outside this library; the arguments are those of :func:`part_class`."""
    if not trust_remote_code:
        raise FolderError(
            f"{origin}: module type {type_string!r} is code outside this library. "
            "If you trust it, pass trust_remote_code=True."
        )
    try:
        return _from_file(type_string, source.name, source, code_revision)
    except (OSError, ValueError):
        pass
    # Models saved elsewhere may hold the file only beside the part's own files.
    beside = source.at(path).folder() if path else None
    if beside is not None and (beside / f"{type_string.rpartition('.')[0]}.py").is_file():
        return _from_file(type_string, str(beside), source, None)
    # Not a file of the folder: then it is a package that the user has installed.
    home, _, name = type_string.rpartition(".")
    try:
        return getattr(importlib.import_module(home), name)
    except (ModuleNotFoundError, AttributeError, ValueError, TypeError) as error:
        raise UnknownModuleError(
            f"{origin}: module type {type_string!r} is neither in a file of {source.pretty()} nor in an installed "
            f"package: {error}"
        ) from error


def _from_file(type_string: str, place: str, source: Source, code_revision: str | None) -> Any:
    from transformers import dynamic_module_utils

    try:
        return dynamic_module_utils.get_class_from_dynamic_module(
            type_string,
            place,
            cache_dir=source.cache_folder,
            token=source.token,
            revision=source.revision,
            code_revision=code_revision,
            local_files_only=source.offline,
        )
    except AttributeError as error:
        name = type_string.rpartition(".")[2]
        if error.name != name:
            raise  # the code's own mistake
        raise UnknownModuleError(
            f"{source.pretty()}: the file of module type {type_string!r} defines no {name}"
        ) from None


def load_part(cls: Any, source: Source, path: str, keywords: Mapping[str, Any]) -> Any:
    """Load one part of a model by the interface that its class has.

    Args:
        cls: The part's class.
        source: The model's folder.
        path: The part's folder inside it.
        keywords: Everything that a part's ``load`` is offered.
    """
    if not hasattr(cls, "load"):
        raise FolderError(f"{source.pretty(path)}: {cls.__name__} has no method load and cannot be read from a folder")
    parameters = inspect.signature(cls.load).parameters
    if len(parameters) == 1:
        return _load_by_path(cls, source, path, keywords)
    given = {key: value for key, value in keywords.items() if key != "module_classes" or key in parameters}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        given = {key: value for key, value in given.items() if key in parameters}
    if cls.__module__.startswith("fourfold."):
        return cls.load(source.name, subfolder=path, **given)
    try:
        return cls.load(source.name, subfolder=path, **given)
    except TypeError as error:
        try:
            return cls.load(_local_folder(source, path))
        except TypeError:
            raise error from None


def _load_by_path(cls: Any, source: Source, path: str, keywords: Mapping[str, Any]) -> Any:
    """Load a class of the first interface, which takes the path of its local folder and nothing else.

    One that is built like a Transformer is given what a Transformer is given, so that the caller's arguments reach it.
    """
    accepted = inspect.signature(cls.__init__).parameters
    if not accepted.keys() & set(_OLD_NAMES.values()) and not {"model_kwargs", "config_kwargs"} <= accepted.keys():
        return cls.load(_local_folder(source, path))
    from fourfold.modules.transformer import Transformer

    given = tuple(keywords.get(name) for name in _OLD_NAMES)
    arguments = Transformer.loading_keywords(
        source.at(path), keywords.get("init_defaults"), given, trust_remote_code=keywords["trust_remote_code"]
    )
    arguments["backend"] = keywords["backend"]
    for name, old in _OLD_NAMES.items():
        if name not in accepted and old in accepted:
            arguments[old] = arguments.pop(name)
    unknown = {"modality_config", "module_output_name"} - accepted.keys()
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()) and arguments["backend"] == "torch":
        unknown |= {"backend"} - accepted.keys()  # a class that knows no backends runs on torch
    arguments = {name: value for name, value in arguments.items() if name not in unknown}
    try:
        return cls(**arguments)
    except TypeError as error:
        raise UnknownKeyError(
            f"{source.at(path).pretty(Transformer.config_file_name)}: {cls.__name__}: {error}"
        ) from error


def _local_folder(source: Source, path: str) -> str:
    folder = source.at(path).folder()
    # A part without settings has no folder where empty ones are not kept; its class may well not look.
    return str(folder if folder is not None else Path(source.name, path))


def save_part(module: Any, folder: Path, *, safe_serialization: bool) -> None:
    """Write a part's files into its folder; older classes' ``save`` takes the path alone."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        module.save(str(folder), safe_serialization=safe_serialization)
    except TypeError as error:
        if "safe_serialization" not in str(error):
            raise
        module.save(str(folder))


def save_code(module: nn.Module, *folders: Path) -> None:
    """Copy the file that defines a part's class, and what it imports beside it, if it is code of a model folder."""
    if is_remote(type(module)):
        from transformers.dynamic_module_utils import custom_object_save

        for folder in dict.fromkeys(folders):
            custom_object_save(module, folder)
