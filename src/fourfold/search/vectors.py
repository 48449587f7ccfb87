"""The vectors of a segment's passages under one model: a file beside the segment, filled from its first row on.

A row is a float32 scale and ``width`` int8 numbers: a unit vector's cosine is kept to about 0.0005, in a quarter of the
space, and int8 is turned back into float32 ten times as fast as float16. Rows are appended to a ``.part`` file, which
is renamed when full; a killed run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fourfold.errors import SearchIndexError
from fourfold.search.arrays import MEND, sync_folder
from fourfold.search.segments import Segment

if TYPE_CHECKING:
    from fourfold.search.encoders import Encoder

SUFFIX = ".vectors"
_CHUNK = 2048  # rows encoded, and made durable, at a time


def row_type(width: int) -> np.dtype:
    """Return how one row lies in the file."""
    return np.dtype([("scale", "<f4"), ("row", "i1", (width,))])


def path_of(segment: Segment, model: str) -> Path:
    """Return the file of ``segment``'s vectors under the model with that fingerprint."""
    short = hashlib.blake2b(model.encode(), digest_size=6).hexdigest()
    return segment.folder / f"{segment.name}.{short}{SUFFIX}"


def open_vectors(segment: Segment, model: str, width: int) -> np.ndarray | None:
    """Return the memory-mapped rows, or None if they are not there (yet).

    Raises:
        SearchIndexError: if the file does not hold one vector of ``width`` numbers a passage.
    """
    path, kind = path_of(segment, model), row_type(width)
    try:
        size = path.stat().st_size
        if size != segment.rows * kind.itemsize:
            raise SearchIndexError(f"{path} is damaged: {size} bytes are not {segment.rows} vectors of {width}. {MEND}")
        return np.memmap(path, kind, mode="r", shape=(segment.rows,))
    except FileNotFoundError:
        return None


def raw_rows(path: Path, rows: int) -> np.ndarray:
    """Return the vectors in a file as ``[rows, bytes]``, to be copied as they are."""
    stored = np.memmap(path, np.uint8, mode="r")
    if len(stored) % rows:
        raise SearchIndexError(f"{path} is damaged: {len(stored)} bytes are not {rows} vectors. {MEND}")
    return stored.reshape(rows, -1)


def quantise(vectors: np.ndarray) -> np.ndarray:
    """Return vectors ``[rows, width]`` as rows of the file."""
    scale = np.abs(vectors).max(axis=1).astype(np.float32) / 127
    stored = np.zeros(len(vectors), row_type(vectors.shape[1]))
    stored["scale"] = scale
    # A vector of zeros, as of a text without a known word, stays one.
    stored["row"] = np.rint(vectors / np.where(scale > 0, scale, 1)[:, None])
    return stored


def build_vectors(segment: Segment, encoder: Encoder, progress: Callable[[int], None]) -> None:
    """Encode the passages of ``segment`` that have no vector yet; the caller holds the lock."""
    target = path_of(segment, encoder.fingerprint)
    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    with part.open("a+b") as file:
        done = 0
        while done < segment.rows:
            texts = [segment.embedded_text(row) for row in range(done, min(done + _CHUNK, segment.rows))]
            vectors = encoder.encode_document(texts, normalize_embeddings=True, show_progress_bar=False)
            if done == 0:
                # The width is known now: take over the whole chunks that a killed run has left.
                width = row_type(vectors.shape[1]).itemsize
                done = file.seek(0, os.SEEK_END) // (width * _CHUNK) * _CHUNK
                file.truncate(done * width)
                if done:
                    progress(done)
                    continue
            file.write(quantise(np.asarray(vectors, np.float32)).tobytes())
            file.flush()
            os.fsync(file.fileno())
            done += len(texts)
            progress(len(texts))
    part.replace(target)
    sync_folder(segment.folder)
