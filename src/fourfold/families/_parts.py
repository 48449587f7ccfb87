"""A model's modules and what is asked of them: the tokenizer, the length, the kinds of input, the backbone."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from fourfold.errors import InputError
from fourfold.modules.router import Router
from fourfold.modules.transformer import Transformer
from fourfold.notices import warn_once
from fourfold.text.inputs import character_count, is_single
from fourfold.text.modality import Modality, infer_batch_modality, raise_unsupported_modality_error, supports

logger = logging.getLogger(__name__)


class Parts(nn.Module):
    """The part of a model that answers for its modules."""

    module_kwargs: dict[str, list[str]] | None
    backend: str

    def _first_module(self) -> Any:
        return next(self.children())

    def _last_module(self) -> Any:
        return next(reversed(self._modules.values()))

    def get_model_kwargs(self) -> list[str]:
        """Return the names of keyword arguments that some module's ``forward`` takes from ``encode``."""
        parts = (part for module in self.children() for part in with_routes(module))
        names = {name for part in parts for name in getattr(part, "forward_kwargs", ())}
        return sorted(names.union(*(self.module_kwargs or {}).values()))

    # -- of the first module -----------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """The first module's tokenizer."""
        return self._first_module().tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        self._first_module().tokenizer = value

    @property
    def processor(self) -> Any:
        """The first module's processor: the tokenizer, or what also prepares images, audio and video."""
        return self._first_module().processor

    @property
    def max_seq_length(self) -> Any:
        """Longest input in tokens, special tokens included; longer ones are cut. None if nothing limits it."""
        return getattr(self._first_module(), "max_seq_length", None)

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self._first_module().max_seq_length = value

    def _longest(self) -> Any:
        """Return :attr:`max_seq_length`, without a word about routes that differ."""
        first = self._first_module()
        known = [length for length in first.lengths.values() if length is not None] if isinstance(first, Router) else []
        return max(known) if known else self.max_seq_length

    def get_max_seq_length(self) -> Any:
        """Return :attr:`max_seq_length`."""
        return self.max_seq_length

    @property
    def modalities(self) -> list[Modality]:
        """Kinds of input that the model takes: ``text``, ``image``, ``audio``, ``video``, ``message``, or tuples."""
        return getattr(self._first_module(), "modalities", ["text"])

    def supports(self, modality: Modality) -> bool:
        """Whether the model takes a kind of input; a tuple stands for inputs that combine several."""
        return supports(self.modalities, modality)

    def _check_modality(self, inputs: Sequence[Any]) -> None:
        if isinstance(self._first_module(), Router):
            return  # it takes dictionaries that state a task, and its routes say what they take
        modalities = self.modalities
        try:
            found = infer_batch_modality(inputs, modalities)
        except InputError:
            return  # of no known kind: the first module takes it, or refuses it itself
        if not supports(modalities, found):
            raise_unsupported_modality_error(inputs, found, modalities, type(self).__name__)

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether ``encode`` takes ``inputs`` as one input rather than a batch."""
        return is_single(inputs)

    def _text_length(self, text: Any) -> int:
        return character_count(text)

    # -- the backbone ------------------------------------------------------------------------------------------------

    @property
    def transformers_model(self) -> Any:
        """The transformers model inside the first ``Transformer``, or the first that is found at all; else None."""
        transformers = sys.modules.get("transformers")  # whoever has such a model has imported it
        if transformers is None:
            return None
        for module in self.modules():
            if isinstance(module, Transformer):
                return module.model
            if isinstance(module, transformers.PreTrainedModel):
                return module
        return None

    @property
    def config(self) -> Any:
        """The config of :attr:`transformers_model`, or None."""
        return getattr(self.transformers_model, "config", None)

    @config.setter
    def config(self, value: Any) -> None:
        if (backbone := self.transformers_model) is not None:
            backbone.config = value

    def get_backend(self) -> str:
        """Return the name of the backend."""
        return self.backend

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Save memory in training: compute activations again on the way back instead of keeping them.

        Args:
            gradient_checkpointing_kwargs: For ``torch.utils.checkpoint.checkpoint``.
            **kwargs: For the backbone's method of this name.
        """
        for module in itertools.islice(self.modules(), 1, None):
            # transformers 5 has a new name for it, and says so when it is called by the old one.
            new: Any = getattr(module, "activation_checkpointing_enable", None)
            old: Any = getattr(module, "gradient_checkpointing_enable", None)
            if new is None and old is None:
                continue
            if not getattr(module, "supports_gradient_checkpointing", True):
                warn_once(logger, f"{type(module).__name__} does not support gradient checkpointing and goes without")
            elif new is not None:
                new(activation_checkpointing_kwargs=gradient_checkpointing_kwargs, **kwargs)
            else:
                old(gradient_checkpointing_kwargs=gradient_checkpointing_kwargs, **kwargs)

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Do what :meth:`gradient_checkpointing_enable` does, under transformers' newer name for it."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, **kwargs)

    @property
    def _no_split_modules(self) -> list[str]:
        return []

    @property
    def _keys_to_ignore_on_save(self) -> list[str]:
        return []


def with_routes(module: nn.Module) -> Iterator[Any]:
    """Yield a module, and those that it sends features on to."""
    yield module
    if isinstance(module, Router):
        for _, _, part in module.parts():
            yield from with_routes(part)
