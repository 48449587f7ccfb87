"""How each model runs best on this machine, as ``fourfold tune`` has found out, remembered for ``backend="auto"``."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fourfold.store.files import write_json
from fourfold.store.fingerprint import fingerprint
from fourfold.store.machine import processor
from fourfold.store.source import Source


@dataclass(frozen=True)
class Choice:
    """How a model runs.

    Attributes:
        backend: ``torch``, ``static``, ``onnx`` or ``openvino``.
        folder: Where its graphs are; None for what runs the model's own folder.
        options: ``model_kwargs`` with which it is loaded.
    """

    backend: str
    folder: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def home() -> Path:
    """Return the folder of what is remembered: ``$XDG_CACHE_HOME/fourfold``, or that in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fourfold"


def recall(source: Source) -> Choice | None:
    """Return how a model runs best here; None if it has not been tuned, or its graphs are gone."""
    known = _known()
    if not known:  # most machines have tuned nothing, and a fingerprint reads all of a folder's small files
        return None
    try:
        entry = known.get(key(source))
    except OSError:
        return None
    names = {item.name for item in fields(Choice)}
    if not isinstance(entry, dict) or not isinstance(entry.get("backend"), str):
        return None
    choice = Choice(**{name: value for name, value in entry.items() if name in names})
    gone = choice.folder is not None and not Path(choice.folder).is_dir()
    return None if gone or not isinstance(choice.options, dict) else choice


def remember(source: Source, choice: Choice) -> None:
    """Remember how a model runs best here."""
    write_json(_file(), {**_known(), key(source): asdict(choice)}, indent=2, sort_keys=True)


def key(source: Source) -> str:
    """Return a name for a model's content on this machine."""
    name, cores = processor()[0], os.cpu_count()
    return f"{fingerprint(source)} on {name} x{cores}"


def _file() -> Path:
    return home() / "choices.json"


def _known() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(_file().read_bytes())
        return found if isinstance(found, dict) else {}
    return {}
