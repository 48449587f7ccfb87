"""The sparse rows of a segment's passages under one model: a file beside the segment, and how it is searched.

The rows lie by term (:mod:`fourfold.search.inverted`). They are encoded a chunk at a time, each of them a file of its
own until all are there; a killed run goes on after the last whole one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Terms
from fourfold.errors import InputError, SearchIndexError
from fourfold.ops.terms import as_terms, normalized
from fourfold.search.arrays import MEND
from fourfold.search.inverted import Inverted, save, save_merged
from fourfold.search.segments import Segment
from fourfold.search.sparse_rows import tidied

if TYPE_CHECKING:
    from fourfold.search.encoders import Encoder

SUFFIX = ".sparse"
_CHUNK = 2048  # rows encoded, and made durable, at a time
_MOST_CHUNKS = 256  # files that are open at once while they are merged


def path_of(segment: Segment, encoder: Encoder) -> Path:
    """Return the file of ``segment``'s rows under a model."""
    # Rows that are compared by cosine are kept at length 1: other rows than those of the same model by dot product.
    name = encoder.fingerprint + "-cosine" * _by_cosine(encoder)
    short = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
    return segment.folder / f"{segment.name}.{short}{SUFFIX}"


def question_of(encoder: Encoder, question: str) -> Terms:
    """Return a question as one row of weights."""
    return _comparable(encoder, encoder.encode_query([question], show_progress_bar=False))


def open_sparse(segments: Sequence[Segment], encoder: Encoder, width: int) -> list[Inverted]:
    """Return the mapped rows of each segment.

    Raises:
        SearchIndexError: if those of a segment are not there (yet) or do not fit it.
    """
    found = []
    for segment in segments:
        path = path_of(segment, encoder)
        try:
            rows = Inverted.open(path)
        except FileNotFoundError:
            raise SearchIndexError(
                f"the index in {segment.folder} lacks this model's sparse rows; update it first"
            ) from None
        if (rows.rows, rows.width) != (segment.rows, width):
            raise SearchIndexError(
                f"{path} is damaged: it holds {rows.rows} rows of {rows.width} terms for {segment.rows} passages of "
                f"{width}. {MEND}"
            )
        found.append(rows)
    return found


def build_sparse(segment: Segment, encoder: Encoder, progress: Callable[[int], None]) -> None:
    """Encode the passages of ``segment`` unless that is done; the caller holds the lock."""
    target = path_of(segment, encoder)
    if target.exists():
        return
    each = max(_CHUNK, -(-segment.rows // _MOST_CHUNKS))
    chunks: list[Inverted] = []
    for number, start in enumerate(range(0, segment.rows, each)):
        rows = range(start, min(start + each, segment.rows))
        file = target.with_name(f"{target.name}.{number}.part")
        chunk = _done(file, len(rows))
        if chunk is None:
            texts = [segment.embedded_text(row) for row in rows]
            save(file, Inverted.of(_comparable(encoder, encoder.encode_document(texts, show_progress_bar=False))))
            chunk = Inverted.open(file)
        chunks.append(chunk)
        progress(len(rows))
    save_merged(target, chunks, [None] * len(chunks))
    number = len(chunks)
    chunks.clear()  # an open file cannot be deleted everywhere
    for file in (target.with_name(f"{target.name}.{at}.part") for at in range(number)):
        file.unlink(missing_ok=True)


def merge_sparse(target: Path, parts: Sequence[tuple[Path, NDArray[np.int64]]]) -> None:
    """Write the chosen rows of several files as one file, one file's after the other's.

    Args:
        target: The file.
        parts: Files, each with the rows that live on, ascending.
    """
    opened = [Inverted.open(path) for path, _ in parts]
    alive = []
    for part, (_, rows) in zip(opened, parts, strict=True):
        mask = np.zeros(part.rows, bool)
        mask[rows] = True
        alive.append(None if mask.all() else mask)
    save_merged(target, opened, alive)


def _done(file: Path, rows: int) -> Inverted | None:
    """Return a chunk that an earlier run has left, if it is whole."""
    try:
        chunk = Inverted.open(file)
    except (FileNotFoundError, SearchIndexError):
        return None
    return chunk if chunk.rows == rows else None


def _comparable(encoder: Encoder, encoded: Any) -> Terms:
    """Return what a model made of texts as rows whose dot product is the model's similarity."""
    rows = tidied(as_terms(encoded, argument="the model's rows"), argument="the model's rows")
    return normalized(rows) if _by_cosine(encoder) else rows


def _by_cosine(encoder: Encoder) -> bool:
    name = str(getattr(encoder, "similarity_fn_name", None) or "dot")
    if name not in ("dot", "cosine"):
        raise InputError(
            f"sparse rows are searched by dot product or cosine; this model compares by {name}. Load it with "
            "similarity_fn_name='dot', or 'cosine', to search with it"
        )
    return name == "cosine"
