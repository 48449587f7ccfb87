"""Find an exported graph in a folder or a repository, by the rules that published ones rely on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from fourfold.runtimes import KINDS
from fourfold.runtimes.processor import lacking
from fourfold.store.machine import processor
from fourfold.store.source import Source, check_relative

logger = logging.getLogger(__name__)


def find(source: Source, kind: str, file_name: str | None = None, *, warn: bool = True) -> str | None:
    """Return the path of a graph below a folder; None if there is none of that name.

    Args:
        source: A module's folder, or a folder in it.
        kind: ``onnx`` or ``openvino``.
        file_name: Name of the file, perhaps with folders; None is the plain one.
        warn: Whether to tell that several are there and none was named, or that none is there but others are.
    """
    runtime = KINDS[kind]
    asked = check_relative(file_name or runtime.file, source.pretty())
    known = candidates(source, kind)
    for path in (asked, f"{kind}/{asked}"):
        if path in known:
            if warn and file_name is None and len(known) > 1:
                logger.warning(
                    "%s holds several %s files: %s. %r is taken; name another with "
                    'model_kwargs={"file_name": "<file>"}',
                    source.pretty(), kind, ", ".join(known), path,
                )  # fmt: skip
            return path
    if warn and known:
        logger.warning(
            '%s holds no %s file %r. To load another: model_kwargs={"file_name": "%s"}',
            source.pretty(), kind, asked, known[0],
        )  # fmt: skip
    return None


def candidates(source: Source, kind: str) -> list[str]:
    """Return the paths of all graphs below a folder; of a repository on the hub only of those that lie in a folder."""
    found = [path for path in source.files() if fnmatch(PurePosixPath(path).name, KINDS[kind].pattern)]
    return sorted(found if source.is_local or source.subfolder else [path for path in found if "/" in path])


def fetch(source: Source, path: str) -> Path:
    """Return a local copy of a graph, with the files that belong to it beside it.

    Raises:
        MissingFileError: If the folder does not hold it.
    """
    lacks = lacking(PurePosixPath(path).name)
    if lacks:
        logger.warning(
            "%s is quantised for %s, which this processor (%s) lacks: it may be slower, and less precise, than the "
            "plain file",
            source.pretty(path), lacks, processor()[0],
        )  # fmt: skip
    local = source.need(path)
    if not source.is_local:
        for companion in companions(source, path):
            source.file(companion)
    return local


def companions(source: Source, path: str) -> list[str]:
    """Return the files that belong to a graph: an OpenVINO model's weights, an ONNX model's external data."""
    stem = path.rpartition(".")[0]
    if path.endswith(".xml"):
        return [f"{stem}.bin"]
    return [other for other in source.files() if other.startswith((f"{path}_data", f"{path}.data", f"{stem}.data"))]


def should_export(
    source: Source, kind: str, model_kwargs: Mapping[str, Any], *, file_name: str, warn: bool = True
) -> tuple[bool, dict[str, Any]]:
    """Return whether a graph must be exported, and the arguments with which it is loaded.

    Args:
        source: The module's folder.
        kind: ``onnx`` or ``openvino``.
        model_kwargs: The caller's: ``export``, ``file_name`` and ``subfolder`` are read, and the last two set to where
            the graph was found.
        file_name: Name of the plain graph.
        warn: Whether to log what was found.
    """
    kwargs = dict(model_kwargs)
    export = kwargs.pop("export", None)
    if export:
        kwargs.pop("file_name", None)
        return True, kwargs
    asked = kwargs.get("file_name")
    place = source.at(kwargs.get("subfolder") or "")
    path = find(place, kind, asked or (None if file_name == KINDS[kind].file else file_name), warn=warn)
    if path is None:
        if export is False:
            return False, {**kwargs, "file_name": asked or file_name}
        kwargs.pop("file_name", None)
        return True, kwargs
    folder, _, name = path.rpartition("/")
    kwargs["file_name"] = name
    subfolder = "/".join(part for part in (kwargs.get("subfolder") or "", folder) if part)
    if subfolder:
        kwargs["subfolder"] = subfolder
    return False, kwargs


def below(source: Source, subfolder: str | None) -> Source:
    """Return a folder of the same model, named from the model's own folder."""
    return replace(source, subfolder="").at(subfolder or "")
