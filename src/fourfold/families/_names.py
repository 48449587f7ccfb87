"""How the public classes are shown."""

from __future__ import annotations

import sys
from abc import ABCMeta


class Shown(ABCMeta):
    """Metaclass of the encoders.

    Clients of the older library look for its name in ``str(type(model))``. While ``fourfold.compat`` answers to that
    name, the text names the path under which the class can then be imported. ``__module__`` stays as it is, so that a
    pickled model opens wherever fourfold is installed.
    """

    def __repr__(cls) -> str:
        alias = vars(sys.modules.get("sentence_transformers", sys)).get("__provider__") == "fourfold"
        if alias and cls.__module__.startswith("fourfold."):
            return f"<class 'sentence_transformers.{cls.__qualname__}'>"
        return super().__repr__()
