"""From inputs to features, for every family."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fourfold.backends.torch import TorchBackend
from fourfold.modules._base import Features, prepare
from fourfold.notices import warn_once

logger = logging.getLogger(__name__)


class Inputs:
    """The part of an encoder that turns inputs into features."""

    _name: Any
    _first_module: Any
    _check_modality: Any

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn a batch of inputs into features, by the first module; no inputs give an empty dictionary.

        Args:
            inputs: Texts, pairs of texts, or whatever else :attr:`modalities` lists.
            prompt: Put before each text.
            **kwargs: ``task`` and whatever else the first module takes.

        Raises:
            InputError: If the model does not take inputs of this kind.
        """
        if not len(inputs):
            return {}
        self._check_modality(inputs)
        return prepare(self._first_module(), inputs, prompt, kwargs)

    def batch_features(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn a batch of inputs into the features that the model runs fastest: packed where it can, else padded.

        They are what training runs; :meth:`preprocess`, which this calls where nothing can be packed, always pads.

        Args:
            inputs: As for :meth:`preprocess`.
            prompt: Put before each text.
            **kwargs: ``task`` and whatever else the first module takes.
        """
        if not len(inputs):
            return {}
        backend = TorchBackend(self, prompt, kwargs)
        return backend.laid_out(backend.prepare(inputs))

    def tokenize(self, texts: list[Any], **kwargs: Any) -> Features:
        """Do what :meth:`preprocess` does, under its older name."""
        warn_once(logger, f"{self._name()}.tokenize is deprecated; use preprocess")
        return self.preprocess(texts, **kwargs)
