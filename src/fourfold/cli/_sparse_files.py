"""Sparse rows as files for others: a matrix for scipy, or a line of weights by token for each text."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fourfold.cli._spool import SparseSpool, written
from fourfold.containers import offsets_of
from fourfold.ops.terms import heaviest


def write_npz(spool: SparseSpool, output: Path) -> None:
    """Write a spool as the file that ``scipy.sparse.load_npz`` reads as a CSR matrix, float32 ``[rows, width]``."""
    offsets = offsets_of(np.concatenate([block.lengths for block in spool.blocks()]))
    entries = int(offsets[-1])
    small = np.int32 if entries < 2**31 else np.int64
    with written(output) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "indices", "<i4", entries, (block.terms for block in spool.blocks()))
        _add(archive, "indptr", np.dtype(small).newbyteorder("<").str, len(offsets), [offsets.astype(small)])
        _add(archive, "data", "<f4", entries, (block.weights for block in spool.blocks()))
        _add(archive, "shape", "<i8", 2, [np.array([spool.rows, spool.width], "<i8")])
        _add(archive, "format", "|S3", None, [np.array(b"csr")])


def write_jsonl(
    spool: SparseSpool, texts: Iterable[str], output: Path, names: Callable[[list[int]], list[str]]
) -> None:
    """Write a spool as lines of JSON: a text and the weights of its tokens, the heaviest first.

    Args:
        spool: The rows.
        texts: Their texts.
        output: The file.
        names: From numbers of terms to their names.
    """
    known: dict[int, str] = {}
    rows = iter(texts)
    with written(output) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for block in spool.blocks():
            new = [term for term in np.unique(block.terms).tolist() if term not in known]
            known.update(zip(new, names(new) if new else [], strict=True))
            for terms, weights in heaviest(block):
                ordered = [known[term] for term in terms.tolist()]
                # A float32 has fewer digits than the float64 that stands for it.
                weighed = dict(zip(ordered, (float(str(weight)) for weight in weights), strict=True))
                file.write(json.dumps({"text": next(rows), "terms": weighed}, ensure_ascii=False) + "\n")


def _add(archive: zipfile.ZipFile, name: str, kind: str, count: int | None, pieces: Iterable[np.ndarray]) -> None:
    """Add an array ``[count]``, or a single value, piece by piece."""
    shape: Any = () if count is None else (count,)
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        for piece in pieces:
            member.write(np.ascontiguousarray(piece).tobytes())
