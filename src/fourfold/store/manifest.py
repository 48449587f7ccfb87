"""``modules.json`` and ``config_sentence_transformers.json``: a folder's modules, and the model's own settings."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from typing import Any

from fourfold.errors import FolderError, InputError, MissingExtraError, MissingKeyError
from fourfold.ops.terms import check_active
from fourfold.store.source import Source, check_relative

logger = logging.getLogger(__name__)

MODULES_FILE = "modules.json"
CONFIG_FILE = "config_sentence_transformers.json"
# The level of the contract that our folders state; a reader warns when a folder states a newer one than its own.
CONTRACT_VERSION = "6.2.0"
FIRST_FAMILY = "SentenceTransformer"


@dataclass(frozen=True)
class ModuleEntry:
    """One entry of ``modules.json``.

    Attributes:
        name: The module's name in the model, usually its position.
        path: Its folder relative to the model's, ``""`` for the model's own.
        type: Dotted class path, as the folder states it.
        kwargs: Names of keyword arguments of ``encode`` that are passed to the module's ``forward``.
    """

    name: str
    path: str
    type: str
    kwargs: tuple[str, ...] = ()


def read_modules(source: Source) -> list[ModuleEntry] | None:
    """Return the entries of ``modules.json`` in order, or None if the folder is a plain checkpoint.

    Raises:
        FolderError: If the file is not a list of objects with string ``name``, ``path`` and ``type``, or a path leaves
            the folder.
    """
    raw = source.json(MODULES_FILE)
    if raw is None and source.file(MODULES_FILE) is None:
        return None
    origin = source.pretty(MODULES_FILE)
    if not isinstance(raw, list) or not raw:
        raise FolderError(f"{origin} must hold a non-empty list of modules")
    entries = [_entry(item, i, origin) for i, item in enumerate(raw)]
    for position, entry in enumerate(entries):
        # A name is a key of the model's modules and the first part of its weights' names.
        if not entry.name or "." in entry.name or entry.name in {other.name for other in entries[:position]}:
            raise FolderError(
                f"{origin}: entry {position}: 'name' must be unique, not empty and without dots, got {entry.name!r}"
            )
    return entries


def _entry(item: Any, position: int, origin: str) -> ModuleEntry:
    if not isinstance(item, dict):
        raise FolderError(f"{origin}: entry {position} must be an object, got {type(item).__name__}")
    for key in ("name", "path", "type"):
        if key not in item:
            raise MissingKeyError(f"{origin}: entry {position} lacks the key {key!r}")
        if not isinstance(item[key], str):
            raise FolderError(f"{origin}: entry {position} needs a string under the key {key!r}, got {item[key]!r}")
    kwargs = item.get("kwargs", [])
    if not isinstance(kwargs, list) or not all(isinstance(name, str) for name in kwargs):
        raise FolderError(f"{origin}: entry {position}: 'kwargs' must be a list of names, got {kwargs!r}")
    path = check_relative(item["path"], f"{origin}: entry {position}")
    return ModuleEntry(item["name"], path, item["type"], tuple(kwargs))


def modules_json(entries: list[ModuleEntry]) -> list[dict[str, Any]]:
    """Return what ``modules.json`` holds for these entries."""
    rows = []
    for idx, entry in enumerate(entries):
        row: dict[str, Any] = {"idx": idx, "name": entry.name, "path": entry.path, "type": entry.type}
        if entry.kwargs:
            row["kwargs"] = list(entry.kwargs)
        rows.append(row)
    return rows


def read_model_type(source: Source) -> str:
    """Return the family that a folder states; one without a statement is from before there were several."""
    raw = source.object(CONFIG_FILE)
    return _typed(raw, "model_type", str, source.pretty(CONFIG_FILE)) or FIRST_FAMILY


@dataclass
class ModelConfig:
    """The settings of ``config_sentence_transformers.json`` that every family shares, and the rest as ``extra``.

    ``raw`` is the whole file as it was read.
    """

    model_type: str = FIRST_FAMILY
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def read(cls, source: Source) -> ModelConfig:
        """Read the file; an absent one gives the defaults.

        Raises:
            FolderError: If a key holds the wrong kind of value.
            ImportError: If the folder's ``requirements`` are not met.
        """
        whole = source.object(CONFIG_FILE)
        raw, origin = dict(whole), source.pretty(CONFIG_FILE)
        version = raw.pop("__version__", None)
        _warn_if_newer(version, origin)
        check_requirements(raw.pop("requirements", None), origin)
        known = {
            "model_type": _typed(raw, "model_type", str, origin) or FIRST_FAMILY,
            "prompts": _typed(raw, "prompts", dict, origin) or {},
            "default_prompt_name": _typed(raw, "default_prompt_name", str, origin),
            "similarity_fn_name": _typed(raw, "similarity_fn_name", str, origin),
        }
        _typed(raw, "truncate_dim", int, origin)
        try:
            check_active(raw.get("max_active_dims"), f"{origin}: 'max_active_dims'")
        except InputError as error:
            raise FolderError(str(error)) from None
        for name, prompt in known["prompts"].items():
            if not isinstance(prompt, str):
                raise FolderError(f"{origin}: prompt {name!r} must be a string, got {prompt!r}")
        extra = {key: value for key, value in raw.items() if key not in known}
        return cls(**known, extra=extra, raw=whole)

    def json(self) -> dict[str, Any]:
        """Return what the file holds; write it with sorted keys."""
        return {
            "__version__": _versions(),
            "model_type": self.model_type,
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            **self.extra,
        }


def architectures(named: Any) -> list[str]:
    """Return what a transformers config names as ``architectures``, the classes that its weights are for.

    Whatever else a broken file holds there is left out.
    """
    return [name for name in named if isinstance(name, str)] if isinstance(named, (list, tuple)) else []


def _typed(raw: dict[str, Any], key: str, kind: type, origin: str) -> Any:
    value = raw.get(key)
    if value is not None and not isinstance(value, kind):
        raise FolderError(f"{origin}: {key!r} must be {kind.__name__} or null, got {value!r}")
    return value


def _versions() -> dict[str, str]:
    import importlib.metadata

    installed = {"sentence_transformers": CONTRACT_VERSION}
    for key, package in (("transformers", "transformers"), ("pytorch", "torch")):
        try:
            installed[key] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _warn_if_newer(version: Any, origin: str) -> None:
    saved = version.get("sentence_transformers") if isinstance(version, dict) else None
    if isinstance(saved, str) and _numbers(saved) > _numbers(CONTRACT_VERSION):
        logger.warning(
            "%s was saved by version %s, newer than %s: some settings may be unknown", origin, saved, CONTRACT_VERSION
        )


def _numbers(version: str) -> tuple[int, ...]:
    digits = ("".join(filter(str.isdigit, part)) for part in version.split(".")[:3])
    return tuple(int(part) for part in digits if part)


def check_requirements(requirements: Any, origin: str) -> None:
    """Raise ``ImportError`` listing every package requirement of a folder that this environment does not meet."""
    if requirements is None:
        return
    if not isinstance(requirements, dict):
        logger.warning("%s: 'requirements' is not an object and is ignored", origin)
        return
    unmet = [line for name, wanted in requirements.items() if (line := _unmet(name, wanted, origin))]
    if unmet:
        names = " ".join(f'"{line.split(" (")[0]}"' for line in unmet if not line.startswith("python"))
        hint = f"; try: pip install {names}" if names else ""
        raise MissingExtraError(f"{origin} requires {', '.join(unmet)}{hint}")


def _unmet(name: str, wanted: Any, origin: str) -> str | None:
    import importlib.metadata

    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    specifier: Any = wanted.get("specifier") if isinstance(wanted, dict) else wanted
    reason = wanted.get("reason") if isinstance(wanted, dict) else None
    try:
        accepted = SpecifierSet(specifier)
    except (InvalidSpecifier, TypeError, AttributeError):
        logger.warning("%s: requirement %s=%r cannot be read and is skipped", origin, name, wanted)
        return None
    package = "torch" if name == "pytorch" else name
    try:
        found = ".".join(map(str, sys.version_info[:3])) if name == "python" else importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found is not None and accepted.contains(found, prereleases=True):
        return None
    details = "; ".join(part for part in (f"found {found or 'nothing'}", reason) if part)
    return f"{package}{specifier} ({details})"
