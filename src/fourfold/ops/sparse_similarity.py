"""How alike sparse rows are: the formulas of :mod:`~fourfold.ops.similarity` over entries, for torch tensors.

Neither side becomes dense. A product of all pairs is a weighted sum of rows of a narrow table, an embedding bag, which
runs over the entries of one side and a few rows of the other at a time; memory above the result stays bounded. All of
it is differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fourfold.errors import InputError, ShapeError
from fourfold.ops.sparse import as_coo

_SMALLEST_NORM = 1e-12
# Numbers in a table, about what a cache keeps: 64 rows of BERT's vocabulary.
_TABLE = 2**21
# A table with longer rows than this gains nothing.
_LONGEST = 4096
# Entries looked up at once, and pairs of entries met at once.
_ENTRIES = 2**22
_PAIRS = 2**18
# Two entries that are brought together cost as much as so many numbers of a table.
_MEETING = 100
# Where less than this share of two squared lengths is left of a distance, too few bits of float32 are left too.
_CANCELLED = 1e-3


@dataclass(frozen=True)
class Entries:
    """The entries of sparse rows, in order.

    Attributes:
        row: int64 ``[entries]``, ascending.
        term: int64 ``[entries]``, ascending within a row.
        weight: ``[entries]``.
        rows: Number of rows.
        width: Number of terms that there are.
    """

    row: Tensor
    term: Tensor
    weight: Tensor
    rows: int
    width: int

    @classmethod
    def of(cls, vectors: Tensor) -> Entries:
        """Return the entries of ``[rows, width]``, sparse or dense; those of one place are added up."""
        vectors = as_coo(vectors)
        row, term = vectors.indices()
        return cls(row, term, vectors.values(), vectors.shape[0], vectors.shape[1])

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def offsets(self) -> Tensor:
        """Where each row begins, and the end: int64 ``[rows + 1]``."""
        return torch.searchsorted(self.row, torch.arange(self.rows + 1, device=self.row.device))

    def kept(self, which: Tensor) -> Entries:
        """Return the same rows with some entries alone, given by mask or number."""
        return replace(self, row=self.row[which], term=self.term[which], weight=self.weight[which])

    def between(self, start: int, stop: int) -> Entries:
        """Return the rows from ``start`` to before ``stop``, views."""
        part = slice(int(self.offsets[start]), int(self.offsets[stop]))
        return Entries(self.row[part] - start, self.term[part], self.weight[part], stop - start, self.width)

    def taken(self, rows: Tensor) -> Entries:
        """Return the given rows in the given order."""
        starts, lengths = self.offsets[:-1][rows], self.offsets.diff()[rows]
        row = torch.repeat_interleave(lengths)
        place = torch.arange(len(row), device=row.device) + (starts - lengths.cumsum(0) + lengths)[row]
        return Entries(row, self.term[place], self.weight[place], len(rows), self.width)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield where runs of rows that together have a bounded number of entries start and stop."""
        offsets = self.offsets.cpu()
        start = 0
        while start < self.rows:
            stop = int(torch.searchsorted(offsets, offsets[start] + _ENTRIES, right=True)) - 1
            stop = max(stop, start + 1)
            yield start, stop
            start = stop

    def sums(self, numbers: Tensor) -> Tensor:
        """Add up numbers, one an entry, by row: ``[rows]``."""
        return numbers.new_zeros(self.rows).index_add(0, self.row, numbers)

    def unit(self) -> Entries:
        """Return the rows scaled to length 1; a row of zeros stays."""
        norms = _root(self.sums(self.weight * self.weight)).clamp(min=_SMALLEST_NORM)
        return replace(self, weight=self.weight / norms[self.row])


def compare_sparse(name: str, a: Tensor, b: Tensor, *, pairwise: bool = False) -> Tensor:
    """Return similarities of which at least one side is a sparse tensor, as a dense tensor.

    Args:
        name: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``.
        a: ``[rows, width]`` or ``[width]``; whole numbers are taken as float32.
        b: As ``a``, sparse if ``a`` is dense.
        pairwise: Compare row ``i`` of ``a`` with row ``i`` of ``b``, instead of every row with every row.

    Raises:
        InputError: If there are more than two dimensions.
        ShapeError: If the widths, or the numbers of rows that are paired, or the data types of products differ.
    """
    single = a.ndim == b.ndim == 1
    a, b = (v.unsqueeze(0) if v.ndim == 1 else v for v in (a, b))
    a, b = (v if v.is_floating_point() else v.float() for v in (a, b))
    for vectors in (a, b):
        if vectors.ndim != 2:
            raise InputError(f"sparse vectors must be [rows, width] or [width], got the shape {list(vectors.shape)}")
    if a.shape[1] != b.shape[1]:
        raise ShapeError(f"vectors to compare must be of one width, got {a.shape[1]} and {b.shape[1]}")
    if pairwise:
        if len(a) != len(b):
            raise ShapeError(f"rows to compare in pairs must be as many on both sides, got {len(a)} and {len(b)}")
        scores = _PAIRWISE[name](a, b)
        return scores[0] if single else scores
    if name == "manhattan":
        a, b = (v.to(other.dtype) if v.layout == torch.strided else v for v, other in ((a, b), (b, a)))
    elif a.dtype != b.dtype:
        raise ShapeError(f"vectors to compare must be of one data type, got {a.dtype} and {b.dtype}")
    return _ALL_PAIRS[name](a, b)


# -- all pairs -------------------------------------------------------------------------------------------------------


def _entries(vectors: Tensor) -> Entries | Tensor:
    return vectors if vectors.layout == torch.strided else Entries.of(vectors)


def _squares(vectors: Entries | Tensor) -> Tensor:
    if isinstance(vectors, Entries):
        return vectors.sums(vectors.weight * vectors.weight)
    return (vectors * vectors).sum(-1)


def _root(squares: Tensor) -> Tensor:
    """Return square roots whose gradient at 0 is 0."""
    if not squares.requires_grad:
        return squares.sqrt()
    nothing = squares == 0
    return squares.masked_fill(nothing, 1).sqrt().masked_fill(nothing, 0)


def _dot(a: Entries | Tensor, b: Entries | Tensor) -> Tensor:
    """Return the products of all rows, at most one side dense."""
    if isinstance(a, Tensor):
        assert isinstance(b, Entries)
        return _products(b, a).T
    if isinstance(b, Tensor):
        return _products(a, b)
    first, second = _cost(a, b), _cost(b, a)
    met = int((torch.bincount(a.term, minlength=a.width) * torch.bincount(b.term, minlength=b.width)).sum())
    if _MEETING * met < min(first, second):
        return _met(a, b, torch.mul)
    return _products(a, b) if first <= second else _products(b, a).T


def _cost(bag: Entries, other: Entries) -> int:
    """Return the work of :func:`_products`, in numbers that are read or written."""
    return other.rows * (len(bag) + min(other.width, len(other)))


def _products(bag: Entries, other: Entries | Tensor) -> Tensor:
    """Return the products of all rows, ``[rows of bag, rows of other]``, by sums of rows of tables of the other."""
    if isinstance(other, Entries):
        # Terms that one side lacks are left out of both, and the table is as much smaller.
        used = _has(bag) & _has(other)
        numbers = used.cumsum(0) - 1
        other = _renumbered(other, used, numbers)
    scores = bag.weight.new_empty(bag.rows, len(other) if isinstance(other, Tensor) else other.rows)
    for start, stop in bag.blocks():
        some = bag.between(start, stop)
        if isinstance(other, Entries):
            some = _renumbered(some, used, numbers)
        for first, table in _tables(other):
            scores[start:stop, first : first + table.shape[1]] = functional.embedding_bag(
                some.term, table, some.offsets, mode="sum", per_sample_weights=some.weight, include_last_offset=True
            )
    return scores


def _has(rows: Entries) -> Tensor:
    """Return which terms occur: bool ``[width]``."""
    return torch.zeros(rows.width, dtype=torch.bool, device=rows.term.device).index_fill_(0, rows.term, True)


def _renumbered(rows: Entries, used: Tensor, numbers: Tensor) -> Entries:
    """Return rows without the terms that are not used, the others numbered anew."""
    which = used[rows.term]
    rows = rows if which.all() else rows.kept(which.nonzero()[:, 0])
    return replace(rows, term=numbers[rows.term], width=int(numbers[-1]) + 1 if len(numbers) else 0)


def _tables(vectors: Entries | Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield ``[width, some rows]``, dense, with the number of the first row."""
    rows, width = vectors.shape if isinstance(vectors, Tensor) else (vectors.rows, vectors.width)
    step = min(max(_TABLE // max(width, 1), 8), _LONGEST)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        if isinstance(vectors, Tensor):
            yield start, vectors[start:stop].T.contiguous()
        else:
            some = vectors.between(start, stop)
            table = some.weight.new_zeros(width, stop - start)
            table[some.term, some.row] = some.weight
            yield start, table


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    first, second = _entries(a), _entries(b)
    units = (v.unit() if isinstance(v, Entries) else functional.normalize(v) for v in (first, second))
    return _dot(*units)


def _euclidean(a: Tensor, b: Tensor) -> Tensor:
    first, second = _entries(a), _entries(b)
    lengths = _squares(first)[:, None] + _squares(second)
    squares = lengths.addcmul(_dot(first, second), lengths.new_tensor(-2.0))
    near = squares < _CANCELLED * lengths
    if squares.dtype == torch.float32 and near.any():
        squares = _again(first, second, squares, near)
    return -_root(squares.clamp(min=0))


def _again(a: Entries | Tensor, b: Entries | Tensor, squares: Tensor, near: Tensor) -> Tensor:
    """Compute the squared distances of rows that are near to one of the others again, in float64."""
    rows = near.any(1).nonzero()[:, 0]
    some = _double(a.taken(rows) if isinstance(a, Entries) else a[rows])
    others = _double(b)
    exact = _squares(some)[:, None] + _squares(others) - 2 * _dot(some, others)
    return squares.index_copy(0, rows, exact.clamp(min=0).to(squares.dtype))


def _double(vectors: Any) -> Any:
    return vectors.double() if isinstance(vectors, Tensor) else replace(vectors, weight=vectors.weight.double())


def _manhattan(a: Tensor, b: Tensor) -> Tensor:
    """Return minus L1 distances: the lengths of both rows, less twice what they share; summed in float64."""
    first, second = (_double(Entries.of(v)) for v in (a, b))
    scores = _shared(first, second).mul_(2)
    scores.sub_(first.sums(first.weight.abs())[:, None]).sub_(second.sums(second.weight.abs()))
    return scores.to(a.dtype).clamp(max=0)


def _shared(a: Entries, b: Entries) -> Tensor:
    """Return for all rows the sum, over terms of the same sign in both, of the smaller absolute weight."""
    return _met(a, b, lambda x, y: torch.minimum(x.abs(), y.abs()) * (x * y > 0))


def _met(a: Entries, b: Entries, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return for all rows the sum of what ``combine`` makes of the weights of each term that both have."""
    b = b.kept(_has(a)[b.term].nonzero()[:, 0])
    b = b.kept(torch.argsort(b.term, stable=True))
    counts = torch.bincount(b.term, minlength=b.width)
    starts = counts.cumsum(0) - counts
    pairs = counts[a.term]
    ends = pairs.cumsum(0)
    found = a.weight.new_zeros(a.rows * b.rows)
    start = 0
    while start < len(a):
        # An entry of a meets those of its term in b; some entries at a time.
        before = int(ends[start - 1]) if start else 0
        stop = max(int(torch.searchsorted(ends, before + _PAIRS, right=True)), start + 1)
        lengths = pairs[start:stop]
        mine = torch.repeat_interleave(lengths)
        first = starts[a.term[start:stop]] - (ends[start:stop] - lengths - before)
        theirs = first[mine] + torch.arange(len(mine), device=mine.device)
        numbers = combine(a.weight[start:stop][mine], b.weight[theirs])
        place = (a.row[start:stop] * b.rows)[mine] + b.row[theirs]
        found = found.index_add(0, place, numbers) if numbers.requires_grad else found.index_add_(0, place, numbers)
        start = stop
    return found.view(a.rows, b.rows)


# -- row by row ------------------------------------------------------------------------------------------------------


def _pairwise_dot(a: Tensor, b: Tensor) -> Tensor:
    if a.layout == torch.strided:
        a, b = b, a
    first = Entries.of(a)
    if b.layout == torch.strided:
        return first.sums(first.weight * b[first.row, first.term])
    second = Entries.of(b)
    # Where an entry of the second would stand among those of the first, and whether there is one of its place.
    keys, wanted = (v.row * v.width + v.term for v in (first, second))
    place = torch.searchsorted(keys, wanted)
    if not len(keys):
        return second.sums(second.weight * 0)
    place.clamp_(max=len(keys) - 1)
    met = (keys[place] == wanted).nonzero()[:, 0]
    both = second.kept(met)
    return both.sums(both.weight * first.weight[place[met]])


def _pairwise_cosine(a: Tensor, b: Tensor) -> Tensor:
    norms = [_root(_squares(_entries(v))).clamp(min=_SMALLEST_NORM) for v in (a, b)]
    return _pairwise_dot(a, b) / (norms[0] * norms[1])


def _difference(a: Tensor, b: Tensor) -> Entries:
    first, second = Entries.of(a), Entries.of(b)
    indices = torch.stack([torch.cat([first.row, second.row]), torch.cat([first.term, second.term])])
    weights = torch.cat([first.weight, -second.weight])
    return Entries.of(torch.sparse_coo_tensor(indices, weights, a.shape, check_invariants=False))


def _pairwise_euclidean(a: Tensor, b: Tensor) -> Tensor:
    return -_root(_squares(_difference(a, b)))


def _pairwise_manhattan(a: Tensor, b: Tensor) -> Tensor:
    difference = _difference(a, b)
    return -difference.sums(difference.weight.abs())


_ALL_PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "dot": lambda a, b: _dot(_entries(a), _entries(b)),
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
_PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _pairwise_cosine,
    "dot": _pairwise_dot,
    "euclidean": _pairwise_euclidean,
    "manhattan": _pairwise_manhattan,
}
