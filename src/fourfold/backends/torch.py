"""Run a model of torch modules: packed where every module takes it, padded otherwise."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fourfold.containers import Items, Tokens
from fourfold.modules._base import Features, packs, tokenises
from fourfold.modules._router_rows import Parts
from fourfold.ops.linear import fastest_linear, runs_plain, runs_short
from fourfold.text.inputs import character_count

# Tokens above which a batch gets no faster: a CPU's cache is full, a GPU's cores are busy.
_BEST_TOKENS = {"cpu": 2048, "cuda": 65536}
_BEST_TOKENS_ELSEWHERE = 16384
# Padded batches are smaller on a CPU: fewer texts differ less in length, and the scores of whole batches stay in the
# cache, where packed ones are computed a text length at a time. MPNet, DeBERTa-v2 and T5 ran 1.15 to 1.25 times as
# fast with 512 as with 2048.
_BEST_PADDED_CPU_TOKENS = 512
# glibc gives blocks of 32 MB and more back to the system when they are freed, and mapping them anew costs a tenth of
# the time: the widest tensor of a batch, float32 [tokens, intermediate], stays below that.
_CPU_NUMBERS = 8_000_000


class TorchBackend:
    """Run the modules of a model on batches of texts.

    Args:
        model: An encoder: modules in order, called with features.
        prompt: Put before each text.
        kwargs: Keyword arguments of ``encode`` for ``preprocess`` and ``forward``.
        pad: Never pack, because the caller wants features as padded tensors.
    """

    def __init__(
        self, model: Any, prompt: str | None = None, kwargs: dict[str, Any] | None = None, *, pad: bool = False
    ) -> None:
        self.model = model
        self.prompt = prompt
        self.kwargs = kwargs or {}
        self.first = model[0]
        # A class that overrides preprocess, or a module of somebody else, is asked for whole batches of features.
        self.tokenises = not _replaced(model) and tokenises(self.first, self.kwargs)
        # Compiled code traces neither the packed attention nor the choice of another matrix library.
        self.compiled = _is_compiled(model)
        pad = pad or self.compiled
        can = self.tokenises and not pad and all(packs(module, self.kwargs) for module in list(model)[1:])
        self.packed = can and packs(self.first, self.kwargs)
        # Where a router has routes of both kinds, each text runs as its own can; batches are planned as padded ones.
        self._packs_some = can and self.first.packs_some(self.kwargs)

    @property
    def best_tokens(self) -> int:
        """Tokens of a batch above which this device gets no faster."""
        return self.best_tokens_on(self.model.device.type)

    def best_tokens_on(self, kind: str) -> int:
        """Return :attr:`best_tokens` as it would be on a kind of device: ``cpu``, ``cuda``, ..."""
        best = _BEST_TOKENS.get(kind, _BEST_TOKENS_ELSEWHERE)
        if kind == "cpu" and not self.packed:
            best = _BEST_PADDED_CPU_TOKENS
        width = getattr(self.first, "widest", None)
        if kind != "cpu" or not isinstance(width, int):
            return best
        return max(1, min(best, _CPU_NUMBERS // width))

    def prepare(self, items: Sequence[Any]) -> Tokens | Items:
        """Tokenise texts; inputs of other models are only measured here, and prepared with their batch."""
        if self.tokenises:
            return self.first.tokenise(items, self.prompt, **self.kwargs)
        return Items(list(items), np.array([character_count(item) for item in items], dtype=np.int64))

    def features(self, batch: Tokens | Items) -> Features:
        """Return a batch's features on the model's device."""
        features = self.laid_out(batch)
        device = self.model.device
        return features if device.type == "cpu" else _moved_features(features, device)

    def laid_out(self, batch: Tokens | Items) -> Features:
        """Return a batch's features on the CPU, packed where the model runs them so."""
        if isinstance(batch, Items):
            return self.model.preprocess(batch.values, prompt=self.prompt, **self.kwargs)
        if self._packs_some and not self._is_short(batch):
            return self.first.pack(batch, self.prompt, **self.kwargs)
        return self.first.pad(batch, self.prompt, **self.kwargs)

    def run(self, batch: Tokens | Items) -> Features:
        """Return the model's features for a batch."""
        plain = self.compiled or (isinstance(batch, Tokens) and runs_plain(self._room(batch), self.model.dtype))
        fastest = contextlib.nullcontext() if plain else fastest_linear(self.model.device)
        with torch.inference_mode(), fastest:
            return self.model(self.features(batch), **self.kwargs)

    def _is_short(self, batch: Tokens) -> bool:
        """Whether a batch is one short text: nothing is padded either way, and a packed layout would cost more."""
        return len(batch) == 1 and runs_short(len(batch.ids), self.model.dtype)

    def _room(self, batch: Tokens) -> int:
        """Return the tokens that a batch runs with, padding included where there is any."""
        return len(batch.ids) if self.packed else len(batch) * int(batch.lengths.max(initial=0))

    def out_of_memory(self, error: Exception) -> bool:
        """Whether torch could not allocate; the cache of a CUDA device is given back."""
        lacking = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
        if lacking and torch.cuda.is_available():
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()
        return lacking


def _moved_features(features: Features, device: torch.device) -> Features:
    return {key: _moved(value, device) for key, value in features.items()}


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Parts):
        return value.each_way(lambda way, features: _moved_features(features, device))
    if not isinstance(value, Tensor):
        return value
    if device.type == "cuda":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


def _replaced(model: Any) -> bool:
    """Whether somebody has replaced the whole of the model's ``preprocess``, or its older form."""
    return any(name in vars(model) or not _is_library(type(model), name) for name in ("preprocess", "tokenize"))


def _is_compiled(model: Any) -> bool:
    """Whether the model, or a part of it, runs as torch.compile has translated it."""
    if "torch._dynamo" not in sys.modules:
        return False
    return any(
        part._compiled_call_impl is not None or type(part).__name__ == "OptimizedModule" for part in every_part(model)
    )


def every_part(model: nn.Module) -> list[nn.Module]:
    """Return what ``modules()`` yields, several times as fast; a part that is shared comes once for each place."""
    found = [model]
    for module in found:  # which grows meanwhile
        for part in module._modules.values():
            if part is not None:
                found.append(part)
    return found


def _is_library(cls: type, method: str) -> bool:
    for base in cls.__mro__:
        if method in vars(base):
            return base.__module__.startswith("fourfold.")
    return True
