"""Files of the hub through its client's cache: which commit a name means, one file, one folder.

A commit never changes, so what the cache knows about one needs no request: a file that is there, and a file that was
asked for and is absent. A branch costs one request, which says its commit.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fourfold.errors import MissingFileError
from fourfold.store.files import write_bytes

if TYPE_CHECKING:
    from fourfold.store.source import Source

logger = logging.getLogger(__name__)

LIBRARY = "fourfold"


class Resolved(NamedTuple):
    """What a branch or tag came to.

    Attributes:
        revision: The commit, or the revision as given where no commit is known.
        offline: Whether files may come from the cache only.
        note: What stood in the way, for the message about a file that is missing.
    """

    revision: str | None
    offline: bool
    note: str = ""


def is_commit(revision: str | None) -> bool:
    """Whether a revision is the full hash of a commit."""
    return revision is not None and len(revision) == 40 and set(revision) <= set(string.hexdigits)


def resolve(source: Source) -> Resolved:
    """Find the commit of a hub source's branch or tag, by at most one request.

    A commit is what it is; one that the cache holds, in whole or in part, costs a request all the same, which says
    whether the hub can be reached for what is not there.

    A repository that is absent or private falls back to the cache, and so does everything when the hub cannot be
    reached: the one failed request then stands for all others of the load. Any other answer, such as a rate limit, is
    logged and leaves the revision as it is.

    Raises:
        huggingface_hub.errors.RevisionNotFoundError: If the repository has no such branch, tag or commit.
        huggingface_hub.errors.RepositoryNotFoundError: If there is no such repository that the token may read, and the
            cache has none either.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if source.offline or (is_commit(source.revision) and snapshot(source) is None):
        return Resolved(source.revision, source.offline)
    cached = _cached_commit(source)
    try:
        api = HfApi(token=source.token, library_name=LIBRARY)
        limit = constants.HF_HUB_ETAG_TIMEOUT
        found = api.model_info(source.name, revision=source.revision, expand=["sha"], timeout=limit).sha
    except (RevisionNotFoundError, LocalTokenNotFoundError):
        raise
    except OfflineModeIsEnabled:
        return Resolved(cached or source.revision, True, "offline mode is on")
    except RepositoryNotFoundError:
        if cached is None:
            raise
        note = "the hub has no such repository, or the token may not read it"
        logger.warning("%s is read from the cache: %s", source.pretty(), note)
        return Resolved(cached, True, note)
    except HFValidationError as error:
        return Resolved(source.revision, source.offline, str(error))
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            logger.warning("the commit of %s is not known (%s)", source.pretty(), _first_line(error))
            return Resolved(source.revision, source.offline)
        return _unreachable(source, cached, error)
    except Exception as error:
        return _unreachable(source, cached, error)
    if found and not is_commit(source.revision):
        _remember_commit(source, found)
    return Resolved(found or source.revision, source.offline)


def _unreachable(source: Source, cached: str | None, error: Exception) -> Resolved:
    reason = f"the hub could not be reached: {type(error).__name__}: {_first_line(error)}"
    logger.warning("%s; %s is looked for in the cache", reason, source.pretty())
    return Resolved(cached or source.revision, True, reason)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")


def file(source: Source, inside: str) -> Path | None:
    """Return the local copy of a hub file, or None if the repository does not hold it or, offline, the cache.

    Raises:
        OSError: If the hub refuses or cannot be reached, or has no such repository, and the file is not in the cache.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    try:
        if source.offline or is_commit(source.revision):
            known = try_to_load_from_cache(source.name, inside, source.cache_folder, source.revision)
            if known is not None or source.offline:
                return Path(known) if isinstance(known, str) else None
        return Path(hf_hub_download(source.name, inside, **_hub(source)))
    except LocalEntryNotFoundError as error:
        _raise_refusal(error)
        return None
    except (EntryNotFoundError, HFValidationError):
        return None


def listing(source: Source) -> list[str]:
    """Return the paths of all files of a hub repository; offline, of those that the cache holds.

    Raises:
        OSError: If the hub refuses, or has no such repository.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if not source.offline:
        try:
            return HfApi(token=source.token, library_name=LIBRARY).list_repo_files(
                source.name, revision=source.revision
            )
        except HFValidationError:
            return []
        except HfHubHTTPError:
            raise
        except (OSError, OfflineModeIsEnabled) as error:
            logger.info("the files of %s cannot be listed (%s); looking in the cache", source.name, _first_line(error))
    held = snapshot(source)
    return [] if held is None else [file.relative_to(held).as_posix() for file in held.rglob("*") if file.is_file()]


def folder(source: Source, inside: str) -> Path | None:
    """Return the local copy of a hub folder with all files below it, or None if, offline, the cache has none.

    Raises:
        MissingFileError: If the repository has no such folder.
        OSError: If the hub refuses or cannot be reached, or has no such repository, and nothing is in the cache.
    """
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RevisionNotFoundError

    if source.offline:
        held = snapshot(source)
        return held / inside if held is not None and (held / inside).is_dir() else None
    try:
        root = _snapshot(source, inside, offline=False)
    except HFValidationError:
        return None
    except LocalEntryNotFoundError as error:
        _raise_refusal(error)
        return None
    except RevisionNotFoundError:
        raise
    except OSError as error:
        try:
            root = _snapshot(source, inside, offline=True)
        except OSError:
            raise error from None
    found = Path(root, inside)
    if found.is_dir():
        return found
    raise MissingFileError(f"{source.pretty()} is missing: the repository has no such folder")


def _raise_refusal(error: Exception) -> None:
    """Raise what the client hides behind "not in the cache": an absent file and a refusal are not the same."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    cause = error.__cause__
    if cause is not None and not isinstance(cause, OfflineModeIsEnabled):
        raise (cause if isinstance(cause, HfHubHTTPError) else error) from None


def _snapshot(source: Source, inside: str, *, offline: bool) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import tqdm

    class Quiet(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    options = {**_hub(source), "local_files_only": offline}
    pattern = f"{glob.escape(inside)}/**" if inside not in ("", ".") else None
    return snapshot_download(source.name, allow_patterns=pattern, tqdm_class=Quiet, **options)


def _hub(source: Source) -> dict[str, Any]:
    return {
        "revision": source.revision,
        "token": source.token,
        "cache_dir": source.cache_folder,
        "local_files_only": source.offline,
        "library_name": LIBRARY,
    }


# -- what the cache knows ----------------------------------------------------------------------------------------------


def _storage(source: Source) -> Path:
    """Return the folder in which the hub's client keeps a repository."""
    from huggingface_hub import constants

    root = Path(source.cache_folder or constants.HF_HUB_CACHE).expanduser()
    return root / "--".join(["models", *source.name.split("/")])


def _ref(source: Source) -> Path:
    return _storage(source) / "refs" / (source.revision or "main")


def snapshot(source: Source) -> Path | None:
    """Return the cache's folder of a commit, which may lack some of its files, or None if it has none."""
    commit = _cached_commit(source)
    held = _storage(source) / "snapshots" / commit if commit else None
    return held if held is not None and held.is_dir() else None


def _cached_commit(source: Source) -> str | None:
    if is_commit(source.revision):
        return source.revision
    try:
        commit = _ref(source).read_text().strip()
    except (OSError, ValueError):
        return None
    return commit if is_commit(commit) else None


def _remember_commit(source: Source, commit: str) -> None:
    """Note a branch's commit where the client looks for it: files are fetched by commit, which leaves no such note."""
    with contextlib.suppress(OSError):
        if _cached_commit(source) != commit:
            write_bytes(_ref(source), commit.encode())


def _mark(source: Source, purpose: str) -> Path:
    name = hashlib.sha256(purpose.encode()).hexdigest()[:16]
    return _storage(source) / ".fourfold" / f"{source.revision}-{name}"


def is_complete(source: Source, purpose: str) -> bool:
    """Whether the cache holds all that a load for this purpose needs of a commit; :func:`mark_complete` said so."""
    return is_commit(source.revision) and _mark(source, purpose).is_file()


def mark_complete(source: Source, purpose: str) -> None:
    """Remember that a load for this purpose found all that it needs of a commit."""
    if is_commit(source.revision) and not source.offline:
        with contextlib.suppress(OSError):
            write_bytes(_mark(source, purpose), b"")
