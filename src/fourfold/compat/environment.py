"""What is installed and where the program runs, as the older library's helpers say it."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from fourfold.ops.processes import get_rank as get_rank
from fourfold.ops.processes import get_world_size as get_world_size
from fourfold.ops.processes import is_dist_initialized as is_dist_initialized
from fourfold.store.manifest import check_requirements


def get_device_name() -> str:
    """Return the device that a model goes to when none is asked for, such as ``cuda:0``, ``mps`` or ``cpu``."""
    from fourfold.families._placement import best_device

    return str(best_device())


def get_installed_version(package_name: str) -> str | None:
    """Return the version of a package, by its import or distribution name, or None if it is not installed.

    >>> get_installed_version("no-such-package")
    >>> get_installed_version("python") == platform.python_version()
    True
    """
    if package_name == "python":
        return platform.python_version()
    try:
        version = getattr(importlib.import_module(package_name), "__version__", None)
    except ImportError:
        version = None
    if version is not None:
        return str(version)
    try:
        return importlib.metadata.version(package_name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_version_requirements(requirements: Mapping[str, Any] | None, source: str | None = None) -> None:
    """Raise ``ImportError`` listing every requirement that is not met.

    Args:
        requirements: A version specifier for each package, or ``{"specifier": ..., "reason": ...}``. ``python`` and
            ``pytorch`` are understood; what cannot be read is skipped with a warning.
        source: What requires them, for the message.
    """
    check_requirements(requirements or None, source or "this model")


def check_package_availability(package_name: str, owner: str) -> bool:
    """Whether a package is installed and its home page names ``owner``, so that it is not another of the same name."""
    try:
        metadata = importlib.metadata.metadata(package_name)
        importlib.import_module(package_name)
    except (importlib.metadata.PackageNotFoundError, ImportError):
        return False
    if metadata["Name"] != package_name:
        return False
    labelled = [url.partition(",") for url in metadata.get_all("Project-URL") or []]
    pages = [page for label, _, page in labelled if label.strip().lower() in ("homepage", "home-page")]
    return any(owner in page for page in [*(metadata.get_all("Home-page") or []), *pages])


def is_accelerate_available() -> bool:
    """Whether Hugging Face's accelerate is installed."""
    return check_package_availability("accelerate", "huggingface")


def is_datasets_available() -> bool:
    """Whether Hugging Face's datasets is installed."""
    return check_package_availability("datasets", "huggingface")


def is_training_available() -> bool:
    """Whether both accelerate and datasets are installed."""
    return is_accelerate_available() and is_datasets_available()
