"""What a graph is fed: of what a batch has, what the graph takes, and what follows from that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fourfold.errors import InputError
from fourfold.runtimes import Graph


def fed(graph: Graph, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a graph is fed: of what there is what it takes, and what follows from that.

    Args:
        graph: The graph.
        arrays: ``input_ids`` and ``attention_mask`` int64 ``[rows, longest]``, and what else there is.
    """
    found: dict[str, Any] = {}
    ids, mask = arrays["input_ids"], arrays.get("attention_mask")
    for name, shape in graph.inputs.items():
        if name in arrays:
            found[name] = np.asarray(arrays[name], dtype=np.int64, order="C")  # a single number stays one
        elif name == "token_type_ids":
            found[name] = np.zeros(ids.shape, np.int64)
        elif name == "attention_mask":
            found[name] = np.ones(ids.shape, np.int64)
        elif name == "position_ids":
            real = np.ones(ids.shape, np.int64) if mask is None else mask
            found[name] = np.maximum(np.cumsum(real, axis=1) - 1, 0)
        elif name.startswith("past_key_values"):
            found[name] = np.zeros((len(ids), shape[1] or 1, 0, shape[3] or 1), np.float32)
        elif name == "use_cache_branch":
            found[name] = np.zeros(1, dtype=bool)
        else:
            raise InputError(f"the graph takes {name!r}, which no text has; name another file with file_name")
    return found
