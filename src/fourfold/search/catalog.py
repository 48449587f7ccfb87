"""The catalog: which files an index knows, in which state, and where their passages lie.

It is the one file of an index that is ever replaced, in a single rename. What it does not name does not exist: a killed
writer leaves unnamed files behind, which the next writer removes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fourfold.errors import SearchIndexError
from fourfold.search import analysis
from fourfold.search.arrays import MEND, ArrayFile, Strings, save_arrays

NAME = "catalog"
FORMAT = 1

KEPT = -1
"""The ``mtime_ns`` of texts that were put into the index by a program and that no file stands for."""


@dataclass(frozen=True)
class Extent:
    """Consecutive rows of a segment that belong to one file."""

    segment: str
    first: int
    count: int


@dataclass(frozen=True)
class Entry:
    """One indexed file.

    Attributes:
        size: In bytes.
        mtime_ns: Its time of change, as the file system gives it.
        digest: Of its bytes.
        extents: Where its passages lie; empty if it has none.
    """

    size: int
    mtime_ns: int
    digest: bytes
    extents: tuple[Extent, ...] = ()


@dataclass(frozen=True)
class SegmentInfo:
    """What a search needs to know of a segment before it opens it.

    Attributes:
        rows: Passages in the segment, dead ones included.
        live: Passages that belong to a file as it is now.
        length: Terms in the live passages, repetitions included.
    """

    rows: int
    live: int
    length: int


@dataclass
class Catalog:
    """The state of an index.

    Attributes:
        generation: Counts the commits; a segment's name begins with that of the commit before it.
        segments: By name.
        states: File name to ``(size, mtime_ns)``: all that a look for changes needs.
    """

    generation: int = 0
    segments: dict[str, SegmentInfo] = field(default_factory=dict)
    states: dict[str, tuple[int, int]] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)
    _arrays: ArrayFile | None = None

    @classmethod
    def read(cls, folder: Path) -> Catalog:
        """Read the catalog in ``folder``; an empty one if there is none.

        Raises:
            SearchIndexError: if it is damaged, or from another version of the format.
        """
        try:
            arrays = ArrayFile(folder / NAME, mapped=False)
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        try:
            version = (int(arrays.metadata["format"]), int(arrays.metadata["analysis"]))
            generation = int(arrays.metadata["generation"])
        except (KeyError, TypeError, ValueError) as error:
            raise SearchIndexError(f"{folder / NAME} is damaged: {error}. {MEND}") from error
        if any(got > known for got, known in zip(version, (FORMAT, analysis.VERSION), strict=True)):
            raise SearchIndexError(f"the index in {folder} was written by a newer version of fourfold. {MEND}")
        if version != (FORMAT, analysis.VERSION):
            return cls(generation)  # from an older version: it fills anew at the next update
        try:
            names = Strings.unpack("name", arrays).all()
            states = dict(zip(names, zip(arrays["size"].tolist(), arrays["mtime"].tolist(), strict=True), strict=True))
            segments = {name: SegmentInfo(*info) for name, info in arrays.metadata["segments"].items()}
            return cls(generation, segments, states, names, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise SearchIndexError(f"{folder / NAME} is damaged: {error}. {MEND}") from error

    def extents(self, segment: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ``(first, count, file)`` of a segment's live extents, by ascending row; ``file`` for :meth:`name`."""
        if self._arrays is None:
            empty = np.empty(0, np.int64)
            return empty, empty, empty
        held = np.flatnonzero(self._arrays["extent.segment"] == list(self.segments).index(segment))
        held = held[np.argsort(self._arrays["extent.first"][held])]
        return tuple(self._arrays[f"extent.{column}"][held] for column in ("first", "count", "file"))  # type: ignore[return-value]

    def name(self, file: int) -> str:
        """Return the name of a file by the number that :meth:`extents` gives."""
        return self._names[file]

    def entries(self) -> dict[str, Entry]:
        """Return every file's entry, for an update."""
        if self._arrays is None:
            return {}
        arrays, segments = self._arrays, list(self.segments)
        extents: list[list[Extent]] = [[] for _ in self._names]
        columns = (arrays[f"extent.{name}"].tolist() for name in ("file", "segment", "first", "count"))
        for file, segment, first, count in zip(*columns, strict=True):
            extents[file].append(Extent(segments[segment], first, count))
        return {
            name: Entry(*self.states[name], arrays["digest"][index].tobytes(), tuple(extents[index]))
            for index, name in enumerate(self._names)
        }


def write(folder: Path, generation: int, segments: dict[str, SegmentInfo], entries: dict[str, Entry]) -> None:
    """Replace the catalog in ``folder``."""
    names, numbers = sorted(entries), {name: index for index, name in enumerate(segments)}
    rows = [
        (file, numbers[extent.segment], extent.first, extent.count)
        for file, name in enumerate(names)
        for extent in entries[name].extents
    ]
    extent = np.array(rows, "<i8").reshape(-1, 4)
    arrays = {
        **Strings.pack("name", names),
        "size": np.array([entries[name].size for name in names], "<i8"),
        "mtime": np.array([entries[name].mtime_ns for name in names], "<i8"),
        "digest": np.frombuffer(b"".join(entries[name].digest for name in names), "u1").reshape(
            len(names), -1 if names else 0
        ),
        **{f"extent.{column}": extent[:, at] for at, column in enumerate(("file", "segment", "first", "count"))},
    }
    listed = {name: [info.rows, info.live, info.length] for name, info in segments.items()}
    metadata = {"format": FORMAT, "analysis": analysis.VERSION, "generation": generation, "segments": listed}
    save_arrays(folder / NAME, arrays, metadata)


def live_rows(entries: Iterable[Entry]) -> dict[str, np.ndarray]:
    """Return for each segment the rows that belong to a file, ascending."""
    held: dict[str, list[tuple[int, int]]] = {}
    for entry in entries:
        for extent in entry.extents:
            held.setdefault(extent.segment, []).append((extent.first, extent.count))
    return {
        segment: np.concatenate([np.arange(first, first + count) for first, count in sorted(runs)])
        for segment, runs in held.items()
    }


def moved(entry: Entry, places: dict[str, tuple[str, np.ndarray]]) -> Entry:
    """Return ``entry`` with its extents where a merge has put them.

    Args:
        entry: Any entry.
        places: Old segment name to the new one and, by old row, the new row.
    """
    extents = (
        Extent(places[e.segment][0], int(places[e.segment][1][e.first]), e.count) if e.segment in places else e
        for e in entry.extents
    )
    return replace(entry, extents=tuple(extents))
