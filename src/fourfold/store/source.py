"""Where a model comes from, as one value that is passed whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from fourfold.errors import FolderError, MissingFileError
from fourfold.store import _download

# Checkpoints of the first transformers releases live on the hub without an organisation, so their names stay as they
# are.
_BERT = "cased uncased chinese cased-finetuned-mrpc german-cased german-dbmdz-cased german-dbmdz-uncased"
_WHOLE_WORD = " -whole-word-masking -whole-word-masking-finetuned-squad"
BARE_HUB_NAMES = frozenset(
    [f"albert-{size}-v{version}" for size in ("base", "large", "xlarge", "xxlarge") for version in (1, 2)]
    + [f"bert-base-{kind}" for kind in (*_BERT.split(), "multilingual-cased", "multilingual-uncased")]
    + [f"bert-large-{case}{tail}" for case in ("cased", "uncased") for tail in _WHOLE_WORD.split(" ")]
    + [f"distilbert-base-{case}{tail}" for case in ("cased", "uncased") for tail in ("", "-distilled-squad")]
    + ["distilbert-base-german-cased", "distilbert-base-multilingual-cased"]
    + ["distilbert-base-uncased-finetuned-sst-2-english", "distilgpt2", "distilroberta-base"]
    + ["camembert-base", "ctrl", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "openai-gpt"]
    + ["roberta-base", "roberta-large", "roberta-base-openai-detector", "roberta-large-openai-detector"]
    + ["roberta-large-mnli", "t5-small", "t5-base", "t5-large", "t5-3b", "t5-11b", "transfo-xl-wt103"]
    + ["xlm-clm-ende-1024", "xlm-clm-enfr-1024"]
    + [f"xlm-mlm-{kind}" for kind in ("100-1280", "17-1280", "en-2048", "ende-1024", "enfr-1024", "enro-1024")]
    + ["xlm-mlm-tlm-xnli15-1024", "xlm-mlm-xnli15-1024", "xlm-roberta-base", "xlm-roberta-large"]
    + [f"xlm-roberta-large-finetuned-conll{kind}" for kind in ("02-dutch", "02-spanish", "03-english", "03-german")]
    + ["xlnet-base-cased", "xlnet-large-cased"]
)


def check_relative(path: str, origin: str) -> str:
    """Return ``path`` if it stays inside its folder; raise :class:`~fourfold.errors.FolderError` otherwise.

    The path is read as POSIX and as Windows would, so that a folder is as safe on one as on the other.
    """
    posix, windows = PurePosixPath(path), PureWindowsPath(path)
    leaves = ".." in posix.parts or ".." in windows.parts
    if leaves or posix.is_absolute() or windows.drive or windows.root or "\0" in path:
        raise FolderError(f"{origin}: path {path!r} must be a relative path inside the model folder")
    return path


def locate(name: str, organization: str | None) -> str:
    """Return the folder or hub name that a user's ``model_name_or_path`` means.

    Args:
        name: A folder, or a hub name with or without organisation.
        organization: Prefixed to a hub name that has none, unless it is one of :data:`BARE_HUB_NAMES`.

    Raises:
        NotADirectoryError: If ``name`` is a file.
        FileNotFoundError: If ``name`` looks like a path and nothing is there.
    """
    if Path(name).is_dir():
        return name
    if Path(name).exists():
        raise NotADirectoryError(
            f"model path {name!r} is a file; give the folder that holds modules.json or config.json"
        )
    if name.count("/") > 1 or (os.name == "nt" and "\\" in name) or name.startswith((".", "/", "~")):
        raise FileNotFoundError(f"model folder {name!r} does not exist")
    if organization and "/" not in name and name.lower() not in BARE_HUB_NAMES:
        return f"{organization}/{name}"
    return name


@dataclass(frozen=True)
class Source:
    """A model folder: local, or a repository of the hub at one revision.

    Attributes:
        name: Local folder or hub name ``owner/repo``.
        revision: Branch, tag or commit of the hub repository; None is its default branch.
        token: Hub token, True for the stored one, None for the hub client's default.
        cache: Folder for downloads; None is ``SENTENCE_TRANSFORMERS_HOME``, else the hub's default.
        offline: Never use the network.
        subfolder: Folder inside ``name`` that relative paths start from.
        note: What stood in the way of resolving the revision, for error messages.
    """

    name: str
    revision: str | None = None
    token: bool | str | None = None
    cache: str | None = None
    offline: bool = False
    subfolder: str = ""
    note: str = field(default="", compare=False)

    @property
    def is_local(self) -> bool:
        """Whether ``name`` is a folder of this machine."""
        return Path(self.name).is_dir()

    @property
    def cache_folder(self) -> str | None:
        """The folder for downloads, or None for the hub's default."""
        return self.cache or os.environ.get("SENTENCE_TRANSFORMERS_HOME") or None

    def at(self, subfolder: str) -> Source:
        """Return the source of a folder inside this one."""
        inside = "" if subfolder == "." else check_relative(subfolder, self.pretty())
        return replace(self, subfolder=f"{self.subfolder}/{inside}".strip("/"))

    def pretty(self, path: str = "") -> str:
        """Return what error messages call ``path``: never a place in a cache."""
        return "/".join(part for part in (self.name.rstrip("/"), self.subfolder, path) if part)

    def file(self, path: str) -> Path | None:
        """Return a local copy of ``path``, or None if the folder does not hold it."""
        inside = "/".join(part for part in (self.subfolder, check_relative(path, self.pretty())) if part)
        if self.is_local:
            local = Path(self.name, inside)
            return local if local.is_file() else None
        return _download.file(self, inside)

    def files(self) -> list[str]:
        """Return the paths of all files below the folder, with forward slashes; hidden folders are left out.

        Raises:
            OSError: If the hub refuses or cannot be reached, and the cache holds nothing of the commit.
        """
        if self.is_local:
            root = Path(self.name, self.subfolder)
            paths = [file.relative_to(root) for file in root.rglob("*") if file.is_file()]
            names = [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts[:-1])]
            return sorted(names)
        start = f"{self.subfolder}/" if self.subfolder else ""
        return sorted(path.removeprefix(start) for path in _download.listing(self) if path.startswith(start))

    def folder(self) -> Path | None:
        """Return a local copy of the folder with all its files, or None if there is no such folder."""
        try:
            return self._folder()
        except MissingFileError:
            return None

    def _folder(self) -> Path | None:
        if self.is_local:
            local = Path(self.name, self.subfolder)
            return local if local.is_dir() else None
        return _download.folder(self, self.subfolder)

    def need(self, path: str) -> Path:
        """Return a local copy of ``path``; raises :class:`~fourfold.errors.MissingFileError` if it is absent."""
        found = self.file(path)
        if found is None:
            raise MissingFileError(f"{self.pretty(path)} is missing; the model folder is incomplete{self._hint()}")
        return found

    def json(self, path: str) -> Any:
        """Return the parsed JSON file, or None if it is absent."""
        found = self.file(path)
        if found is None:
            return None
        try:
            return json.loads(found.read_bytes())
        except (ValueError, RecursionError) as error:
            raise FolderError(f"{self.pretty(path)} is not valid JSON: {error}") from None

    def object(self, path: str) -> dict[str, Any]:
        """Return a JSON file that must hold an object; an absent file counts as an empty one."""
        value = self.json(path)
        if value is not None and not isinstance(value, dict):
            raise FolderError(f"{self.pretty(path)} must hold a JSON object, got {type(value).__name__}")
        return value or {}

    def pinned(self, purpose: str = "") -> Source:
        """Return this source with its branch or tag resolved to one commit, so that all files are of one state.

        Local folders cost no request, nor commits of which the cache holds nothing or all. Where the hub cannot be
        reached, the result is an offline source of the commit that the cache holds, so that a whole load waits for one
        time-out, not for one per file.

        Args:
            purpose: What the files are for. If :meth:`settle` was called on this commit for the same purpose before,
                the cache holds all that is needed, and the result is offline: no library asks the hub again.

        Raises:
            huggingface_hub.errors.RevisionNotFoundError: If the hub has no such revision.
        """
        if self.is_local:
            return self
        if purpose and _download.is_complete(self, purpose):
            return replace(self, offline=True)
        resolved = _download.resolve(self)
        found = replace(self, revision=resolved.revision, offline=resolved.offline, note=resolved.note)
        return replace(found, offline=True) if purpose and _download.is_complete(found, purpose) else found

    def cached(self) -> Path | None:
        """Return the folder of the cache that holds an offline source's files; None for all other sources."""
        return None if self.is_local or not self.offline else _download.snapshot(self)

    def settle(self, purpose: str) -> None:
        """Remember in the cache that everything which ``purpose`` needs of this commit was found."""
        if not self.is_local:
            _download.mark_complete(self, purpose)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add :attr:`note` to the message about a missing file, wherever in a load it was missed."""
        try:
            yield
        except MissingFileError as error:
            if self.note and self.note not in str(error):
                raise MissingFileError(f"{error} ({self.note})") from None
            raise

    def _hint(self) -> str:
        if self.is_local:
            return ""
        return f" ({self.note})" if self.note else " or, without a network, not in the cache"


def is_sentence_transformer_model(
    model_name_or_path: str,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> bool:
    """Whether a folder or a hub repository holds ``modules.json``."""
    source = Source(model_name_or_path, revision, token, cache_folder, local_files_only)
    return source.file("modules.json") is not None


def load_file_path(
    model_name_or_path: str,
    filename: str,
    subfolder: str = "",
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> str | None:
    """Return the local path of a model's file, downloaded if need be, or None if the model has no such file.

    Raises:
        FolderError: If the path leaves the model's folder.
        OSError: If the hub refuses or cannot be reached, and the file is not in the cache.
    """
    found = Source(model_name_or_path, revision, token, cache_folder, local_files_only).at(subfolder).file(filename)
    return None if found is None else str(found)


def load_dir_path(
    model_name_or_path: str,
    subfolder: str = "",
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> str | None:
    """Return the local path of a model's folder, downloaded with all below it.

    Returns:
        None if there is no such folder on this machine or, offline, in the cache.

    Raises:
        FolderError: If the path leaves the model's folder.
        OSError: If the hub has no such folder, refuses, or cannot be reached, and the folder is not in the cache.
    """
    found = Source(model_name_or_path, revision, token, cache_folder, local_files_only).at(subfolder)._folder()
    return None if found is None else str(found)
