"""An index as it is at one moment: the catalog and its segments, open for reading, with no lock held."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourfold.errors import SearchIndexError
from fourfold.search.arrays import MEND
from fourfold.search.catalog import Catalog
from fourfold.search.lexical import Statistics
from fourfold.search.segments import Segment


@dataclass(frozen=True)
class Part:
    """A segment and which of its rows count.

    Attributes:
        segment: The open segment.
        first: ``[extents]`` ascending first rows of the files in it.
        count: ``[extents]`` rows of each.
        file: ``[extents]`` the file's number in the catalog.
        alive: ``[rows]`` mask of the rows that belong to a file; None if all do.
    """

    segment: Segment
    first: np.ndarray
    count: np.ndarray
    file: np.ndarray
    alive: np.ndarray | None

    def mask(self, extents: np.ndarray) -> np.ndarray:
        """Return ``[rows]``: whether a row belongs to one of the chosen extents."""
        edges = np.zeros(self.segment.rows + 1, np.int32)
        np.add.at(edges, self.first[extents], 1)
        np.add.at(edges, self.first[extents] + self.count[extents], -1)
        return np.cumsum(edges[:-1]) > 0

    def file_of(self, row: int) -> int:
        """Return the number of the file that a live row belongs to."""
        return int(self.file[np.searchsorted(self.first, row, side="right") - 1])


class Snapshot:
    """The open parts of one index."""

    def __init__(self, catalog: Catalog, parts: list[Part]) -> None:
        self.catalog, self.parts = catalog, parts

    @classmethod
    def read(cls, folder: Path) -> Snapshot:
        """Open an index; one that was never written is empty.

        Raises:
            SearchIndexError: if it is damaged.
        """
        for _ in range(20):
            catalog = Catalog.read(folder)
            try:
                return cls(catalog, [_open(folder, catalog, name) for name in catalog.segments])
            except FileNotFoundError as error:
                # A writer may have merged the segment away since the catalog was read: it has written a newer one.
                missing = error.filename
        raise SearchIndexError(f"the index in {folder} is damaged: {os.path.basename(missing)} is missing. {MEND}")  # noqa: PTH119

    @property
    def statistics(self) -> Statistics:
        """What BM25 needs to know of all live passages."""
        infos = self.catalog.segments.values()
        return Statistics(sum(info.live for info in infos), sum(info.length for info in infos))

    def masks(self, inside: Callable[[str], bool] | None) -> list[np.ndarray | None]:
        """Return for each part the mask of rows that may be found; None where all may.

        Args:
            inside: Tells by its name whether a file may be found; None if every file may.
        """
        if inside is None:
            return [part.alive for part in self.parts]
        allowed = np.array([inside(self.catalog.name(file)) for file in range(len(self.catalog.states))], bool)
        return [part.mask(allowed[part.file]) for part in self.parts]


def _open(folder: Path, catalog: Catalog, name: str) -> Part:
    segment, info = Segment(folder, name), catalog.segments[name]
    first, count, file = catalog.extents(name)
    if segment.rows != info.rows or (len(first) and int(first[-1] + count[-1]) > segment.rows):
        raise SearchIndexError(f"the index in {folder} is damaged: {name} does not fit the catalog. {MEND}")
    part = Part(segment, first, count, file, None)
    return part if info.live == info.rows else Part(segment, first, count, file, part.mask(np.arange(len(first))))
