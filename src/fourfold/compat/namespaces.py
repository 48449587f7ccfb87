"""Modules made from the table: no file is behind them, and each name is imported when somebody asks for it."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import fourfold
from fourfold.compat import paths
from fourfold.errors import MissingNameError


class Keeper(ModuleType):
    """A module whose public names stay when a submodule of the same name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system stores each submodule in its parent, which would hide the class that shares its name.
        if not (isinstance(value, ModuleType) and name in self.__dict__.get("__all__", ())):
            super().__setattr__(name, value)


class Namespace(Keeper):
    """One path of the contract below one top name.

    Args:
        name: Full dotted name.
        path: The canonical path that it serves; ``""`` is the top.
    """

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name, f"The names of {paths.OLD}{path and '.' + path} that fourfold has, imported on use.")
        defined = paths.contract()[path].defined if path in paths.contract() else ()
        self.__dict__.update(_path=path, __all__=[name for name in defined if name in paths.names(path)])

    def __getattr__(self, name: str) -> Any:
        path = self.__dict__["_path"]
        if not name.startswith("__"):
            if name in paths.names(path):
                value = fourfold._fetch(paths.names(path)[name])
                self.__dict__[name] = value
                return value
            if paths.exists(f"{path}.{name}" if path else name):
                return importlib.import_module(f"{self.__name__}.{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *paths.names(self.__dict__["_path"])})


def _not_yet(what: str) -> str:
    from fourfold.store.manifest import CONTRACT_VERSION

    return (
        f"{what} is part of sentence-transformers {CONTRACT_VERSION} and not of fourfold {fourfold.__version__}; "
        "docs/import-paths.md lists what is there"
    )


class NamespaceFinder:
    """Finds and makes the namespaces below a top name.

    Args:
        top: ``fourfold``, or the older library's name.
        warns: Whether a deprecated path says so, once, at the line that imports it.
    """

    def __init__(self, top: str, *, warns: bool) -> None:
        self.top = top
        self.warns = warns

    def attributes(self) -> dict[str, Any]:
        """Return what the top module holds besides the table's names."""
        return {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a path that is there; say so if the older library has it and fourfold does not yet."""
        top, _, relative = fullname.partition(".")
        if top != self.top:
            return None
        if not relative or paths.canonical(relative) is not None:
            return ModuleSpec(fullname, self, is_package=True)  # type: ignore[arg-type]
        if paths.is_contract(relative):
            raise MissingNameError(_not_yet(fullname))
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return an empty namespace; it stays empty if the path is another name of a module."""
        return Namespace(spec.name, spec.name.partition(".")[2])

    def exec_module(self, module: ModuleType) -> None:
        """Put the canonical module in the place of a deprecated path."""
        name = module.__name__
        relative = name.partition(".")[2]
        if not relative:
            module.__dict__.update(self.attributes())
        new = paths.renamed().get(relative)
        if new is None:
            return
        if self.warns:
            message = f"{name} is deprecated and will go; import {self.top}.{new}"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
        parent = sys.modules[name.rpartition(".")[0]]
        if type(parent) is ModuleType:
            parent.__class__ = Keeper
        sys.modules[name] = importlib.import_module(f"{self.top}.{new}")


ours = NamespaceFinder("fourfold", warns=False)
