"""What a whole graph, from token ids to the model's output, says of itself: one JSON file beside the graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fourfold.errors import FolderError, InputError, did_you_mean
from fourfold.store.files import write_json
from fourfold.store.source import Source, check_relative

DESCRIPTION_FILE = "whole.json"
_VERSION = 1


@dataclass(frozen=True)
class WholeGraph:
    """One graph of a model, and what has to be known to feed it.

    Attributes:
        file: Name of the graph, beside the description.
        route: The route of a ``Router`` that it is; None for a model without one.
        precision: ``float32``, ``float16`` or ``int8``.
        inputs: Name, data type and axes of each input.
        outputs: The same of each output; the first is the model's.
        width: Numbers in a row of the first output.
        tokenizer: Folder of ``tokenizer.json``, from the model's own.
        special_tokens: Whether special tokens are put around a text.
        max_length: Tokens after which a text is cut, special tokens included; None is no limit.
        truncation_side: Where it is cut, ``right`` or ``left``.
        padding_side: Where shorter texts of a batch are padded.
        pad_id: The id that pads.
        widest: Most numbers that the graph holds for a token at one time, which bounds a batch; None if unknown.
    """

    file: str
    route: str | None = None
    precision: str = "float32"
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    width: int = 0
    tokenizer: str = ""
    special_tokens: bool = True
    max_length: int | None = None
    truncation_side: str = "right"
    padding_side: str = "right"
    pad_id: int = 0
    widest: int | None = None


@dataclass(frozen=True)
class Wholes:
    """The whole graphs of a model for one runtime.

    Attributes:
        model_type: The family, by the name of its class.
        kind: ``onnx`` or ``openvino``.
        graphs: The graphs; of those of a route and precision the first is taken.
        default_route: The route of texts that state none.
        folder: Where the graphs are, from the model's folder; None is the kind's own.
    """

    model_type: str
    kind: str
    graphs: Sequence[WholeGraph]
    default_route: str | None = None
    folder: str | None = None

    @property
    def place(self) -> str:
        """Folder of the graphs, from the model's own."""
        return self.kind if self.folder is None else self.folder

    @classmethod
    def read(cls, source: Source, kind: str) -> Wholes | None:
        """Return what a folder holds for a runtime; None if it holds no whole graph.

        Raises:
            FolderError: If the description is damaged.
        """
        inside = source.at(kind)
        raw = inside.object(DESCRIPTION_FILE)
        if not raw:
            return None
        origin = inside.pretty(DESCRIPTION_FILE)
        if raw.get("version") != _VERSION:
            got = raw.get("version")
            raise FolderError(f"{origin}: version must be {_VERSION}, got {got!r}; export the model again")
        graphs = raw.get("graphs")
        if not isinstance(graphs, list) or not graphs or not isinstance(raw.get("model_type"), str):
            raise FolderError(f"{origin} must hold 'model_type' and a non-empty list 'graphs'")
        found = cls(raw["model_type"], kind, [_graph(entry, origin) for entry in graphs], raw.get("default_route"))
        if found.default_route not in (None, *found.routes):
            raise FolderError(
                f"{origin}: default_route must be one of {', '.join(found.routes)}, got {found.default_route!r}"
            )
        return found

    def write(self, source: Source) -> None:
        """Write the description into a local folder."""
        path = Path(source.name, source.subfolder, self.kind, DESCRIPTION_FILE)
        graphs = [asdict(graph) for graph in self.graphs]
        value = {"version": _VERSION, "model_type": self.model_type, "runtime": self.kind}
        write_json(path, {**value, "default_route": self.default_route, "graphs": graphs}, indent=2)

    @property
    def routes(self) -> list[str]:
        """Names of the routes; empty for a model without a router."""
        return list(dict.fromkeys(graph.route for graph in self.graphs if graph.route is not None))

    def graph(self, route: str | None = None, file_name: str | None = None) -> WholeGraph:
        """Return the graph that runs texts of a route.

        Args:
            route: The route; None, or one that a model without a router does not know, is the default.
            file_name: Name of the graph's file, where several precisions are there.

        Raises:
            InputError: If there is no such route or file.
        """
        found = list(self.graphs)
        if self.routes:
            wanted = route or self.default_route or self.routes[0]
            if wanted not in self.routes:
                raise InputError(f"task must be one of {', '.join(self.routes)}, got {wanted!r}")
            found = [graph for graph in found if graph.route == wanted]
        if file_name is not None:
            name = file_name.rpartition("/")[2]
            known = [graph.file for graph in found]
            found = [graph for graph in found if graph.file == name]
            if not found:
                raise InputError(
                    f"file_name must be one of {', '.join(known)}; got {file_name!r}.{did_you_mean(name, known)}"
                )
        return found[0]


def _graph(entry: Any, origin: str) -> WholeGraph:
    known = {item.name for item in fields(WholeGraph)}
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        raise FolderError(f"{origin}: each of 'graphs' must be an object with a 'file', got {entry!r}")
    graph = WholeGraph(**{key: value for key, value in entry.items() if key in known})
    wrong = _wrong(graph)
    if wrong is not None:
        raise FolderError(f"{origin}: {wrong!r} of {graph.file!r} is unusable, got {getattr(graph, wrong)!r}")
    for name in (graph.file, graph.tokenizer):
        check_relative(name, origin)
    return graph


def _wrong(graph: WholeGraph) -> str | None:
    """Return the name of the first attribute that is not what it must be."""
    fine = {
        "route": graph.route is None or isinstance(graph.route, str),
        "precision": isinstance(graph.precision, str),
        "inputs": _are_named(graph.inputs),
        "outputs": _are_named(graph.outputs),
        "width": _is_count(graph.width, 1),
        "tokenizer": isinstance(graph.tokenizer, str),
        "special_tokens": isinstance(graph.special_tokens, bool),
        "max_length": graph.max_length is None or _is_count(graph.max_length, 1),
        "truncation_side": graph.truncation_side in ("left", "right"),
        "padding_side": graph.padding_side in ("left", "right"),
        "pad_id": _is_count(graph.pad_id, 0),
        "widest": graph.widest is None or _is_count(graph.widest, 1),
    }
    return next((name for name, good in fine.items() if not good), None)


def _are_named(ports: Any) -> bool:
    named = isinstance(ports, list) and all(isinstance(port, dict) for port in ports)
    return named and len(ports) > 0 and all(isinstance(port.get("name"), str) for port in ports)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
