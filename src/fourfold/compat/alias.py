"""Answer to the older library's name: ``import sentence_transformers`` gives fourfold."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fourfold.compat.namespaces import NamespaceFinder
from fourfold.compat.paths import OLD
from fourfold.errors import AliasError

_DISTRIBUTION = OLD.replace("_", "-")

SITE = Path(__file__).with_name("site")
"""A folder for ``PYTHONPATH``: a Python that has it there finds the old name by itself."""


class _AliasFinder(NamespaceFinder):
    def attributes(self) -> dict[str, Any]:
        """Return what clients ask of the older library itself, and how to tell that it is not that one."""
        from fourfold.store.manifest import CONTRACT_VERSION

        return {
            "__version__": CONTRACT_VERSION,
            "__MODEL_HUB_ORGANIZATION__": _DISTRIBUTION,
            "__provider__": "fourfold",
        }

    def find_distributions(self, context: Any = None) -> Iterator[Any]:
        """Yield what ``importlib.metadata`` then says about the older library."""
        wanted = getattr(context, "name", None)
        if wanted is None or wanted.replace("_", "-").lower() == _DISTRIBUTION:
            yield _distribution()


def _distribution() -> Any:
    from importlib.metadata import Distribution

    from fourfold.store.manifest import CONTRACT_VERSION

    texts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {_DISTRIBUTION}\nVersion: {CONTRACT_VERSION}\n"
        "Summary: fourfold under this name\n",
        "top_level.txt": f"{OLD}\n",
    }

    class Alias(Distribution):
        def read_text(self, filename: str) -> str | None:
            return texts.get(filename)

        def locate_file(self, path: Any) -> Any:
            return SITE / path

    return Alias()


_finder = _AliasFinder(OLD, warns=True)


def _loaded() -> list[str]:
    return [name for name in sys.modules if name == OLD or name.startswith(f"{OLD}.")]


def install_alias() -> None:
    """Make ``import sentence_transformers``, and every path below it that fourfold has, give fourfold.

    Holds for this process, until :func:`uninstall_alias`; calling it again does nothing. A deprecated path warns on its
    first import, as it does in the older library. ``sentence_transformers.__version__`` is the version that fourfold is
    equal to.

    Raises:
        AliasError: If the real package is imported already: objects of both would meet.
    """
    if _finder in sys.meta_path:
        return
    if _loaded():
        place = getattr(sys.modules.get(OLD), "__file__", None) or "somewhere"
        raise AliasError(
            f"{OLD} is imported already, from {place}; call fourfold.compat.install_alias() before anything imports it"
        )
    sys.meta_path.insert(0, _finder)
    importlib.import_module(OLD)


def uninstall_alias() -> None:
    """Undo :func:`install_alias`; what was imported under the old name stays usable where it is."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
        for name in _loaded():
            del sys.modules[name]
