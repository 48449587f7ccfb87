"""Rows of one batch that go different ways: kept apart, and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fourfold.containers import Tokens, offsets_of
from fourfold.errors import ShapeError
from fourfold.modules._base import Features
from fourfold.modules._packed import layout
from fourfold.ops.attention import Packing
from fourfold.ops.splade import VocabularyLogits
from fourfold.text.modality import Modality

Way = tuple[str | None, Modality | None]
"""A task and a modality, which lead to a route."""

PARTS = "parts"
"""The feature that holds a :class:`Parts`."""

# Features that hold something for each token; the layout of the texts says which token is whose.
_OF_TOKENS = ("input_ids", "token_type_ids", "token_embeddings")
_LAYOUT = frozenset(
    ["attention_mask", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "packing"]
)


@dataclass(frozen=True)
class Routed(Tokens):
    """Token ids, and the way that each row goes.

    Attributes:
        ways: The ways there are.
        way: ``[rows]``, each row's index into ``ways``.
    """

    ways: tuple[Way, ...] = ()
    way: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    @classmethod
    def merged(cls, parts: Sequence[tuple[Way, NDArray[np.int64], Tokens]]) -> Routed:
        """Return the tokens of several ways in one; each way comes with the numbers of its rows."""
        ways = tuple(way for way, _, _ in parts)
        counts = [len(rows) for _, rows, _ in parts]
        tokens = Tokens.joined([tokens for _, _, tokens in parts])
        way = np.repeat(np.arange(len(parts), dtype=np.int32), counts)
        whole = cls(tokens.ids, tokens.offsets, tokens.type_ids, ways=ways, way=way)
        return whole if len(parts) == 1 else whole.take(np.argsort(np.concatenate([rows for _, rows, _ in parts])))

    def take(self, rows: NDArray[np.int64]) -> Routed:
        """Return the given rows, packed anew in the given order."""
        taken = super().take(rows)
        return Routed(taken.ids, taken.offsets, taken.type_ids, ways=self.ways, way=self.way[rows])

    def by_way(self) -> Iterator[tuple[Way, NDArray[np.int64]]]:
        """Yield each way that some row goes, with the numbers of its rows."""
        for number in np.unique(self.way).tolist():
            yield self.ways[number], np.flatnonzero(self.way == number)


class PerRow(tuple[Any, ...]):
    """A feature that is no tensor and has a value of its own for each row."""

    __slots__ = ()


@dataclass(frozen=True)
class Part:
    """The features of those rows of a batch that go one way."""

    way: Way
    rows: NDArray[np.int64]
    features: Features


@dataclass(frozen=True)
class Parts:
    """All rows of a batch, way by way; ``packed`` says in which layout later modules take texts."""

    parts: list[Part]
    packed: bool

    def each_way(self, change: Callable[[Way, Features], Features]) -> Parts:
        """Return the same with the features of each way changed, such as by the modules of its route."""
        parts = [replace(part, features=change(part.way, part.features)) for part in self.parts]
        return Parts(parts, self.packed)


# -- features of several ways ------------------------------------------------------------------------------------------


def merge(parts: Parts) -> Features:
    """Return the features of all parts as those of one batch, in its order of rows.

    What is not one a row or a token in every part is left out.

    Raises:
        ShapeError: If the vectors differ in width.
    """
    found = [part.features for part in parts.parts]
    names = [name for name in found[0] if all(name in features for features in found)]
    order = np.argsort(np.concatenate([part.rows for part in parts.parts]))
    columns = [_texts(part.features, names) for part in parts.parts]
    common = [name for name in columns[0] if all(name in column for column in columns)]
    texts = {name: [row for column in columns for row in column[name]] for name in common}
    merged = _laid_out({name: [rows[i] for i in order] for name, rows in texts.items()}, packed=parts.packed)
    for name in names:
        if name in merged or name in _LAYOUT or name in _OF_TOKENS:
            continue
        values = [features[name] for features in found]
        if all(isinstance(value, Tensor) for value in values):
            if name == "sentence_embedding":
                merged[name] = _vectors(parts.parts, values, order)
            elif _are_rows(parts.parts, values):
                merged[name] = torch.cat(values)[torch.from_numpy(order).to(values[0].device)]
        else:
            merged.update(_settings(name, parts.parts, values, order))
    return merged


def divide(features: Features, ways: Sequence[Way]) -> Parts:
    """Return the features of a batch apart for each way; ``ways`` has one for each row."""
    known = list(dict.fromkeys(ways))
    number = np.array([known.index(way) for way in ways])
    packed = "cu_seq_lens_q" in features
    texts = _texts(features, features)
    parts = []
    for i, way in enumerate(known):
        rows = np.flatnonzero(number == i)
        taken = _laid_out({name: [column[row] for row in rows] for name, column in texts.items()}, packed=packed)
        for name, value in features.items():
            if name in taken or name in _LAYOUT:
                continue
            if isinstance(value, PerRow):
                taken[name] = PerRow(value[row] for row in rows)
            elif isinstance(value, Tensor) and value.ndim and len(value) == len(ways):
                taken[name] = value.index_select(0, torch.from_numpy(rows).to(value.device))
            else:
                taken[name] = value
        taken["task"], modality = way
        if modality is not None:
            taken["modality"] = modality
        parts.append(Part(way, rows, taken))
    return Parts(parts, packed)


def _texts(features: Features, names: Sequence[str] | Features) -> dict[str, list[Tensor]]:
    """Return the features that hold something for each token, text by text: ``[tokens, ...]`` each."""
    found = {}
    for name in (name for name in _OF_TOKENS if name in names):
        value = features[name]
        if isinstance(value, VocabularyLogits):
            if "sentence_embedding" in features:
                continue  # they have been pooled, and are larger than all else
            value = value.whole()
        rows = _rows_of(features, value)
        if rows is not None:
            found[name] = rows
    return found


def _rows_of(features: Features, value: Any) -> list[Tensor] | None:
    offsets, mask = features.get("cu_seq_lens_q"), features.get("attention_mask")
    if not isinstance(value, Tensor) or value.ndim < 2:
        return None
    if offsets is not None:
        lengths = offsets.diff().tolist()
        return list(value[0, : sum(lengths)].split(lengths)) if len(value) == 1 else None
    if mask is None or value.shape[:2] != mask.shape:
        return None
    return [row[kept] for row, kept in zip(value, mask.bool(), strict=True)]


def _laid_out(columns: Mapping[str, list[Tensor]], *, packed: bool) -> Features:
    """Return features of texts in one layout, with what tells it."""
    if not columns:
        return {}
    first = next(iter(columns.values()))
    lengths = [len(row) for row in first]
    if not packed:
        features: Features = {name: pad_sequence(rows, batch_first=True) for name, rows in columns.items()}
        places = torch.arange(max(lengths), device=first[0].device)
        features["attention_mask"] = (places < torch.tensor(lengths, device=places.device)[:, None]).long()
        return features
    packing = Packing(offsets_of(lengths))
    offsets = torch.from_numpy(packing.offsets).int().to(first[0].device)
    return {**{name: torch.cat(rows)[None] for name, rows in columns.items()}, **layout(offsets, packing)}


def _are_rows(parts: Sequence[Part], values: Sequence[Tensor]) -> bool:
    """Whether tensors hold something for each row, of one shape in all parts."""
    fit = all(value.ndim and len(value) == len(part.rows) for part, value in zip(parts, values, strict=True))
    return fit and len({value.shape[1:] for value in values}) == 1 and not any(value.is_sparse for value in values)


def _vectors(parts: Sequence[Part], values: Sequence[Tensor], order: NDArray[np.int64]) -> Tensor:
    """Return the vectors of all parts, ``[rows, width]``; sparse if all of them are."""
    widths = [value.shape[-1] for value in values]
    if len(set(widths)) > 1:
        ways = ", ".join(f"{part.way[0]!r}: {width}" for part, width in zip(parts, widths, strict=True))
        raise ShapeError(
            f"inputs of one call go routes whose vectors have different widths ({ways}); encode each task in a call of "
            "its own"
        )
    if not all(value.is_sparse for value in values):
        dense = [value.to_dense() if value.is_sparse else value for value in values]
        return torch.cat(dense)[torch.from_numpy(order).to(dense[0].device)]
    whole = [value.coalesce() for value in values]
    device = whole[0].device
    place = torch.from_numpy(np.concatenate([part.rows for part in parts])).to(device)
    starts = np.cumsum([0, *map(len, whole[:-1])]).tolist()
    indices = torch.cat(
        [
            value.indices() + torch.tensor([[start], [0]], device=device)
            for value, start in zip(whole, starts, strict=True)
        ],
        dim=1,
    )
    indices = torch.stack([place[indices[0]], indices[1]])
    weights = torch.cat([value.values() for value in whole])
    return torch.sparse_coo_tensor(indices, weights, (len(order), widths[0]), check_invariants=False).coalesce()


def _settings(name: str, parts: Sequence[Part], values: Sequence[Any], order: NDArray[np.int64]) -> Features:
    """Return a feature that is no tensor: one value if the parts agree, else one for each row."""
    if not all(value is None or isinstance(value, (str, int, float, tuple)) for value in values):
        return {}
    if all(type(value) is type(values[0]) and value == values[0] for value in values):
        return {name: values[0]}
    each = [value for part, value in zip(parts, values, strict=True) for _ in part.rows]
    each = [each[i] for i in order]
    if all(isinstance(value, int) for value in each):
        return {name: torch.tensor(each)}
    return {name: PerRow(each)}
