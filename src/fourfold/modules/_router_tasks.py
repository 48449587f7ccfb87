"""Which way a router sends inputs: by their task, then by their kind. Neither torch nor a folder is needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import InputError, did_you_mean
from fourfold.text.modality import NAMES, Modality

Key = tuple[str | None, Modality | None]
"""A task and a modality, None for any."""


def mapping_key(key: Any) -> Key:
    """Return a key of ``route_mappings`` with its modality in order; raises for what is no pair."""
    if not isinstance(key, tuple) or len(key) != 2:
        raise InputError(f"route_mappings: a key must be (task or None, modality or None), got {key!r}")
    return key[0], sorted_modality(key[1])


def sorted_modality(modality: Any) -> Any:
    """Return a modality with the names of a combined one in order."""
    return tuple(sorted(modality)) if isinstance(modality, (tuple, list)) else modality


def route_of(
    task: str | None, modality: Any, *, routes: Collection[str], mappings: Mapping[Key, str], default: str | None
) -> str:
    """Return the name of the route that a task and a modality lead to.

    Args:
        task: What the inputs are, None for nothing in particular.
        modality: Their kind, None for any.
        routes: Names of the routes.
        mappings: Routes by task and modality, which come first.
        default: The route of calls without a task.

    Raises:
        InputError: If the task leads nowhere, or none is given and there is no default route.
    """
    modality = sorted_modality(modality)
    for key in ((task, modality), (task, None), (None, modality), (None, None)):
        if key in mappings:
            return mappings[key]
    for name in (task, modality):
        if isinstance(name, str) and name in routes:
            return name
    if task is not None:
        known = [*routes, *(str(key) for key in mappings)]
        raise InputError(f"no route for task {task!r}; the routes are {listed(known)}.{did_you_mean(task, routes)}")
    if default is None:
        raise InputError(
            f"a task is needed, for there is no default route: give encode(..., task=) one of {listed(routes)}, or "
            "router_mapping in training arguments"
        )
    return default


def listed(names: Iterable[Any]) -> str:
    """Return names as an error message lists them."""
    return ", ".join(repr(name) for name in names)


def stated_tasks(inputs: Sequence[Any]) -> list[str] | None:
    """Return the task that each input states, as a one-key dictionary such as ``{"query": text}``.

    None is for plain inputs, of which dictionaries by modality and chat messages are some.

    Raises:
        InputError: If some inputs state one task and others do not.
    """
    keys = {tuple(item) for item in inputs if isinstance(item, dict)}
    if not keys or all(len(key) == 1 and key[0] in NAMES for key in keys) or _are_messages(inputs):
        return None
    stated = all(isinstance(item, dict) for item in inputs)
    if not stated or any(len(key) != 1 or not isinstance(key[0], str) or key[0] in NAMES for key in keys):
        raise InputError(
            "inputs that state their task do so all, each as a dictionary of one key like {'query': text}; got the "
            f"keys {sorted(map(str, keys))}{'' if stated else ' beside plain inputs'}. Or give the inputs alone and "
            "encode(..., task=)."
        )
    return [next(iter(item)) for item in inputs]


def by_task(inputs: Sequence[Any], stated: Sequence[str]) -> Iterator[tuple[str, NDArray[np.int64], list[Any]]]:
    """Yield each task that inputs state, with the numbers of its inputs, and these out of their dictionaries."""
    names = np.array([*stated, ""], dtype=object)[:-1]  # one-dimensional whatever the names are
    for task in dict.fromkeys(stated):
        rows = np.flatnonzero(names == task)
        yield task, rows, [inputs[row][task] for row in rows.tolist()]


def _are_messages(inputs: Sequence[Any]) -> bool:
    return all(isinstance(item, dict) and {"role", "content"} <= item.keys() for item in inputs)
