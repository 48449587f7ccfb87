"""Static token embeddings in numpy: no torch, no network, ready in milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fourfold.backends._texts import TextBackend
from fourfold.containers import Tokens
from fourfold.errors import FolderError, InputError
from fourfold.ops.similarity import unit
from fourfold.store.layouts import part_name
from fourfold.store.manifest import ModuleEntry, read_modules
from fourfold.store.source import Source
from fourfold.store.tokenizer import read_tokenizer
from fourfold.store.weights import SAFETENSORS_FILE, read_arrays
from fourfold.text.tokenizer import FastTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class StaticBackend(TextBackend):
    """Average int8 or float token vectors.

    Args:
        tokenizer: Texts to ids, without special tokens.
        rows: ``[rows, width]``, memory-mapped or not, of any real dtype.
        mapping: ``[vocabulary]`` row of each token; None is the token's own number.
        weights: ``[vocabulary]`` factor of each token; None is 1.
        normalize: Whether the model itself ends in unit length.
        max_length: Tokens after which a text is cut, where its tokenizer asks for that.
        base: What the tokenizer was made from, to remember the words of many texts where it allows that.
    """

    def __init__(
        self,
        tokenizer: FastTokenizer,
        rows: NDArray[Any],
        mapping: NDArray[Any] | None = None,
        weights: NDArray[Any] | None = None,
        *,
        normalize: bool = False,
        max_length: int | None = None,
        base: Tokenizer | None = None,
    ) -> None:
        super().__init__(tokenizer, max_length, base)
        self._rows = rows
        self._mapping = mapping
        self._weights = weights
        self._normalize = normalize

    @staticmethod
    def fits(source: Source) -> bool:
        """Whether a folder is a model that this backend runs: static embeddings, perhaps normalised."""
        return _is_static(read_modules(source) or [])

    @classmethod
    def open(cls, source: Source) -> StaticBackend:
        """Open a model folder.

        Raises:
            InputError: If the folder holds other modules.
            FolderError: If its weights are unusable.
        """
        entries = read_modules(source) or []
        if not _is_static(entries):
            parts = ", ".join(entry.type for entry in entries) or "no modules.json"
            raise InputError(f"{source.pretty()} is no static model ({parts}); the static backend cannot run it")
        inside = source.at(entries[0].path)
        origin = inside.pretty(SAFETENSORS_FILE)
        arrays = read_arrays(inside)
        rows = arrays.get("embedding.weight", arrays.get("embeddings"))
        if rows is None or rows.ndim != 2:
            raise FolderError(
                f"{origin} must hold 'embedding.weight' or 'embeddings' of two dimensions, got {', '.join(arrays)}"
            )
        mapping, weights = (arrays.get(key) if "embeddings" in arrays else None for key in ("mapping", "weights"))
        tokenizer = read_tokenizer(inside)
        truncation = tokenizer.truncation
        _check_table(origin, len(rows), mapping, weights, tokenizer.get_vocab_size())
        fast = FastTokenizer(tokenizer, add_special_tokens=False, owned=True)
        return cls(
            fast,
            rows,
            mapping,
            weights,
            normalize=len(entries) == 2,
            max_length=truncation["max_length"] if truncation else None,
            base=tokenizer,
        )

    @property
    def width(self) -> int:
        """Width of the vectors."""
        return int(self._rows.shape[1])

    def run(self, batch: Tokens) -> NDArray[np.float32]:
        """Return the mean vector of each text, float32 ``[rows, width]``; zeros for a text without tokens."""
        ids = batch.ids
        vectors = self._rows[ids if self._mapping is None else self._mapping[ids]].astype(np.float32)
        if self._weights is not None:
            vectors *= self._weights[ids, None]
        means = np.zeros((len(batch), self.width), dtype=np.float32)
        filled = batch.lengths > 0
        if len(ids):
            sums = np.add.reduceat(vectors, batch.offsets[:-1][filled], axis=0)
            means[filled] = sums / batch.lengths[filled, None].astype(np.float32)
        return unit(means) if self._normalize else means


def _is_static(entries: list[ModuleEntry]) -> bool:
    names = [part_name(entry.type) for entry in entries]
    return names in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"])


def _check_table(origin: str, rows: int, mapping: Any, weights: Any, vocabulary: int) -> None:
    for name, values in (("mapping", mapping), ("weights", weights)):
        if values is not None and (values.ndim != 1 or (name == "mapping" and values.dtype.kind not in "iu")):
            kind = "row numbers" if name == "mapping" else "numbers"
            raise FolderError(
                f"{origin}: {name!r} must be a list of {kind}, got {values.dtype} of shape {values.shape}"
            )
    known = rows if mapping is None else len(mapping)
    if known < vocabulary:
        raise FolderError(f"{origin} has vectors for {known} tokens, tokenizer.json has {vocabulary}")
    if weights is not None and len(weights) < vocabulary:
        raise FolderError(f"{origin} has weights for {len(weights)} tokens, tokenizer.json has {vocabulary}")
    if mapping is not None and len(mapping) and (mapping.max() >= rows or mapping.min() < 0):
        raise FolderError(f"{origin}: 'mapping' names row {int(mapping.max())} of {rows}")
