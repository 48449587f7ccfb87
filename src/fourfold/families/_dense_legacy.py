"""Members of the dense class from earlier generations. Each says what replaced it, and works."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fourfold.engine.workers import WorkerPool
from fourfold.modules._base import Features


class DenseLegacy(nn.Module):
    """The part of the dense class that only older scripts use."""

    encode: Any
    truncate_embeddings: Any
    preprocess: Any
    _first_module: Any

    @contextmanager
    def truncate_sentence_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Do what ``truncate_embeddings`` does, under its older name."""
        # One frame more: contextlib runs this from a frame of its own.
        _warn("truncate_sentence_embeddings is deprecated; use truncate_embeddings", FutureWarning, stacklevel=4)
        with self.truncate_embeddings(truncate_dim):
            yield

    def encode_multi_process(
        self,
        sentences: list[str],
        pool: WorkerPool,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: str | None = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> NDArray[Any]:
        """Return what ``encode(sentences, pool=pool, ...)`` returns, ``[rows, width]``."""
        _warn("encode_multi_process is deprecated; use encode(..., pool=pool)", DeprecationWarning)
        return self.encode(
            sentences,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
        )

    def get_sentence_features(self, *features: Any) -> Features:
        """Return what the first module's method of this name returns."""
        _warn("get_sentence_features is deprecated; use preprocess", DeprecationWarning)
        return self._first_module().get_sentence_features(*features)

    @staticmethod
    def load(input_path: str) -> Any:
        """Build a model from its folder, as the constructor does."""
        from fourfold.families.dense import SentenceTransformer

        _warn("SentenceTransformer.load(path) is deprecated; use SentenceTransformer(path)", DeprecationWarning)
        return SentenceTransformer(input_path)

    def smart_batching_collate(self, batch: Sequence[Any]) -> tuple[list[Features], Tensor]:
        """Return the features of each column of texts, and the labels, of a batch of examples.

        Args:
            batch: Objects with ``texts``, as many in each, and ``label``: a number, a list of numbers or an array.
        """
        columns = zip(*(example.texts for example in batch), strict=True)
        labels = [example.label for example in batch]
        if labels and isinstance(labels[0], np.ndarray):
            return [self.preprocess(list(column)) for column in columns], torch.from_numpy(np.stack(labels))
        return [self.preprocess(list(column)) for column in columns], torch.tensor(labels)


def _warn(message: str, category: type[Warning], stacklevel: int = 3) -> None:
    warnings.warn(message, category, stacklevel=stacklevel)
