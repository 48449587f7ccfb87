"""Every exception that fourfold raises on purpose, as one tree.

Each also derives from the built-in type that the sentence-transformers contract promises, so
``except ValueError`` written for the older library keeps working::

    FourfoldError
    ├── InputError            ValueError    an argument or an input text is unusable
    ├── InputTypeError        TypeError     an argument is of another type than it must be
    ├── FolderError           ValueError    a model folder is broken or hostile
    │   ├── MissingFileError  OSError       a file that the folder must hold is absent
    │   ├── UnknownKeyError   TypeError     a key of a module's JSON is unknown or absent
    │   ├── MissingKeyError   KeyError      a key that a JSON file must hold is absent
    │   └── UnknownModuleError ImportError  a folder names a library module that does not exist
    ├── WeightsError          RuntimeError  weights do not fit the module that asks for them
    ├── FeatureError          TypeError     a module needs a feature of another kind than it got
    ├── MissingFeatureError   KeyError      a module needs a feature that no module before it wrote
    ├── FirstModuleError      AttributeError the first module of a model, or of a route, takes no inputs
    ├── ShapeError            RuntimeError  tensors that must fit together do not
    ├── PlacementError        RuntimeError  a model cannot be moved
    ├── MissingMethodError    AttributeError  a model's backbone lacks a method
    ├── MissingExtraError     ImportError   an optional package is not installed
    │   └── MissingTrainingError RuntimeError  one that training needs
    ├── MissingNameError      ModuleNotFoundError  the contract has a name that fourfold does not have yet
    ├── AliasError            RuntimeError  the older library's name cannot be taken over
    ├── TrainingError         RuntimeError  a trainer lacks what it trains, or was given too much
    ├── SearchIndexError      RuntimeError  a search index is damaged or from a newer version
    └── WorkerError           RuntimeError  processes of a pool died, or one raised what cannot be sent

A message says what was wrong, what was found, what was wanted, and what to do next.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable


class FourfoldError(Exception):
    """Base of every error that fourfold raises on purpose."""


class InputError(FourfoldError, ValueError):
    """An argument or an input text is unusable."""


class InputTypeError(FourfoldError, TypeError):
    """An argument is of another type than it must be."""


class FolderError(FourfoldError, ValueError):
    """A model folder is broken or hostile; the message names the file and the key."""


class MissingFileError(FolderError, OSError):
    """A file that the model folder must hold is absent."""


class UnknownKeyError(FolderError, TypeError):
    """A key of a module's JSON is unknown or absent."""


class MissingKeyError(FolderError, KeyError):
    """A key that a JSON file of the folder must hold is absent."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotes


class UnknownModuleError(FolderError, ImportError):
    """A folder names a library module that does not exist."""


class WeightsError(FourfoldError, RuntimeError):
    """Weights do not fit the module that asks for them."""


class FeatureError(FourfoldError, TypeError):
    """A module needs a feature of another kind than the module before it wrote."""


class MissingFeatureError(FourfoldError, KeyError):
    """A module needs a feature that no module before it wrote; the message names both."""

    __str__ = Exception.__str__


class FirstModuleError(FourfoldError, AttributeError):
    """The first module of a model, or of a route, takes no inputs."""


class ShapeError(FourfoldError, RuntimeError):
    """Tensors that must fit together do not."""


class PlacementError(FourfoldError, RuntimeError):
    """A model cannot be moved or cast, since something else has placed it."""


class MissingMethodError(FourfoldError, AttributeError):
    """The transformers model inside lacks a method that was asked of it."""


class MissingExtraError(FourfoldError, ImportError):
    """An optional package is not installed; the message holds the command that installs it."""


class MissingTrainingError(MissingExtraError, RuntimeError):
    """A package that training needs is not installed; the message holds the command that installs it."""


class MissingNameError(FourfoldError, ModuleNotFoundError):
    """The contract has a name or a path that fourfold does not have yet."""


class AliasError(FourfoldError, RuntimeError):
    """The older library's name cannot be taken over, since the library itself is imported."""


class TrainingError(FourfoldError, RuntimeError):
    """A trainer lacks what it trains, or was given things that exclude each other."""


class SearchIndexError(FourfoldError, RuntimeError):
    """A search index is damaged, locked for too long, or written by a newer version."""


class WorkerError(FourfoldError, RuntimeError):
    """Processes of a pool died, or one raised an error that cannot be sent; the message names process and exit code."""


def require(package: str, extra: str, purpose: str) -> None:
    """Raise :class:`MissingExtraError` unless ``package`` can be imported.

    Args:
        package: Import name, e.g. ``"torch"``.
        extra: Name of fourfold's extra that brings it.
        purpose: What needs it, as the start of a sentence, e.g. ``"SentenceTransformer"``.
    """
    if not installed(package):
        raise MissingExtraError(
            f'{purpose} needs the package {package}. Install it with: pip install "fourfold[{extra}]"'
        )


def require_training(purpose: str) -> None:
    """Raise :class:`MissingTrainingError` unless all packages of the extra ``train`` can be imported."""
    for package in ("accelerate", "datasets"):
        if not installed(package):
            raise MissingTrainingError(
                f'{purpose} needs the package {package}. Install it with: pip install "fourfold[train]"'
            )


def check_positive(**numbers: int) -> None:
    """Raise :class:`InputError` naming the first number below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} must be at least 1, got {number}")


def installed(package: str) -> bool:
    """Whether a package can be imported; it is not."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def stand_in(name: str, refuse: Callable[[], None], doc: str) -> type:
    """Return a class that takes the place of one that is not to be had here: it can be named, and not be built.

    Args:
        name: Name of the class.
        refuse: Raises the error that says why.
        doc: The class's docstring.
    """

    def build(self: object, *args: object, **kwargs: object) -> None:
        refuse()

    return type(name, (), {"__init__": build, "__doc__": doc})


def did_you_mean(got: object, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known name, or an empty string."""
    import difflib  # only for a mistake: a start that goes well does not pay for it

    near = difflib.get_close_matches(str(got), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
