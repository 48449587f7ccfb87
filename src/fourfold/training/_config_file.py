"""The text of a training's file: YAML as people mean it, values that a command line puts over it, and its faults."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fourfold.errors import FourfoldError, InputError, did_you_mean

# What reading files, opening models and building parts raises where the file asks for something impossible.
_REFUSALS = (FourfoldError, OSError, ValueError, TypeError, ImportError, LookupError)


class Faults:
    """What is wrong with a file, collected so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, at: str, message: str) -> None:
        """Note a fault.

        Args:
            at: Path of the key, such as ``datasets.train.path``; empty for the whole file.
            message: What was found and what was wanted.
        """
        self.found.append(f"{at}: {message}" if at else message)

    def unknown(self, at: str, given: Iterable[Any], known: Iterable[str]) -> None:
        """Note each of some keys that is none of those known."""
        known = list(known)
        for key in given:
            if key not in known:
                hint = did_you_mean(key, known) or f" There are: {', '.join(known)}."
                self.add(below(at, key), f"unknown key.{hint}")

    def mapping(self, at: str, given: Any, what: str) -> dict[str, Any]:
        """Return a mapping with keys of text, an empty one if something else was given, which is noted."""
        if isinstance(given, Mapping):
            return {str(key): value for key, value in given.items()}
        if given is not None:
            self.add(at, f"must be {what}, got {shown(given)}")
        return {}

    @contextmanager
    def during(self, at: str) -> Iterator[None]:
        """Note what the block raises as a fault of a key, and go on."""
        try:
            yield
        except _REFUSALS as error:
            # A KeyError shows its message in quotes.
            message = error.args[0] if type(error) is KeyError and error.args else error
            self.add(at, f"{str(message).strip() or type(error).__name__}")

    def check(self, origin: str) -> None:
        """Raise :class:`~fourfold.errors.InputError` with all faults, if there are any."""
        found = list(dict.fromkeys(self.found))
        if len(found) == 1:
            raise InputError(f"{origin}: {found[0]}")
        if found:
            raise InputError("\n  ".join([f"{origin} has {len(found)} faults:", *found]))


def below(at: str, key: Any) -> str:
    """Return the path of a key inside another."""
    return f"{at}.{key}" if at else str(key)


def shown(value: Any) -> str:
    """Return a value as a message shows it: short, and with its kind where that is what is wrong."""
    if isinstance(value, (Mapping, list)):
        return f"a {'mapping' if isinstance(value, Mapping) else 'list'}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_yaml(path: Path, faults: Faults) -> Any:
    """Return what a file of YAML holds; keys that come twice are noted with their line.

    Raises:
        InputError: If the file is no YAML, or no UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    return _parsed(text, str(path), faults)


def parse_override(text: str) -> tuple[str, Any]:
    """Return the path of a key and its value, from ``arguments.num_train_epochs=2``; the value is read as YAML.

    Raises:
        InputError: If there is no ``=``, or the value is no YAML.

    >>> parse_override("arguments.learning_rate=2e-5")
    ('arguments.learning_rate', 2e-05)
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{text!r} must be KEY=VALUE, such as arguments.num_train_epochs=2")
    faults = Faults()
    parsed = _parsed(value, key.strip(), faults)
    faults.check(key.strip())
    return key.strip(), parsed


def put(tree: Any, key: str, value: Any, faults: Faults) -> None:
    """Set the value of a dotted key in a file's content; mappings on the way are made, and lists take numbers."""
    *way, last = key.split(".")
    place = tree
    for depth, name in enumerate(way):
        if isinstance(place, list) and name.isdigit() and int(name) < len(place):
            place = place[int(name)]
        elif isinstance(place, dict):
            if place.get(name) is None:
                place[name] = {}
            place = place[name]
        else:
            faults.add(key, f"{'.'.join(way[:depth])} holds no {name!r} to set something in")
            return
    if isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        faults.add(key, f"{'.'.join(way) or 'the file'} is no mapping, so that {last!r} cannot be set in it")


def _parsed(text: str, origin: str, faults: Faults) -> Any:
    import yaml  # type: ignore[import-untyped, unused-ignore]

    loader = _loader()(text)
    try:
        value = loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"{origin}{where} is not valid YAML: {getattr(error, 'problem', None) or error}") from None
    finally:
        loader.dispose()
    for key, line in loader.twice:
        faults.add("", f"line {line}: the key {key!r} comes twice")
    return value


@functools.cache
def _loader() -> Any:
    import yaml  # type: ignore[import-untyped, unused-ignore]

    class Loader(yaml.SafeLoader):
        """YAML whose words and numbers are what they look like.

        YAML 1.1 takes ``no`` for false, ``2e-5`` for a text and ``1:30`` for 90; ``save_strategy: no`` and
        ``learning_rate: 2e-5`` are then no longer what was written.
        """

        def __init__(self, stream: str) -> None:
            super().__init__(stream)
            self.twice: list[tuple[Any, int]] = []

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                word = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
                if word in seen and key.value != "<<":
                    self.twice.append((key.value, key.start_mark.line + 1))
                seen.add(word)
            return super().construct_mapping(node, deep)

    tag = "tag:yaml.org,2002:"
    replaced = {f"{tag}{kind}" for kind in ("bool", "int", "float", "timestamp")}
    Loader.yaml_implicit_resolvers = {
        letter: [(kind, pattern) for kind, pattern in resolvers if kind not in replaced]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    digits = list("-+.0123456789")
    Loader.add_implicit_resolver(f"{tag}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    Loader.add_implicit_resolver(f"{tag}int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), digits)
    number = r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|nan)$"
    Loader.add_implicit_resolver(f"{tag}float", re.compile(number), digits)
    return Loader
