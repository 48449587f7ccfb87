"""One weight a token in numpy: the inference-free side of sparse models, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fourfold.backends._texts import TextBackend
from fourfold.containers import Terms, Tokens
from fourfold.errors import FolderError, InputError
from fourfold.modules._router_folder import CONFIG_FILE, Layout, opened
from fourfold.store.layouts import part_name
from fourfold.store.manifest import read_modules
from fourfold.store.source import Source
from fourfold.store.token_weights import check_size, find_weights, read_weights
from fourfold.store.tokenizer import TOKENIZER_FILE, SavedTokenizer
from fourfold.store.weights import SAFETENSORS_FILE, read_arrays, read_header
from fourfold.text.tokenizer import FastTokenizer

if TYPE_CHECKING:
    from collections.abc import Collection

_SETTINGS_FILE = "config.json"
_MODULE = "SparseStaticEmbedding"


class SparseStaticBackend(TextBackend):
    """Give each token that a text holds, once, a weight of its own (Geng et al. 2024, arXiv:2411.04403).

    Args:
        saved: The tokenizer; it adds no special tokens.
        weights: ``[vocabulary]``.
    """

    def __init__(self, saved: SavedTokenizer, weights: NDArray[Any]) -> None:
        fast = FastTokenizer(saved.base, add_special_tokens=False, truncation_side=saved.truncation_side, owned=True)
        super().__init__(fast, saved.max_length, saved.base)
        self.saved = saved
        self._weights = np.asarray(weights, dtype=np.float32)

    @staticmethod
    def fits(source: Source) -> bool:
        """Whether a model's queries are looked up in weights that numpy reads, by a tokenizer that has a file."""
        try:
            table = table_of(source, "query")
        except InputError:  # a router without queries
            return False
        return table is not None and table.file(TOKENIZER_FILE) is not None and _has_weights(table)

    @classmethod
    def open(cls, source: Source) -> SparseStaticBackend:
        """Open the folder of a ``SparseStaticEmbedding``.

        Raises:
            FolderError: If a file of it is unusable.
            WeightsError: If some token has no weight.
        """
        saved = SavedTokenizer.read(source)
        vocabulary = saved.base.get_vocab()
        path = _json_path(source)
        if path is not None:
            origin = source.pretty(path)
            weights: NDArray[Any] = read_weights(find_weights(source, path), vocabulary, origin)
        else:
            origin = source.pretty(SAFETENSORS_FILE)
            found = read_arrays(source)
            weights = found.get("weight", np.zeros((0, 0)))
            if weights.ndim != 1 or weights.dtype.kind != "f":
                raise FolderError(
                    f"{origin} must hold 'weight', one number a token; got {', '.join(found) or 'nothing'}"
                )
        check_size(len(weights), vocabulary, origin)
        return cls(saved, weights)

    @property
    def width(self) -> int:
        """Number of weights."""
        return len(self._weights)

    def tokens(self, terms: NDArray[np.int32]) -> list[str]:
        """Return the tokens that the terms of rows stand for."""
        return [self.saved.base.id_to_token(term) or "" for term in terms.tolist()]

    def run(self, batch: Tokens) -> Terms:
        """Return the weight of each token that a row holds; tokens of weight 0 are left out."""
        weights = self._weights[batch.ids]
        row = np.repeat(np.arange(len(batch)), batch.lengths)
        # Sorted by row, then by term; a token that stands there twice is one.
        places = np.unique((row * self.width + batch.ids)[weights != 0])
        row, terms = np.divmod(places, max(self.width, 1))
        offsets = np.searchsorted(row, np.arange(len(batch) + 1))
        return Terms(offsets, terms.astype(np.int32), self._weights[terms], self.width)


def table_of(source: Source, task: str | None) -> Source | None:
    """Return the folder of weights that inputs of a task are looked up in; None if their way is another.

    Args:
        source: The model's folder.
        task: ``query``, ``document`` or another that a router of the model knows; None for its default.

    Raises:
        FolderError: If a file of the folder is unusable.
        InputError: If a router knows no such task.
    """
    entries = read_modules(source) or []
    return _within(source.at(entries[0].path), entries[0].type, task) if len(entries) == 1 else None


def _within(source: Source, kind: str, task: str | None) -> Source | None:
    name = part_name(kind)
    if name != "Router":
        return source if name == _MODULE else None
    with opened(source, CONFIG_FILE):
        layout = Layout.read(source)
        chain = layout.chain(task, "text")
        return _within(source.at(chain[0]), layout.types[chain[0]], task) if len(chain) == 1 else None


def _has_weights(table: Source) -> bool:
    if _json_path(table) is not None:
        return True
    path = table.file(SAFETENSORS_FILE)
    if path is None:
        return False
    header, _ = read_header(path, table.pretty(SAFETENSORS_FILE))
    kinds: Collection[Any] = [entry.get("dtype") for entry in header.values() if isinstance(entry, dict)]
    return "BF16" not in kinds  # which numpy lacks


def _json_path(table: Source) -> str | None:
    path = table.object(_SETTINGS_FILE).get("path")
    return path if isinstance(path, str) and path.endswith(".json") else None
