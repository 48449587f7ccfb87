"""The modules that a folder states, those of a router's routes included, without loading any of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fourfold.modules._router_folder import CONFIG_FILE, opened, stated
from fourfold.store.layouts import part_name
from fourfold.store.manifest import ModuleEntry
from fourfold.store.source import Source

TRANSFORMERS = ("Transformer", "MLMTransformer")


@dataclass(frozen=True)
class Part:
    """One module.

    Attributes:
        name: Its class, as the library knows it; else the whole type.
        type: As the folder states it.
        source: Its folder.
        settings: What its configuration holds.
        routes: The modules of each route, if it is a router.
        default_route: The route of inputs without a task.
    """

    name: str
    type: str
    source: Source
    settings: dict[str, Any]
    routes: dict[str, list[Part]] = field(default_factory=dict)
    default_route: str | None = None

    @property
    def usual(self) -> list[Part]:
        """The module itself, or those that a router runs unless told otherwise."""
        if not self.routes:
            return [self]
        route = self.routes.get(self.default_route or "", next(iter(self.routes.values())))
        return [each for part in route for each in part.usual]

    def all(self) -> Iterator[Part]:
        """Yield the module itself, or every module of every route."""
        if not self.routes:
            yield self
        for route in self.routes.values():
            for part in route:
                yield from part.all()


def parts_of(source: Source, entries: list[ModuleEntry]) -> list[Part]:
    """Return the modules of a folder in order.

    Raises:
        FolderError: If the settings of one are broken.
    """
    return [_part(source.at(entry.path), entry.type) for entry in entries]


def _part(source: Source, kind: str) -> Part:
    name = part_name(kind) or kind
    if name == "Router":
        return _router(source, kind)
    if name in TRANSFORMERS:
        return Part(name, kind, source, source.object("sentence_bert_config.json"))
    # At a folder's root lies the configuration of a checkpoint or a router, unless the module is one without either.
    own = bool(source.subfolder) or name == "SparseStaticEmbedding"
    return Part(name, kind, source, source.object("config.json") if own else {})


def _router(source: Source, kind: str) -> Part:
    types, structure, parameters = stated(source)
    with opened(source, CONFIG_FILE):
        parts = {name: _part(source.at(name), inner) for name, inner in types.items()}
    routes = {route: [parts[name] for name in names] for route, names in structure.items()}
    default = parameters.get("default_route") or next(iter(routes), None)
    return Part("Router", kind, source, parameters, routes, default if isinstance(default, str) else None)
