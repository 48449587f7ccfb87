"""What a router's folder states, read and checked."""

from __future__ import annotations

import ast
import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourfold.errors import FolderError, InputError, MissingKeyError
from fourfold.modules._router_tasks import Key, mapping_key, route_of
from fourfold.store.source import Source, check_relative
from fourfold.text.modality import Modality

logger = logging.getLogger(__name__)

CONFIG_FILE = "router_config.json"
_LEGACY_FILE = "config.json"
PARTS = ("types", "structure", "parameters")

_open: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("open", default=())


@contextlib.contextmanager
def opened(source: Source, file: str) -> Iterator[None]:
    """Read the parts of a router's folder inside the block.

    Raises:
        FolderError: If the folder is being read already: it names itself as one of its parts, by an id such as ``""``
            or through a link.
    """
    place = str(Path(source.name, source.subfolder).resolve()) if source.is_local else source.pretty()
    if (place, file) in _open.get():
        raise FolderError(f"{source.pretty(file)}: this router is a part of itself; give each id a folder of its own")
    token = _open.set((*_open.get(), (place, file)))
    try:
        yield
    finally:
        _open.reset(token)


def read_config(source: Source, file: str) -> dict[str, Any]:
    """Return what a router's folder states; older folders do so in ``config.json``."""
    return source.object(file) or source.object(_LEGACY_FILE)


def stated(source: Source, file: str = CONFIG_FILE) -> tuple[dict[str, str], dict[str, list[str]], dict[str, Any]]:
    """Return the type of each module of a router's folder by its id, the ids of each route, and the parameters.

    Raises:
        FolderError: If what the folder states is broken.
    """
    origin = source.pretty(file)
    config = read_config(source, file)
    types, structure, parameters = (part_of(config, key, origin) for key in PARTS)
    return {name: types[name] for name in module_ids(structure, types, origin)}, structure, parameters


@dataclass(frozen=True)
class Layout:
    """What a router's folder states of its routes, without the modules themselves.

    Attributes:
        types: Type of each module by its id, which is its folder inside the router's.
        routes: Ids of the modules of each route, in order.
        default: The route of inputs without a task; None if they need one.
        mappings: Routes by task and kind of input.
    """

    types: dict[str, str]
    routes: dict[str, list[str]]
    default: str | None
    mappings: dict[Key, str]

    @classmethod
    def read(cls, source: Source) -> Layout:
        """Read a router's folder.

        Raises:
            FolderError: If what it states is broken.
        """
        origin = source.pretty(CONFIG_FILE)
        types, structure, parameters = stated(source)
        default = parameters.get("default_route")
        if default is None and parameters.get("allow_empty_key", True):
            default = next(iter(structure), None)
        mappings = read_mappings(parameters.get("route_mappings") or {}, origin)
        unknown = [route for route in (default, *mappings.values()) if route is not None and route not in structure]
        if unknown:
            raise FolderError(f"{origin}: 'parameters' name the routes {unknown}; the routes are {list(structure)}")
        return cls(types, structure, default, mappings)

    def chain(self, task: str | None, modality: Modality | None) -> list[str]:
        """Return the ids of the modules that a task and a kind of input lead to.

        Raises:
            InputError: If they lead nowhere.
        """
        route = route_of(task, modality, routes=self.routes, mappings=self.mappings, default=self.default)
        return self.routes[route]


def part_of(config: dict[str, Any], key: str, origin: str) -> dict[str, Any]:
    """Return one of the objects that a router's settings consist of."""
    if key not in config:
        raise MissingKeyError(f"{origin} must hold the key {key!r}")
    if not isinstance(config[key], dict):
        raise FolderError(f"{origin}: {key!r} must be an object, got {config[key]!r}")
    return config[key]


def module_ids(structure: dict[str, Any], types: dict[str, Any], origin: str) -> list[str]:
    """Return the id of each module that some route has, once and in order, all of them checked."""
    found: dict[str, None] = {}
    for route, names in structure.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise FolderError(f"{origin}: route {route!r} must list ids of modules, got {names!r}")
        for name in names:
            if name not in types:
                raise MissingKeyError(f"{origin}: route {route!r} names {name!r}, which 'types' lacks")
            if not isinstance(types[name], str):
                raise FolderError(f"{origin}: the type of {name!r} must be a string, got {types[name]!r}")
            found[check_relative(name, origin)] = None
    return list(found)


def read_mappings(saved: Any, origin: str) -> dict[Key, str]:
    """Return the mappings of a folder, whose keys are tuples written as Python; one that is none is left out."""
    if not isinstance(saved, dict) or not all(isinstance(route, str) for route in saved.values()):
        raise FolderError(f"{origin}: 'route_mappings' must be an object of route names, got {saved!r}")
    read: dict[Key, str] = {}
    for text, route in saved.items():
        try:
            read[mapping_key(ast.literal_eval(text))] = route
        except (InputError, ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            logger.warning("%s: the route mapping %r is no pair of task and modality and is skipped", origin, text)
    return read
