"""Turn token vectors into one vector a text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from fourfold.errors import FeatureError, InputError, did_you_mean
from fourfold.modules._base import Features, Module, needed
from fourfold.modules._segments import segments_of
from fourfold.notices import renamed_keywords
from fourfold.ops import pooling
from fourfold.ops.pooling import Segments
from fourfold.store.source import Source

_MODES: dict[str, Callable[..., Tensor]] = {
    "cls": pooling.cls,
    "lasttoken": pooling.last,
    "max": pooling.maximum,
    "mean": pooling.mean,
    "mean_sqrt_len_tokens": pooling.mean_sqrt,
    "weightedmean": pooling.weighted_mean,
}
# Older folders and calls say the mode by one boolean each; several are concatenated in this order.
_OLD_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


class Pooling(Module):
    """Pool ``token_embeddings`` into ``sentence_embedding``.

    Args:
        embedding_dimension: Width of the token vectors.
        pooling_mode: ``cls``, ``lasttoken``, ``max``, ``mean``, ``mean_sqrt_len_tokens`` or ``weightedmean``; several
            are concatenated in the given order.
        include_prompt: Whether the prompt's tokens take part.

    Raises:
        InputError: If a mode is unknown.
    """

    POOLING_MODES: ClassVar[tuple[str, ...]] = tuple(_MODES)
    config_keys: ClassVar[list[str]] = ["embedding_dimension", "pooling_mode", "include_prompt"]
    config_key_renames: ClassVar[dict[str, str]] = {"word_embedding_dimension": "embedding_dimension"}
    packed = True

    @renamed_keywords(word_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        embedding_dimension: int,
        pooling_mode: str | Sequence[str] = "mean",
        include_prompt: bool = True,
        **deprecated: Any,
    ) -> None:
        super().__init__()
        flags = {key: deprecated.pop(key) for key in list(deprecated) if key in _OLD_FLAGS}
        if flags:
            message = f"Pooling({', '.join(flags)}) is deprecated; use pooling_mode="
            warnings.warn(message, FutureWarning, stacklevel=2)
            pooling_mode = _mode_from_flags(flags)
        if deprecated:
            raise TypeError(f"Pooling got an unexpected keyword argument {next(iter(deprecated))!r}")
        if not isinstance(embedding_dimension, int) or embedding_dimension < 1:
            raise InputError(f"embedding_dimension must be a positive number of features, got {embedding_dimension!r}")
        self.embedding_dimension = embedding_dimension
        self.modes = _checked(pooling_mode)
        self.include_prompt = include_prompt

    @classmethod
    def example(cls) -> Pooling:
        """Return a tiny instance for tests."""
        return cls(8, ("cls", "mean"))

    @property
    def pooling_mode(self) -> str | tuple[str, ...]:
        """The mode, or the modes whose results are concatenated."""
        return self.modes[0] if len(self.modes) == 1 else self.modes

    @property
    def pooling_output_dimension(self) -> int:
        """Width of ``sentence_embedding``."""
        return len(self.modes) * self.embedding_dimension

    def get_embedding_dimension(self) -> int:
        """Return the width of ``sentence_embedding``."""
        return self.pooling_output_dimension

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Pool ``token_embeddings``, ``[rows, longest, width]`` with a mask or ``[1, tokens, width]`` packed."""
        tokens = needed(features, "token_embeddings", self)
        segments = self._segments(features, tokens)
        flat = tokens.reshape(-1, tokens.shape[-1])
        pooled = [self._pool(mode, flat, segments, features) for mode in self.modes]
        features["sentence_embedding"] = pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)
        return features

    def _segments(self, features: Features, tokens: Tensor) -> Segments:
        skip = 0 if self.include_prompt else features.get("prompt_length", 0)
        if isinstance(skip, Tensor):
            skip = skip.flatten()
            skip = int(skip[0]) if bool((skip == skip[0]).all()) else skip
        return segments_of(features, tokens, skip)

    @staticmethod
    def _pool(mode: str, flat: Tensor, segments: Segments, features: Features) -> Tensor:
        if mode == "cls" and "cls_token_embeddings" in features:
            if features["cls_token_embeddings"] is None:
                raise FeatureError("pooling_mode 'cls' needs a first token that stands for the text; words have none")
            return features["cls_token_embeddings"]
        divisor = features.get("token_weights_sum")
        if divisor is None or mode not in ("mean", "mean_sqrt_len_tokens", "weightedmean"):
            return _MODES[mode](flat, segments)
        return _MODES[mode](flat, segments, divisor).to(torch.promote_types(flat.dtype, divisor.dtype))

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings."""
        self.save_config(output_path)

    @classmethod
    def read_config(cls, source: Source) -> dict[str, Any]:
        """Return the settings; the booleans of older folders become ``pooling_mode``."""
        config = super().read_config(source)
        flags = {key: config.pop(key) for key in list(config) if key in _OLD_FLAGS}
        if flags:
            config.setdefault("pooling_mode", _mode_from_flags(flags))
        return config


def _mode_from_flags(flags: dict[str, Any]) -> str | list[str]:
    modes = [mode for flag, mode in _OLD_FLAGS.items() if flags.get(flag)]
    return modes or "mean"


def _checked(pooling_mode: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(pooling_mode, (str, list, tuple)):
        raise InputError(f"pooling_mode must be a mode or a list of modes, got {pooling_mode!r}")
    modes = (pooling_mode,) if isinstance(pooling_mode, str) else tuple(pooling_mode)
    for mode in modes:
        if mode not in _MODES:
            known = ", ".join(_MODES)
            raise InputError(f"pooling_mode must be one of {known}; got {mode!r}.{did_you_mean(mode, _MODES)}")
    if not modes:
        raise InputError("pooling_mode must name at least one mode, got an empty list")
    return modes
