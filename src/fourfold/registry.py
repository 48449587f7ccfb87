"""Find parts by the name of their file.

A part is the one public class of a file in a package such as :mod:`fourfold.modules`; its name is the file's stem
(``static_embedding``) or its class (``StaticEmbedding``). Adding a part is adding a file: nothing is listed by hand,
and asking for one part imports only that part.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cached_property
from types import ModuleType
from typing import Any

from fourfold.errors import InputError, did_you_mean


class Package(ModuleType):
    """A package of parts whose classes stay when a path of the older library is imported that ends like one of them."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system stores each submodule in its parent; ours have names in lower case.
        if not (isinstance(value, ModuleType) and name[:1].isupper()):
            super().__setattr__(name, value)


def _key(name: str) -> str:
    return name.replace("_", "").lower()


class Registry:
    """The parts of one package.

    Args:
        package: Dotted name of the package whose files are the parts. Files whose stem starts with ``_`` are
            helpers; packages inside it hold parts of their own kind.
        kind: What a part is called in error messages, e.g. ``"module"``.
        beside: Other names that the package serves, and the stem of the file that defines each.

    >>> Registry("fourfold.modules", "module").stem("StaticEmbedding")
    'static_embedding'
    """

    def __init__(self, package: str, kind: str, beside: Mapping[str, str] | None = None) -> None:
        self.package = package
        self.kind = kind
        self.beside = beside or {}

    @cached_property
    def _stems(self) -> dict[str, str]:
        path = importlib.import_module(self.package).__path__
        found = pkgutil.iter_modules(path)
        return {_key(m.name): m.name for m in found if not (m.ispkg or m.name.startswith("_"))}

    def names(self) -> list[str]:
        """Return the stems of all parts, sorted."""
        return sorted(self._stems.values())

    def stem(self, name: str) -> str:
        """Return the file stem for a stem or class name; raises :class:`~fourfold.errors.InputError` if unknown."""
        try:
            return self._stems[_key(name)]
        except KeyError:
            known = self.names()
            hint = did_you_mean(name, known)
            raise InputError(f"unknown {self.kind} {name!r}; known: {', '.join(known)}.{hint}") from None

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._stems

    def attribute(self, name: str) -> Any:
        """Return what the package serves under a name, for its ``__getattr__``; only exact names are answered.

        Raises:
            AttributeError: If there is nothing of that name.
        """
        if name in self.beside:
            return getattr(importlib.import_module(f"{self.package}.{self.beside[name]}"), name)
        if name[:1].isupper() and name in self and (part := self.get(name)).__name__ == name:
            return part
        raise AttributeError(f"module {self.package!r} has no attribute {name!r}")

    def get(self, name: str) -> Any:
        """Import and return the class of the part called ``name``."""
        stem = self.stem(name)
        module = importlib.import_module(f"{self.package}.{stem}")
        for attribute, value in vars(module).items():
            defined_here = isinstance(value, type) and value.__module__ == module.__name__
            if defined_here and _key(attribute) == _key(stem):
                return value
        raise InputError(f"{module.__name__} defines no class named after its file. This is a bug.")
