"""What a sparse index consists of: its parts, which of their rows count, and the one file that says so.

The catalog is the only file that is ever replaced, in a single rename. What it does not name does not exist: a killed
writer leaves unnamed files behind, which the next writer removes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import SearchIndexError
from fourfold.search.arrays import MEND, ArrayFile, save_arrays
from fourfold.search.inverted import Inverted

NAME = "catalog"
FORMAT = 1
ROWS, IDS = ".sparse", ".ids"


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of an index, open.

    Attributes:
        name: Of its files.
        rows: The rows, by term.
        ids: int64 ``[rows]``, in no order.
        alive: bool ``[rows]``, the rows that were not removed; None if none was.
    """

    name: str
    rows: Inverted
    ids: NDArray[np.int64]
    alive: NDArray[np.bool_] | None = None

    @classmethod
    def open(cls, folder: Path, name: str) -> Part:
        """Map the files of one part.

        Raises:
            SearchIndexError: if one of them is damaged.
            FileNotFoundError: if one of them does not exist.
        """
        rows = Inverted.open(folder / (name + ROWS))
        try:
            ids = ArrayFile(folder / (name + IDS))["id"]
        except KeyError as error:
            raise SearchIndexError(f"{folder / name}{IDS} is damaged: it has no {error}. {MEND}") from error
        if len(ids) != rows.rows:
            raise SearchIndexError(f"{folder / name}{IDS} is damaged: {len(ids)} ids for {rows.rows} rows. {MEND}")
        return cls(name, rows, ids)

    @cached_property
    def live(self) -> int:
        """Number of rows that were not removed."""
        return self.rows.rows if self.alive is None else int(self.alive.sum())

    def living(self) -> NDArray[np.int64]:
        """Return the ids of the rows that were not removed."""
        return self.ids if self.alive is None else self.ids[self.alive]


@dataclass
class Sparse:
    """The state of an index.

    Attributes:
        generation: Counts the commits; 0 if there is no index yet.
        width: Number of terms that there are; None as long as nothing was added.
        next_id: Above every id that was ever used.
        parts: Open.
    """

    generation: int = 0
    width: int | None = None
    next_id: int = 0
    parts: list[Part] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Sparse:
        """Open an index; one that was never written is empty.

        Raises:
            SearchIndexError: if it is damaged or from a newer version.
        """
        for _ in range(20):
            try:
                arrays = ArrayFile(folder / NAME, mapped=False)
            except (FileNotFoundError, NotADirectoryError):
                return cls()
            try:
                return cls._opened(folder, arrays)
            except FileNotFoundError as error:
                # A writer may have merged the part away since the catalog was read: it has written a newer one.
                missing = Path(error.filename).name
            except (KeyError, TypeError, ValueError) as error:
                raise SearchIndexError(f"{folder / NAME} is damaged: {error}. {MEND}") from error
        raise SearchIndexError(f"the index in {folder} is damaged: {missing} is missing. {MEND}")

    @classmethod
    def _opened(cls, folder: Path, arrays: ArrayFile) -> Sparse:
        known = arrays.metadata
        if known["kind"] != "sparse":
            raise ValueError("it is not a sparse index's")
        if known["format"] > FORMAT:
            raise SearchIndexError(f"the index in {folder} was written by a newer version of fourfold. {MEND}")
        parts = []
        for name, (rows, live) in known["parts"].items():
            part = Part.open(folder, name)
            if live < rows:
                part = replace(part, alive=np.unpackbits(arrays[f"alive.{name}"], count=rows).astype(bool))
            if part.rows.rows != rows or part.live != live or part.rows.width != known["width"]:
                raise SearchIndexError(f"the index in {folder} is damaged: {name} does not fit the catalog. {MEND}")
            parts.append(part)
        return cls(known["generation"], known["width"], known["next_id"], parts)

    def commit(self, folder: Path) -> None:
        """Make the state the index's; parts without a living row go."""
        self.generation += 1
        self.parts = [part for part in self.parts if part.live]
        alive = {f"alive.{part.name}": np.packbits(part.alive) for part in self.parts if part.alive is not None}
        known = {
            "kind": "sparse",
            "format": FORMAT,
            "generation": self.generation,
            "width": self.width,
            "next_id": self.next_id,
            "parts": {part.name: [part.rows.rows, part.live] for part in self.parts},
        }
        save_arrays(folder / NAME, alive, known)

    def bury(self, ids: NDArray[np.int64]) -> None:
        """Mark the rows of some ids as removed."""
        for number, part in enumerate(self.parts):
            gone = np.isin(part.ids, ids)
            if gone.any():
                self.parts[number] = replace(part, alive=~gone if part.alive is None else part.alive & ~gone)

    def sweep(self, folder: Path) -> None:
        """Delete the files that the state does not name."""
        named = {part.name for part in self.parts}
        for file in folder.iterdir():
            if file.suffix == ".tmp" or (file.suffix in (ROWS, IDS) and file.stem not in named):
                try:
                    file.unlink()
                except OSError:
                    continue  # where open files cannot be deleted, a later writer will

    def new_name(self) -> str:
        """Return a name for a part; random, so that no reader takes a new file for an old one of the same name."""
        return f"{self.generation:06d}-{os.urandom(4).hex()}"
