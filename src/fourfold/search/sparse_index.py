"""An index of sparse rows on disk: exact search by dot product, grown and shrunk in place."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Terms
from fourfold.errors import InputError
from fourfold.ops.terms import as_terms
from fourfold.search.arrays import save_arrays
from fourfold.search.inverted import Inverted, save, save_merged
from fourfold.search.lock import locked
from fourfold.search.maxscore import MaxScore
from fourfold.search.sparse_catalog import IDS, ROWS, Part, Sparse
from fourfold.search.sparse_rows import chunks, tidied

_CHUNK = 1 << 21  # entries turned around at a time: some 150 MB of working memory
_MOST_PIECES = 256  # files that are open at once while rows are added
_FAN_IN = 4  # this many parts of like size become one
_MOST_DEAD = 0.3  # a part with a larger share of removed rows is written anew


class SparseHits(NamedTuple):
    """The best rows of each query, best first; equal scores by ascending id.

    Attributes:
        ids: int64 ``[queries, top_k]``; -1 where there are no more hits.
        scores: float32 ``[queries, top_k]``; minus infinity there.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]


class SparseIndex:
    """Sparse rows, found by their dot product with a sparse query, exactly.

    The index lies in a folder; its files are mapped, so it is not in memory as a whole. Every change is complete on
    disk when its call returns, and one that is interrupted or killed leaves the index as it was. One process at a time
    may change it, any number may search; :meth:`refresh` shows them what others have changed.

    A hit is a row whose score is above 0: rows that share no term with a query are not found. Scores are computed in
    float64 and rounded to float32.

    >>> import tempfile
    >>> rows = Terms.of(np.array([[0, 2.0, 0, 1.0], [0, 0, 3.0, 0], [0, 1.0, 1.0, 0]]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = SparseIndex(folder)
    ...     added = index.add(rows)
    ...     hits = index.search(Terms.of(np.array([[0, 1.0, 0, 0.5]])), top_k=3)
    >>> hits.ids.tolist(), hits.scores.tolist()
    ([[0, 2, -1]], [[2.5, 1.0, -inf]])

    Args:
        folder: Where it lies; made when something is first added.
        timeout: Seconds to wait for another process that changes the index.

    Raises:
        SearchIndexError: if the index is damaged or from a newer version.
    """

    def __init__(self, folder: str | os.PathLike[str], *, timeout: float = 600.0) -> None:
        self.folder = Path(folder)
        self.timeout = timeout
        self._sparse = Sparse.read(self.folder)
        self._idle: list[MaxScore] = []

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> SparseIndex:
        """Return the index in ``folder``.

        Raises:
            InputError: if there is none.
            SearchIndexError: if it is damaged or from a newer version.
        """
        index = cls(folder)
        if not index._sparse.generation:
            raise InputError(f"{index.folder} holds no sparse index; make one with SparseIndex(folder).add(rows)")
        return index

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(part.live for part in self._sparse.parts)

    @property
    def width(self) -> int | None:
        """Number of terms that there are; None as long as nothing was ever added."""
        return self._sparse.width

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids of all rows, ascending."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(part.living() for part in self._sparse.parts)]))

    @property
    def nbytes(self) -> int:
        """Size of the index on disk."""
        files = (self.folder / (part.name + suffix) for part in self._sparse.parts for suffix in (ROWS, IDS))
        return sum(file.stat().st_size for file in files)

    def refresh(self) -> None:
        """Show what other processes have changed since this object last looked."""
        self._show(Sparse.read(self.folder))

    def search(self, queries: Any, top_k: int = 10, *, threads: int = 1) -> SparseHits:
        """Return the best rows of each query.

        Args:
            queries: Sparse rows of any kind, as :meth:`add` takes them.
            top_k: How many hits a query gets at most.
            threads: How many queries are searched for at once.

        Raises:
            InputError: if an argument is out of range, or the queries are not of the index's width.
            SearchIndexError: if the index turns out to be damaged.
        """
        if top_k < 1 or threads < 1:
            raise InputError(f"top_k and threads must be at least 1; got {top_k} and {threads}")
        asked = tidied(as_terms(queries, argument="queries"), argument="queries")
        self._check_width(self._sparse.width, asked, "queries")
        hits = SparseHits(np.full((len(asked), top_k), -1, np.int64), np.full((len(asked), top_k), -np.inf, np.float32))
        sparse, idle = self._sparse, self._idle

        def answer(numbers: range) -> None:
            searcher = idle.pop() if idle else MaxScore([p.rows for p in sparse.parts], [p.alive for p in sparse.parts])
            for number in numbers:
                _answer(searcher, sparse.parts, asked.row(number), hits.ids[number], hits.scores[number])
            idle.append(searcher)

        shares = [range(first, len(asked), threads) for first in range(min(threads, len(asked)))]
        if len(shares) < 2:
            for share in shares:
                answer(share)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(answer, shares))
        return hits

    def add(
        self, rows: Any, *, ids: Sequence[int] | NDArray[np.integer] | None = None, show_progress_bar: bool = False
    ) -> NDArray[np.int64]:
        """Add rows, all or none of them; returns their ids.

        Args:
            rows: Sparse rows: :class:`~fourfold.containers.Terms`; a torch tensor, COO, CSR or dense; a scipy matrix or
                array; a dense numpy array; ``[rows, width]`` each. Or an iterable of such, which then need not be in
                memory at once. Weights become float32, and entries of the same row and term are added up.
            ids: A number from 0 on for each row, each once; a row that has one of them already is replaced. None
                counts on from the largest ever used.
            show_progress_bar: Whether to show how many rows are done.

        Raises:
            InputError: if rows or ids are unusable.
            SearchIndexError: if the index is damaged, or another process changes it for longer than ``timeout``.
        """
        with self._writing() as sparse:
            given = None if ids is None else _checked_ids(ids)
            name, number = sparse.new_name(), 0
            pieces: list[Inverted] = []
            for piece in self._pieces(sparse, rows, show_progress_bar):
                pieces.append(piece)
                number += piece.rows
                if len(pieces) > 1:  # one alone stays in memory
                    self._spill(name, pieces)
            if given is not None and len(given) != number:
                raise InputError(f"ids must be as many as rows; got {len(given)} for {number}")
            fresh = np.arange(sparse.next_id, sparse.next_id + number) if given is None else given
            if number:
                self._save(name, pieces, [None] * len(pieces), fresh)
                if given is not None:
                    sparse.bury(fresh)
                sparse.parts.append(Part.open(self.folder, name))
                sparse.next_id = max(sparse.next_id, int(fresh.max()) + 1)
            sparse.commit(self.folder)
            self._merge(sparse)
        return fresh

    def remove(self, ids: Sequence[int] | NDArray[np.integer]) -> None:
        """Forget rows.

        Raises:
            InputError: if the index has no row of one of the ids; then none is removed.
            SearchIndexError: if the index is damaged, or another process changes it for longer than ``timeout``.
        """
        gone = np.unique(np.asarray(ids, np.int64).reshape(-1))
        with self._writing() as sparse:
            unknown = np.setdiff1d(gone, np.concatenate([gone[:0], *(part.living() for part in sparse.parts)]))
            if len(unknown):
                raise InputError(f"the index has no rows of {len(unknown)} of the ids, {int(unknown[0])} for one")
            sparse.bury(gone)
            sparse.commit(self.folder)
            self._merge(sparse)

    def clear(self) -> None:
        """Forget every row, also what is damaged, and the width; ids count on from 0."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, self.timeout):
            sparse = Sparse()
            sparse.commit(self.folder)
            sparse.sweep(self.folder)
        self._show(sparse)

    @contextmanager
    def _writing(self) -> Iterator[Sparse]:
        """Hold the writers' lock and give the newest state; what an error leaves behind is deleted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, self.timeout):
            sparse = Sparse.read(self.folder)
            sparse.sweep(self.folder)
            try:
                yield sparse
            finally:
                sparse = Sparse.read(self.folder)
                sparse.sweep(self.folder)
        self._show(sparse)

    def _show(self, sparse: Sparse) -> None:
        self._sparse, self._idle = sparse, []

    def _pieces(self, sparse: Sparse, rows: Any, show_progress_bar: bool) -> Iterator[Inverted]:
        from tqdm.auto import tqdm

        single = isinstance(rows, Terms) or hasattr(rows, "shape") or not isinstance(rows, Iterable)
        waiting: list[Terms] = []
        with tqdm(desc="Indexing", unit="row", disable=not show_progress_bar) as bar:
            for matrix in [rows] if single else rows:
                terms = as_terms(matrix)
                if single:
                    bar.reset(len(terms))
                self._check_width(sparse.width, terms, "rows")
                sparse.width = terms.width
                for chunk in chunks(terms, _CHUNK):
                    # Small ones are gathered.
                    waiting.append(chunk)
                    if sum(len(some.terms) + len(some) for some in waiting) >= _CHUNK:
                        yield Inverted.of(tidied(Terms.joined(waiting)))
                        waiting = []
                    bar.update(len(chunk))
            if waiting:
                yield Inverted.of(tidied(Terms.joined(waiting)))

    def _spill(self, name: str, pieces: list[Inverted]) -> None:
        """Put the pieces that are in memory into files, and many files into one."""
        for number, piece in enumerate(pieces):
            if piece.name == "memory":
                target = self.folder / f"{name}-{os.urandom(4).hex()}{ROWS}"
                save(target, piece)
                pieces[number] = Inverted.open(target)
        if len(pieces) >= _MOST_PIECES:
            target = self.folder / f"{name}-{os.urandom(4).hex()}{ROWS}"
            save_merged(target, pieces, [None] * len(pieces))
            pieces[:] = [Inverted.open(target)]

    def _save(
        self,
        name: str,
        pieces: Sequence[Inverted],
        alive: Sequence[NDArray[np.bool_] | None],
        ids: NDArray[np.int64],
    ) -> None:
        target = self.folder / (name + ROWS)
        if len(pieces) == 1 and alive[0] is None:
            save(target, pieces[0])
        else:
            save_merged(target, pieces, alive)
        save_arrays(self.folder / (name + IDS), {"id": ids.astype("<i8", copy=False)}, {})

    def _merge(self, sparse: Sparse) -> None:
        """Merge parts of like size, and write those anew that have many removed rows."""
        groups: dict[int, list[Part]] = {}
        for part in sparse.parts:
            groups.setdefault(int(math.log(part.live, _FAN_IN)), []).append(part)
        chosen = [group for group in groups.values() if len(group) >= _FAN_IN]
        taken = {part.name for group in chosen for part in group}
        chosen += [[p] for p in sparse.parts if p.name not in taken and p.live < (1 - _MOST_DEAD) * p.rows.rows]
        for group in chosen:
            name = sparse.new_name()
            ids = np.concatenate([part.living() for part in group])
            self._save(name, [part.rows for part in group], [part.alive for part in group], ids)
            sparse.parts = [part for part in sparse.parts if part not in group]
            sparse.parts.append(Part.open(self.folder, name))
        if chosen:
            sparse.commit(self.folder)

    @staticmethod
    def _check_width(width: int | None, rows: Terms, argument: str) -> None:
        if width is not None and rows.width != width:
            raise InputError(f"{argument} must have the index's width {width}; got {rows.width}")


def _answer(
    searcher: MaxScore,
    parts: Sequence[Part],
    query: tuple[NDArray[np.int32], NDArray[Any]],
    ids: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Fill in one query's hits."""
    best = searcher.best(*query, len(ids))
    if len(parts) == 1:
        found = parts[0].ids[best.row]
    else:
        found = np.empty(len(best.row), np.int64)
        for number in np.unique(best.part).tolist():
            held = best.part == number
            found[held] = parts[number].ids[best.row[held]]
    order = np.lexsort((found, -best.score))[: len(ids)]
    ids[: len(order)], scores[: len(order)] = found[order], best.score[order]


def _checked_ids(ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    given = np.asarray(ids)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise InputError(f"ids must be a list of whole numbers; got {given.dtype} of shape {given.shape}")
    given = given.astype(np.int64)
    if given.size and int(given.min()) < 0:
        raise InputError(f"ids must be at least 0; got {int(given.min())}")
    once, counts = np.unique(given, return_counts=True)
    if len(once) < len(given):
        raise InputError(f"ids must differ; got {int(once[counts.argmax()])} {int(counts.max())} times")
    return given
