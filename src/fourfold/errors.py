"""Every exception that fourfold raises on purpose, as one tree.

Each also derives from the built-in type that the sentence-transformers contract promises, so
``except ValueError`` written for the older library keeps working::

    FourfoldError
    ├── InputError            ValueError    an argument or an input text is unusable
    ├── FolderError           ValueError    a model folder is broken or hostile
    │   ├── MissingFileError  OSError       a file that the folder must hold is absent
    │   ├── UnknownKeyError   TypeError     a key of a module's JSON is unknown or absent
    │   └── UnknownModuleError ImportError  a folder names a library module that does not exist
    ├── WeightsError          RuntimeError  weights do not fit the module that asks for them
    ├── MissingExtraError     ImportError   an optional package is not installed
    └── SearchIndexError      RuntimeError  a search index is damaged or from a newer version

A message says what was wrong, what was found, what was wanted, and what to do next.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable


class FourfoldError(Exception):
    """Base of every error that fourfold raises on purpose."""


class InputError(FourfoldError, ValueError):
    """An argument or an input text is unusable."""


class FolderError(FourfoldError, ValueError):
    """A model folder is broken or hostile; the message names the file and the key."""


class MissingFileError(FolderError, OSError):
    """A file that the model folder must hold is absent."""


class UnknownKeyError(FolderError, TypeError):
    """A key of a module's JSON is unknown or absent."""


class UnknownModuleError(FolderError, ImportError):
    """A folder names a library module that does not exist."""


class WeightsError(FourfoldError, RuntimeError):
    """Weights do not fit the module that asks for them."""


class MissingExtraError(FourfoldError, ImportError):
    """An optional package is not installed; the message holds the command that installs it."""


class SearchIndexError(FourfoldError, RuntimeError):
    """A search index is damaged, locked for too long, or written by a newer version."""


def require(package: str, extra: str, purpose: str) -> None:
    """Raise :class:`MissingExtraError` unless ``package`` can be imported.

    Args:
        package: Import name, e.g. ``"torch"``.
        extra: Name of fourfold's extra that brings it.
        purpose: What needs it, as the start of a sentence, e.g. ``"SentenceTransformer"``.
    """
    if not _installed(package):
        raise MissingExtraError(
            f'{purpose} needs the package {package}. Install it with: pip install "fourfold[{extra}]"'
        )


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def stand_in(name: str, package: str, extra: str) -> type:
    """Return a class that takes the place of one whose package is missing, and says so when it is built.

    Args:
        name: Name of the class.
        package: Import name of the missing package.
        extra: Name of fourfold's extra that brings it.
    """

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        require(package, extra, name)

    return type(name, (), {"__init__": refuse, "__doc__": f'Needs {package}: pip install "fourfold[{extra}]"'})


def did_you_mean(got: object, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known name, or an empty string."""
    import difflib  # only for a mistake: a start that goes well does not pay for it

    near = difflib.get_close_matches(str(got), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
