"""Bring an index up to date: read what has changed, commit now and then, encode, merge small segments.

Every function here runs under the writers' lock. A commit is one rename; whatever happens between two commits is undone
by not being named in the catalog.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fourfold.search import catalog as catalogs
from fourfold.search.arrays import replace_file
from fourfold.search.builder import SegmentBuilder, merge_segments
from fourfold.search.catalog import Catalog, Entry, Extent, SegmentInfo
from fourfold.search.changes import Changes, Progress
from fourfold.search.encoders import Encoder, build
from fourfold.search.passages import Passage, split
from fourfold.search.readers import Unreadable, read_blocks
from fourfold.search.scan import State, digest, trusted
from fourfold.search.segments import SUFFIX, Segment
from fourfold.search.sparse import SUFFIX as SPARSE
from fourfold.search.sparse import merge_sparse
from fourfold.search.vectors import SUFFIX as VECTORS
from fourfold.search.vectors import raw_rows

_SEGMENT_CHARACTERS = 32 << 20  # what one segment gathers in memory before it is written
_COMMIT_SECONDS = 15.0  # work that a kill can undo
_FAN_IN = 4  # this many segments of like size become one
_LARGEST_MERGE = 250_000  # passages; merging larger ones would cost more than it saves
_OURS = (SUFFIX, VECTORS, SPARSE, ".part", ".tmp")


class Writer:
    """Changes one index; made under the lock, for one update.

    Args:
        folder: The index's own folder.
        catalog: Its present catalog, read under the lock.
    """

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.folder = folder
        self.generation = catalog.generation
        self.entries = catalog.entries()
        self.segments = {name: (info.rows, info.length) for name, info in catalog.segments.items()}
        self._builder = SegmentBuilder()
        self._name = self._new_name()
        self._committed = time.monotonic()
        self._sweep()

    def _new_name(self) -> str:
        # Random, so that no reader takes a new file for an old one of the same name.
        return f"{self.generation:06d}-{os.urandom(4).hex()}"

    def _sweep(self) -> None:
        """Delete what the catalog does not name: rests of killed writers and segments merged away."""
        for file in self.folder.iterdir():
            unnamed = file.suffix == ".tmp" or file.name.partition(".")[0] not in self.segments
            if file.suffix in _OURS and unnamed:
                try:
                    file.unlink()
                except OSError:
                    continue  # where open files cannot be deleted, a later writer will

    def add(self, name: str, entry: Entry, passages: Callable[[Callable[[Passage], None]], None]) -> None:
        """Take the passages of one file.

        Args:
            name: The file's name.
            entry: Its state; its extents are filled in here.
            passages: Calls what it is given with each passage; if it raises, the file is left out.
        """
        extents: list[Extent] = []
        start = len(self._builder)

        def take(passage: Passage) -> None:
            nonlocal start
            self._builder.add(passage)
            if self._builder.characters >= _SEGMENT_CHARACTERS:
                extents.append(Extent(self._name, start, len(self._builder) - start))
                self._write_segment()
                start = 0

        self.entries.pop(name, None)
        try:
            passages(take)
        except BaseException:
            self._builder.truncate(start)
            raise
        if len(self._builder) > start:
            extents.append(Extent(self._name, start, len(self._builder) - start))
        self.entries[name] = Entry(entry.size, entry.mtime_ns, entry.digest, tuple(extents))

    def _write_segment(self) -> None:
        rows = len(self._builder)
        if rows:
            self.segments[self._name] = (rows, self._builder.write(self.folder, self._name))
            self._name = self._new_name()
        self._builder.clear()

    def commit(self) -> None:
        """Make everything added so far part of the index."""
        self._write_segment()
        live = catalogs.live_rows(self.entries.values())
        self.segments = {name: known for name, known in self.segments.items() if name in live}
        infos = {}
        for name, (rows, length) in self.segments.items():
            if len(live[name]) < rows:
                length = int(Segment(self.folder, name).length[live[name]].sum())
            infos[name] = SegmentInfo(rows, len(live[name]), length)
        self.generation += 1
        catalogs.write(self.folder, self.generation, infos, self.entries)
        self._name = self._new_name()
        self._committed = time.monotonic()
        self._sweep()

    def commit_if_due(self) -> None:
        """Commit if a kill would undo much."""
        if time.monotonic() - self._committed > _COMMIT_SECONDS:
            self.commit()

    def encode(self, encoders: Sequence[Encoder], progress: Progress) -> None:
        """Give every segment what each model makes of it; call it after a commit."""
        total, done = len(encoders) * sum(rows for rows, _ in self.segments.values()), 0

        def step(rows: int) -> None:
            nonlocal done
            done += rows
            progress("encoding", done, total)

        for encoder in encoders:
            for name in self.segments:
                build(Segment(self.folder, name), encoder, step)

    def merge(self) -> None:
        """Merge segments of like size and rewrite those with many dead rows; call it after a commit."""
        live = catalogs.live_rows(self.entries.values())
        models = {name: _models(self.folder, name) for name in self.segments}
        groups: dict[tuple[int, frozenset[str]], list[str]] = {}
        for name in self.segments:
            if len(live[name]) <= _LARGEST_MERGE:
                # Segments that different models have encoded stay apart: merging would throw their work away.
                groups.setdefault((int(math.log(len(live[name]), _FAN_IN)), models[name]), []).append(name)
        chosen = [group for group in groups.values() if len(group) >= _FAN_IN]
        taken = {name for group in chosen for name in group}
        chosen += [[n] for n, (rows, _) in self.segments.items() if n not in taken and len(live[n]) < 0.7 * rows]
        for group in chosen:
            self._merge(group, live, models[group[0]])
        if chosen:
            self.commit()

    def _merge(self, group: Sequence[str], live: Mapping[str, np.ndarray], models: frozenset[str]) -> None:
        target, places, start = self._new_name(), {}, 0
        parts = [(Segment(self.folder, name), live[name]) for name in group]
        for segment, rows in parts:
            new = np.zeros(segment.rows, np.int64)
            new[rows] = np.arange(start, start + len(rows))
            places[segment.name] = (target, new)
            start += len(rows)
        length = merge_segments(self.folder, target, parts)
        for model in models:
            if model.endswith(SPARSE):
                held = [(self.folder / f"{s.name}.{model}", rows) for s, rows in parts]
                merge_sparse(self.folder / f"{target}.{model}", held)
                continue
            stored = ((raw_rows(self.folder / f"{s.name}.{model}", s.rows), rows) for s, rows in parts)
            replace_file(self.folder / f"{target}.{model}", (vectors[rows] for vectors, rows in stored))
        self.entries = {name: catalogs.moved(entry, places) for name, entry in self.entries.items()}
        for name in group:
            del self.segments[name]
        self.segments[target] = (start, length)


def _models(folder: Path, segment: str) -> frozenset[str]:
    """Return what the files of a segment's vectors and sparse rows are called, after its name."""
    files = (file for suffix in (VECTORS, SPARSE) for file in folder.glob(f"{segment}.*{suffix}"))
    return frozenset(file.name.partition(".")[2] for file in files)


def read_changes(
    writer: Writer, root: Path, found: Mapping[str, State], gone: Sequence[str], progress: Progress
) -> Changes:
    """Bring the entries of files up to date and commit.

    Args:
        writer: The index to change.
        root: The folder that names are relative to.
        found: Files as they are now.
        gone: Files that are no more.
        progress: Told how many bytes are read.
    """
    changes = Changes()
    lost = {name: writer.entries.pop(name) for name in gone if name in writer.entries}
    # A file that has only moved keeps its passages and their vectors.
    by_digest = {(entry.digest, Path(name).suffix): name for name, entry in lost.items()}
    work = {n: s for n, s in found.items() if n not in writer.entries or _state(writer.entries[n]) != s}
    total, done = sum(size for size, _ in work.values()), 0
    try:
        for name in sorted(work):
            progress("reading", done, total)
            before = writer.entries.get(name)
            outcome = _read_file(writer, root / name, name, work[name], lost, by_digest, changes)
            if outcome:
                changes.added += before is None
                changes.changed += before is not None
            done += work[name][0]
            writer.commit_if_due()
    except KeyboardInterrupt:
        writer.commit()
        raise
    changes.removed = len(lost)
    if lost or work:
        progress("reading", total, total)
        writer.commit()
    return changes


def _state(entry: Entry) -> State:
    return entry.size, entry.mtime_ns


def _read_file(
    writer: Writer,
    path: Path,
    name: str,
    state: State,
    lost: dict[str, Entry],
    by_digest: dict[tuple[bytes, str], str],
    changes: Changes,
) -> bool:
    """Read one file; returns whether its contents are new to the index."""
    known = writer.entries.get(name)
    size, mtime_ns = trusted(state)
    try:
        contents = digest(path)
        if known and known.digest == contents:
            writer.entries[name] = Entry(size, mtime_ns, contents, known.extents)
            return False
        origin = by_digest.pop((contents, path.suffix), None)
        if origin is not None and known is None:
            writer.entries[name] = Entry(size, mtime_ns, contents, lost.pop(origin).extents)
            return False
        entry = Entry(size, mtime_ns, contents)
        try:
            writer.add(name, entry, lambda take: _each(take, path))
        except (Unreadable, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            # One odd file among thousands must not keep the others from being found; it is read again once it changes.
            changes.skipped[name] = str(error) or type(error).__name__
            writer.entries[name] = entry
    except OSError as error:
        changes.skipped[name] = error.strerror or str(error)
        return writer.entries.pop(name, None) is not None
    return True


def _each(take: Callable[[Passage], None], path: Path) -> None:
    for passage in split(read_blocks(path)):
        take(passage)
