"""The index of a folder's texts: kept beside them, brought up to date by what has changed, asked in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from weakref import WeakValueDictionary

from fourfold.errors import InputError, SearchIndexError
from fourfold.search import catalog as catalogs
from fourfold.search.catalog import KEPT, Catalog
from fourfold.search.changes import Changes, Progress
from fourfold.search.encoders import Encoder, file_of
from fourfold.search.fusion import Fusion
from fourfold.search.hits import Hit
from fourfold.search.query import Mode, Source, check, rank
from fourfold.search.scan import State, scan
from fourfold.search.snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fourfold.search.update import Writer

FOLDER = ".fourfold"

Model = str | os.PathLike[str] | Encoder | None
"""A model's name or folder, or an encoder; None for the built-in one."""


class Index:
    """Passages of a folder's files, or of one file, and how to find them.

    >>> index = Index.open("docs")  # doctest: +SKIP
    >>> index.update()  # doctest: +SKIP
    >>> index.search("how is a model saved?")[0].path  # doctest: +SKIP
    'guide/saving.md'

    Args:
        root: The folder that file names are relative to.
        only: Names of files or folders in ``root`` that are read and searched; None for all.
        model: A model's name or folder, or an encoder, dense or sparse; None for the built-in one. Or a list of a dense
            and a sparse one. They are loaded when first needed.
        folder: Where the index lies; None for ``.fourfold`` in ``root``, or a folder of the user's cache where
            ``root`` cannot be written to.
        prefix: What the path of a hit begins with; by default it is relative to ``root``.
        timeout: Seconds to wait for another process that writes the index.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        only: Iterable[str] | None = None,
        model: Model | Sequence[Model] = None,
        folder: str | os.PathLike[str] | None = None,
        prefix: str = "",
        timeout: float = 600.0,
    ) -> None:
        self.root = Path(root)
        self.only = None if only is None else sorted(set(only))
        self.prefix = prefix
        self.timeout = timeout
        self.waiting: Callable[[], None] | None = None
        self._models: Sequence[Model] = model if isinstance(model, (list, tuple)) else [model]  # type: ignore[list-item]
        self.folder = Path(folder) if folder is not None else _place(self.root)
        self._snapshot: Snapshot | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, model: Model | Sequence[Model] = None) -> Index:
        """Return the index of a folder, or of one file (then it lies in the file's folder).

        Raises:
            InputError: if there is no such path.
        """
        path = Path(path)
        if not path.is_file() and not path.is_dir():
            raise InputError(f"{path} {'is neither a file nor a folder' if path.exists() else 'does not exist'}")
        return cls(path, model=model) if path.is_dir() else cls(path.parent, only=[path.name], model=model)

    @cached_property
    def encoders(self) -> list[Encoder]:
        """The models, loaded; indexes of the same model share it."""
        return [_load(model) for model in self._models]

    @property
    def snapshot(self) -> Snapshot:
        """The index as this object last saw it."""
        if self._snapshot is None:
            self._snapshot = Snapshot.read(self.folder)
        return self._snapshot

    def __len__(self) -> int:
        """Return the number of passages."""
        return self.snapshot.statistics.passages

    def search(self, question: str, *, top_k: int = 10, mode: Mode = "hybrid", fusion: Fusion = "score") -> list[Hit]:
        """Return the passages that answer best, best first, from the index as it was last updated.

        Args:
            question: A question, some words, or a sentence to find the like of.
            top_k: At most this many.
            mode: ``lexical`` by words (BM25), ``dense`` by a dense model's vectors, ``sparse`` by a sparse model's
                weights, ``hybrid`` by words and every model that the index has.
            fusion: How ``hybrid`` makes one score of several: ``score`` takes the mean of the scores, ``rrf`` adds up
                reciprocal ranks; see :mod:`fourfold.search.fusion`.

        Raises:
            InputError: if the question is empty, an argument is out of range, or the mode needs a model of another
                family.
            SearchIndexError: if the index is damaged or lacks what a model makes of its passages.
        """
        check(question, top_k, mode, fusion)
        encoders = [] if mode == "lexical" or not self.snapshot.parts else self.encoders
        return rank([self.source()], question, top_k=top_k, mode=mode, encoders=encoders, mixing=fusion)

    def source(self) -> Source:
        """Return what :func:`fourfold.search.query.rank` takes, to search several indexes as one."""
        return Source(self.snapshot, None if self.only is None else self._inside, self.prefix)

    def update(self, *, vectors: bool = True, progress: Progress | None = None) -> Changes:
        """Read files that are new or changed and forget those that are gone.

        Nothing is written if nothing has changed. Interrupted or killed, it leaves what it has done so far and the
        next call goes on from there.

        Args:
            vectors: Also encode what lacks a model's vectors or sparse rows; lexical search can do without.
            progress: Told about the work; see :data:`fourfold.search.changes.Progress`.

        Raises:
            SearchIndexError: if the index is damaged, or another process writes it for longer than ``timeout``.
        """
        found = self._found()
        self._snapshot = None
        if self._fresh(self.snapshot.catalog, found) and not (vectors and self._lacks_vectors()):
            return Changes()
        return self._write(found, vectors, progress or _quiet)

    def _write(self, found: dict[str, State], vectors: bool, progress: Progress) -> Changes:
        from fourfold.search.update import Writer, read_changes

        with self._locked():
            # Another process may have done the work while this one waited for the lock.
            writer = Writer(self.folder, Catalog.read(self.folder))
            gone = [n for n, e in writer.entries.items() if n not in found and e.mtime_ns != KEPT and self._inside(n)]
            changes = read_changes(writer, self.root, found, gone, progress)
            self._finish(writer, vectors, progress)
        return changes

    def _finish(self, writer: Writer, vectors: bool, progress: Progress) -> None:
        if vectors and writer.segments:
            writer.encode(self.encoders, progress)
        writer.merge()
        self._snapshot = None

    def put(self, name: str, texts: Iterable[str], *, vectors: bool = True, progress: Progress | None = None) -> None:
        """Index texts that no file holds, one passage a text; they replace what was put under ``name`` before.

        A hit on them has ``name`` as its path and the text's number, from 1, as its line.
        """
        from fourfold.search.catalog import Entry
        from fourfold.search.passages import Passage
        from fourfold.search.update import Writer

        def passages(take: Callable[[Passage], None]) -> None:
            for number, text in enumerate(texts, start=1):
                take(Passage(number, text))

        with self._locked():
            writer = Writer(self.folder, Catalog.read(self.folder))
            writer.add(name, Entry(0, KEPT, bytes(16)), passages)
            writer.commit()
            self._finish(writer, vectors, progress or _quiet)

    def remove(self, name: str) -> None:
        """Forget what was put under ``name``; raises :class:`~fourfold.errors.InputError` if there is no such name."""
        from fourfold.search.update import Writer

        with self._locked():
            writer = Writer(self.folder, Catalog.read(self.folder))
            if writer.entries.pop(name, None) is None:
                raise InputError(f"the index in {self.folder} holds nothing named {name!r}")
            writer.commit()
            self._finish(writer, vectors=False, progress=_quiet)

    def clear(self) -> None:
        """Forget everything, also what is damaged; the next update reads all anew."""
        from fourfold.search.update import Writer

        with self._locked():
            (self.folder / catalogs.NAME).unlink(missing_ok=True)
            Writer(self.folder, Catalog())
        self._snapshot = None

    def _locked(self) -> AbstractContextManager[None]:
        from fourfold.search.lock import locked

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            ignore = self.folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
            return locked(self.folder, self.timeout, self.waiting)
        except (FileExistsError, NotADirectoryError) as error:
            raise SearchIndexError(f"{self.folder} is in the way: the index needs a folder of that name") from error

    def _found(self) -> dict[str, State]:
        if self.only is None:
            return scan(self.root)
        found: dict[str, State] = {}
        for name in self.only:
            path = self.root / name
            if path.is_dir():
                found.update(scan(self.root, name))
            elif path.is_file():
                status = path.stat()
                found[name] = (status.st_size, status.st_mtime_ns)
        return found

    def _inside(self, name: str) -> bool:
        return self.only is None or any(name == part or name.startswith(f"{part}/") for part in self.only)

    def _fresh(self, catalog: Catalog, found: dict[str, State]) -> bool:
        if self.only is None and catalog.states == found:
            return True
        known = {n: state for n, state in catalog.states.items() if state[1] != KEPT and self._inside(n)}
        return known == found

    def _lacks_vectors(self) -> bool:
        parts = self.snapshot.parts
        return bool(parts) and not all(
            file_of(part.segment, encoder).exists() for encoder in self.encoders for part in parts
        )


_loaded: WeakValueDictionary[str | None, Encoder] = WeakValueDictionary()


def _load(model: Model) -> Encoder:
    """Return the encoder of a name or folder, one for all that ask for it; encoders stay as they are."""
    if model is not None and not isinstance(model, (str, os.PathLike)):
        return _checked(model, type(model).__name__)
    name = None if model is None else os.fspath(model)
    encoder = _loaded.get(name)
    if encoder is None:
        import fourfold

        encoder = _loaded[name] = _checked(fourfold.load(name), str(name))
    return encoder


def _checked(encoder: Encoder, name: str) -> Encoder:
    if not hasattr(encoder, "encode_document") or not hasattr(encoder, "fingerprint"):
        raise InputError(
            f"{name} cannot be searched with; give the name or folder of a dense or sparse model, or what "
            "fourfold.load makes of it"
        )
    return encoder


def _place(root: Path) -> Path:
    """Return where the index of ``root`` lies: in it, or in the user's cache if it cannot be written to."""
    beside = root / FOLDER
    if os.access(beside if beside.exists() else root, os.W_OK):
        return beside
    import hashlib

    name = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=8).hexdigest()
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(cache) / "fourfold" / "search" / name


def _quiet(stage: str, done: int, total: int) -> None:
    del stage, done, total
