"""What a router does with inputs: each is prepared by the first module of its own route."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Tokens
from fourfold.errors import FirstModuleError, InputError
from fourfold.modules._base import Features, InputModule, packs, prepare, tokenises
from fourfold.modules._router_rows import PARTS, Part, Parts, PerRow, Routed, Way
from fourfold.modules._router_tasks import by_task, stated_tasks
from fourfold.text.modality import Modality, infer_batch_modality
from fourfold.text.tokenizer import FastTokenizer


class RouterInputs(InputModule):
    """The part of :class:`~fourfold.modules.router.Router` that turns inputs into features."""

    @abstractmethod
    def route(self, task: str | None = None, modality: Modality | None = None) -> Any:
        """Return the chain of modules that a task and a modality lead to."""

    @abstractmethod
    def _possible(self, kwargs: Mapping[str, Any]) -> list[Any]:
        """Return every route that a call with these arguments may take, before its inputs are seen."""

    def _first(self, task: str | None, modality: Modality | None) -> Any:
        chain = self.route(task, modality)
        first = chain[0] if len(chain) else None
        if first is None or not (hasattr(first, "preprocess") or hasattr(first, "tokenize")):
            route = next(name for name, other in self.sub_modules.items() if other is chain)
            found = "it is empty" if first is None else f"it begins with {type(first).__name__}"
            raise FirstModuleError(
                f"the route {route!r}, to which task {task!r} leads, has no module that takes inputs: {found}"
            )
        return first

    def _groups(
        self, inputs: Sequence[Any], task: str | None, modality: Modality | None
    ) -> list[tuple[Way, NDArray[np.int64], list[Any]]]:
        """Return the ways that inputs go, each with its rows and its inputs, out of their one-key dictionaries."""
        stated = stated_tasks(inputs) if task is None else None
        if stated is None:
            return [((task, modality or _modality(inputs)), np.arange(len(inputs)), list(inputs))]
        return [((name, modality or _modality(items)), rows, items) for name, rows, items in by_task(inputs, stated)]

    def preprocess(
        self,
        inputs: list[Any],
        prompt: str | None = None,
        task: str | None = None,
        modality: Modality | None = None,
        **kwargs: Any,
    ) -> Features:
        """Turn inputs into features by the route's first module; ``task`` and ``modality`` are among them.

        Raises:
            InputError: If the inputs state different tasks.
        """
        groups = self._groups(inputs, task, modality)
        if len(groups) > 1:
            stated = sorted(str(task) for (task, _), _, _ in groups)
            raise InputError(
                f"a batch of padded features is of one task, the inputs state {', '.join(map(repr, stated))}; encode "
                "takes them together where every route tokenises texts, else give each task a call of its own"
            )
        ((task, modality), _, items), *_ = groups
        first = self._first(task, modality)
        return _told(prepare(first, items, prompt, {**kwargs, "task": task}), task, modality)

    # -- in steps ----------------------------------------------------------------------------------------------------

    def tokenises(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether every route that a call may take tokenises and batches in steps of their own."""
        return all(len(chain) > 0 and tokenises(chain[0], kwargs) for chain in self._possible(kwargs))

    def packs(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether every route that a call may take runs packed."""
        return all(_packs(chain, kwargs) for chain in self._possible(kwargs))

    def packs_some(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether some route that a call may take runs packed; :meth:`pack` pads for the others."""
        return any(_packs(chain, kwargs) for chain in self._possible(kwargs))

    def locating_tokenizer(self, **kwargs: Any) -> FastTokenizer | None:
        """Return the tokenizer of the route's first module, if that tells where tokens stand in a text."""
        first = self._first(kwargs.get("task"), kwargs.get("modality"))
        return first.locating_tokenizer(**kwargs) if isinstance(first, InputModule) else None

    def longest_input(self, **kwargs: Any) -> float | None:
        """Return the most tokens that the route keeps of a text."""
        first = self._first(kwargs.get("task"), kwargs.get("modality"))
        return first.longest_input(**kwargs) if isinstance(first, InputModule) else None

    def tokenise(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Tokens:
        """Return the token ids of each input by its own route's first module, and the way that each goes."""
        parts = []
        for way, rows, items in self._groups(inputs, kwargs.get("task"), kwargs.get("modality")):
            tokens = self._first(*way).tokenise(items, prompt, **{**kwargs, "task": way[0]})
            parts.append((way, rows, tokens))
        return Routed.merged(parts)

    def pack(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into packed features by their routes' first modules; padded ones where a route needs them."""
        return self._in_parts(tokens, prompt, kwargs, packed=True)

    def pad(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into padded features by their routes' first modules."""
        return self._in_parts(tokens, prompt, kwargs, packed=False)

    def _in_parts(self, tokens: Tokens, prompt: str | None, kwargs: dict[str, Any], *, packed: bool) -> Features:
        """Return features; of rows that go different ways, each way's own under the name ``parts``."""
        ways = _ways(tokens, kwargs)
        if len(ways) == 1:
            return self._by_first(ways[0][0], tokens, prompt, kwargs, packed=packed)
        parts, task = [], np.empty(len(tokens), dtype=object)
        for way, rows in ways:
            features = self._by_first(way, tokens.take(rows), prompt, kwargs, packed=packed)
            parts.append(Part(way, rows, features))
            task[rows] = way[0]
        return {PARTS: Parts(parts, packed), "task": PerRow(task)}

    def _by_first(
        self, way: Way, tokens: Tokens, prompt: str | None, kwargs: dict[str, Any], *, packed: bool
    ) -> Features:
        task, modality = way
        first, given = self._first(task, modality), {**kwargs, "task": task}
        step = first.pack if packed and _packs(self.route(task, modality), given) else first.pad
        return _told(step(tokens, prompt, **given), task, modality)


def _packs(chain: Any, kwargs: Mapping[str, Any]) -> bool:
    return all(packs(part, kwargs) for part in chain)


def _ways(tokens: Tokens, kwargs: Mapping[str, Any]) -> list[tuple[Way, NDArray[np.int64]]]:
    """Return the ways that tokens go: what a call says holds for all of them."""
    task, modality = kwargs.get("task"), kwargs.get("modality")
    if isinstance(tokens, Routed) and len(tokens) and task is None:
        return [((task, modality or kind), rows) for (task, kind), rows in tokens.by_way()]
    return [((task, modality or "text"), np.arange(len(tokens)))]


def _modality(inputs: Sequence[Any]) -> Modality | None:
    """Return the modality that a batch has; None if it has none, for the route's own module says what it lacks."""
    try:
        return infer_batch_modality(inputs) if len(inputs) else None
    except InputError:
        return None


def _told(features: Features, task: str | None, modality: Modality | None) -> Features:
    features["task"] = task
    if modality is not None:
        features.setdefault("modality", modality)
    return features
