"""Several chains of modules of which each call takes one: queries one way, documents another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from fourfold.errors import InputError
from fourfold.modules import _router_folder
from fourfold.modules._base import Features, width_methods
from fourfold.modules._loading import load_part, part_class, save_code, save_part
from fourfold.modules._router_folder import opened, read_config, read_mappings, stated
from fourfold.modules._router_inputs import RouterInputs
from fourfold.modules._router_rows import PARTS, PerRow, divide, merge
from fourfold.modules._router_tasks import Key, listed, mapping_key, route_of
from fourfold.notices import warn_once
from fourfold.store.files import write_json
from fourfold.store.layouts import type_string
from fourfold.store.source import Source
from fourfold.text.modality import NAMES, Modality

logger = logging.getLogger(__name__)


class Router(RouterInputs):
    """Send each call through one of several routes, each a chain of modules.

    The route is the one that ``route_mappings`` names for the call's task and modality, for its task, for its
    modality, or for anything, in this order; else the route that is called like the task, then like the modality;
    without a task also the default route. As first module of a model it tokenises by its route's first module; as a
    later one it only routes.

    Args:
        sub_modules: Lists of modules by route. A module may be part of several routes: it is then shared, and saved
            once.
        default_route: Route of calls without a task.
        allow_empty_key: Whether a call may come without a task though no default route is given: the first route then
            is the default.
        route_mappings: Route by ``(task, modality)``, where None stands for any.

    Raises:
        InputError: If there is no route, or a default or mapping names none.

    >>> from fourfold.modules import Dense
    >>> router = Router({"query": [Dense(8, 4)], "document": [Dense(8, 4)]})
    >>> router.default_route
    'query'
    """

    config_file_name: ClassVar[str] = _router_folder.CONFIG_FILE
    config_keys: ClassVar[list[str]] = ["default_route", "allow_empty_key", "route_mappings"]
    forward_kwargs: ClassVar[set[str]] = {"task", "modality"}

    def __init__(
        self,
        sub_modules: dict[str, list[nn.Module]],
        default_route: str | None = None,
        allow_empty_key: bool = True,
        route_mappings: Mapping[Key, str] | None = None,
    ) -> None:
        super().__init__()
        if not sub_modules:
            raise InputError("sub_modules must hold at least one route, got an empty dictionary")
        for route in sub_modules:
            if not isinstance(route, str) or not route or "." in route or hasattr(nn.ModuleDict, route):
                raise InputError(f"sub_modules: a route's name must be a plain word without dots, got {route!r}")
        if default_route is not None and default_route not in sub_modules:
            raise InputError(f"default_route must be one of {listed(sub_modules)}, got {default_route!r}")
        self.sub_modules = nn.ModuleDict({route: nn.Sequential(*parts) for route, parts in sub_modules.items()})
        self.default_route = default_route
        self.allow_empty_key = allow_empty_key
        if allow_empty_key and default_route is None:
            self.default_route = next(iter(sub_modules))
        self.route_mappings = {mapping_key(key): route for key, route in (route_mappings or {}).items()}
        for key, route in self.route_mappings.items():
            if route not in sub_modules:
                raise InputError(f"route_mappings: {key} maps to {route!r}; the routes are {listed(sub_modules)}")

    @classmethod
    def for_query_document(
        cls,
        query_modules: list[nn.Module],
        document_modules: list[nn.Module],
        default_route: str | None = "document",
        allow_empty_key: bool = True,
    ) -> Router:
        """Return a router with the routes ``query`` and ``document``, as ``encode_query`` and its twin ask for them."""
        routes = {"query": query_modules, "document": document_modules}
        return cls(routes, default_route=default_route, allow_empty_key=allow_empty_key)

    @classmethod
    def example(cls) -> Router:
        """Return a tiny instance for tests: one module of its own for each route, one that both share."""
        from fourfold.modules.dense import Dense

        shared = Dense(8, 8)
        return cls.for_query_document([shared, Dense(8, 4)], [shared, Dense(8, 4)])

    # -- which way ---------------------------------------------------------------------------------------------------

    def route(self, task: str | None = None, modality: Modality | None = None) -> Any:
        """Return the chain of modules that a task and a modality lead to.

        Raises:
            InputError: If the task leads nowhere, or none is given and there is no default route.
        """
        name = route_of(task, modality, routes=self._chains, mappings=self.route_mappings, default=self.default_route)
        return self.sub_modules[name]

    @property
    def _chains(self) -> dict[str, Any]:
        return dict(self.sub_modules.items())

    def _possible(self, kwargs: Mapping[str, Any]) -> list[Any]:
        """Return every route that a call with these arguments may take, before its inputs are seen."""
        task = kwargs.get("task")
        by_modality = any(key[1] is not None for key in self.route_mappings) or set(NAMES) & self.sub_modules.keys()
        # One-key dictionaries may state the task, and inputs the modality.
        return list(self._chains.values()) if task is None or by_modality else [self.route(task)]

    def parts(self) -> Iterator[tuple[str, int, Any]]:
        """Yield each module once, with the first route and place that it has."""
        seen: set[int] = set()
        for route, chain in self._chains.items():
            for position, part in enumerate(chain):
                if id(part) not in seen:
                    seen.add(id(part))
                    yield route, position, part

    # -- features to embeddings --------------------------------------------------------------------------------------

    def forward(
        self, features: Features, task: str | None = None, modality: Modality | None = None, **kwargs: Any
    ) -> Features:
        """Run the route's modules; a task or modality that is not given is the one among the features.

        Rows of several tasks run each by their own route, and come out in their order.

        Raises:
            ShapeError: If their routes give vectors of different widths.
        """
        task = features.get("task") if task is None else task
        modality = features.get("modality") if modality is None else modality
        if not isinstance(task, PerRow):
            return self._run(features, task, modality, kwargs)
        parts = features.get(PARTS)
        if parts is None:  # an earlier router has put the rows together
            kinds = modality if isinstance(modality, PerRow) else [modality] * len(task)
            parts = divide(features, list(zip(task, kinds, strict=True)))
        return merge(parts.each_way(lambda way, rows: self._run(rows, way[0], way[1], kwargs)))

    def _run(self, features: Features, task: str | None, modality: Modality | None, kwargs: dict[str, Any]) -> Features:
        kwargs = {**kwargs, "task": task, "modality": modality}
        for part in self.route(task, modality):
            names = kwargs if isinstance(part, Router) else getattr(part, "forward_kwargs", ())
            features = part(features, **{key: value for key, value in kwargs.items() if key in names})
        return features

    # -- what the module is ------------------------------------------------------------------------------------------

    @property
    def _firsts(self) -> list[Any]:
        return [chain[0] for chain in self._chains.values() if len(chain)]

    @property
    def modalities(self) -> list[Any]:
        """Kinds of input that some route takes."""
        found = {kind for first in self._firsts for kind in getattr(first, "modalities", ["text"])}
        return sorted(found, key=str)

    @property
    def tokenizer(self) -> Any:
        """The first tokenizer that a route has."""
        found = (getattr(first, "tokenizer", None) for first in self._firsts)
        return next((tokenizer for tokenizer in found if tokenizer is not None), None)

    @property
    def lengths(self) -> dict[str, Any]:
        """Longest input of each route in tokens; None where nothing limits it."""
        return {name: getattr(chain[0], "max_seq_length", None) for name, chain in self._chains.items() if len(chain)}

    @property
    def max_seq_length(self) -> Any:
        """Longest input in tokens: the routes' common one, or the largest; None if no route limits it."""
        known = list(dict.fromkeys(length for length in self.lengths.values() if length is not None))
        if len(known) > 1:
            warn_once(logger, f"the routes have different max_seq_length: {known}; the largest is shown")
        return max(known, default=None)

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        found = False
        for first in self._firsts:
            if hasattr(first, "max_seq_length") and _settable(first, "max_seq_length"):
                first.max_seq_length = value
                found = True
        if not found:
            logger.warning("no route has a module whose max_seq_length can be set")

    @property
    def widest(self) -> int | None:  # type: ignore[override]
        """Most numbers that some route holds for a token."""
        return max((width for first in self._firsts if (width := getattr(first, "widest", None))), default=None)

    def get_embedding_dimension(self) -> int | None:
        """Return the width of the vectors: the first route's, where they differ; None if no module tells."""
        # The last module of each route that has a say.
        tell = (next(width_methods(reversed(chain)), None) for chain in self._chains.values())
        widths = [last() for last in tell if last is not None]
        # SpladePooling knows its width only once it has run.
        if len(set(widths) - {None}) > 1:
            warn_once(logger, f"the routes give vectors of different widths: {widths}; the first is shown")
        return next(iter(widths), None)

    def on_model_ready(self, model: nn.Module) -> None:
        """Tell every module of every route that the model is built."""
        for _, _, part in self.parts():
            if hasattr(part, "on_model_ready"):
                part.on_model_ready(model)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows besides the routes."""
        shown = [f"default_route={self.default_route!r}"] if self.default_route is not None else []
        shown += [f"route_mappings={self.route_mappings}"] if self.route_mappings else []
        return ", ".join(shown)

    __repr__ = nn.Module.__repr__

    # -- saving and loading ------------------------------------------------------------------------------------------

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write each module into a folder of its own, shared ones once, and which route has which."""
        folder = Path(output_path)
        ids: dict[int, str] = {}
        types: dict[str, str] = {}
        for route, position, part in self.parts():
            name = ids[id(part)] = f"{route}_{position}_{type(part).__name__}"
            save_part(part, folder / name, safe_serialization=safe_serialization)
            save_code(part, folder, folder / name)
            types[name] = type_string(type(part))
        structure = {route: [ids[id(part)] for part in chain] for route, chain in self._chains.items()}
        parameters = self.get_config_dict()
        parameters["route_mappings"] = {str(key): route for key, route in self.route_mappings.items()}
        config = dict(zip(_router_folder.PARTS, (types, structure, parameters), strict=True))
        write_json(folder / self.config_file_name, config)

    @classmethod
    def read_config(cls, source: Source) -> dict[str, Any]:
        """Return what the folder states; older folders do so in ``config.json``."""
        return read_config(source, cls.config_file_name)

    @classmethod
    def from_source(
        cls,
        source: Source,
        init_defaults: dict[str, Any] | None = None,
        *,
        module_classes: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Router:
        """Build every module of every route from its folder; shared ones once.

        Args:
            source: The router's folder.
            init_defaults: Constructor arguments used where the folder states none.
            module_classes: Classes by type string, asked before the library's own.
            **options: What the model offers to every module's ``load``.
        """
        origin = source.pretty(cls.config_file_name)
        types, structure, parameters = stated(source, cls.config_file_name)
        offered = {
            "token": source.token, "cache_folder": source.cache, "revision": source.revision,
            "local_files_only": source.offline, "module_classes": module_classes, "trust_remote_code": False, **options,
        }  # fmt: skip
        whole = replace(source, subfolder="")
        parts: dict[str, nn.Module] = {}
        with opened(source, cls.config_file_name):
            for name, kind in types.items():
                path = source.at(name).subfolder
                wanted = part_class(
                    kind, whole, origin, trust_remote_code=bool(offered["trust_remote_code"]),
                    classes=module_classes, path=path,
                )  # fmt: skip
                parts[name] = load_part(wanted, whole, path, offered)
        arguments = {**(init_defaults or {}), **parameters}
        if "route_mappings" in arguments:
            arguments["route_mappings"] = read_mappings(arguments["route_mappings"], origin)
        routes = {route: [parts[name] for name in names] for route, names in structure.items()}
        return cls._build({"sub_modules": routes, **arguments}, source)


def _settable(module: Any, name: str) -> bool:
    declared = getattr(type(module), name, None)
    return not isinstance(declared, property) or declared.fset is not None
