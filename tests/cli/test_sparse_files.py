"""Sparse rows of many texts as a matrix and as lines, whole or not at all, also after an interruption."""

import contextlib
import json

import numpy as np
import pytest

from fourfold.cli import _spool
from fourfold.cli._sparse_files import write_jsonl, write_npz
from fourfold.cli._spool import SparseSpool
from fourfold.containers import Terms

scipy_sparse = pytest.importorskip("scipy.sparse")

TEXTS = [f"text {i}" for i in range(7)]


def rows(count=7, seed=0, width=50):
    chance = np.random.default_rng(seed)
    dense = chance.random((count, width), np.float32) * (chance.random((count, width)) < 0.2)
    dense[count // 2] = 0
    return Terms.of(dense.astype(np.float32))


def spooled(folder, found, *sizes):
    """Return a full spool of some rows, added so many at a time."""
    with SparseSpool(folder / "out", "x") as spool:
        start = 0
        for size in sizes:
            spool.append(found.take(np.arange(start, start + size)))
            start += size
        spool.finish()
    return spool


@pytest.mark.parametrize("sizes", [(7,), (3, 4), (1, 1, 5)])
def test_scipy_reads_the_matrix(tmp_path, sizes):
    found = rows()
    write_npz(spooled(tmp_path, found, *sizes), tmp_path / "rows.npz")
    matrix = scipy_sparse.load_npz(tmp_path / "rows.npz")
    assert (matrix.format, matrix.dtype, matrix.has_canonical_format) == ("csr", np.float32, True)
    np.testing.assert_array_equal(matrix.toarray(), found.dense())
    assert {file.name for file in tmp_path.iterdir()} == {"rows.npz", "out.part"}


def test_rows_without_any_term(tmp_path):
    empty = Terms.of(np.zeros((3, 9), np.float32))
    spool = spooled(tmp_path, empty, 3)
    write_npz(spool, tmp_path / "rows.npz")
    assert scipy_sparse.load_npz(tmp_path / "rows.npz").shape == (3, 9)
    write_jsonl(spool, TEXTS, tmp_path / "rows.jsonl", lambda terms: [])
    assert [json.loads(line)["terms"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == [{}, {}, {}]


def test_lines_hold_texts_and_weights_by_token_the_heaviest_first(tmp_path):
    found = rows()
    asked = []

    def names(terms):
        asked.extend(terms)
        return [f"token{term}" for term in terms]

    write_jsonl(spooled(tmp_path, found, 2, 5), TEXTS, tmp_path / "rows.jsonl", names)
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    for number, line in enumerate(lines):
        terms, weights = found.row(number)
        assert {token: np.float32(weight) for token, weight in line["terms"].items()} == {
            f"token{term}": weight for term, weight in zip(terms.tolist(), weights, strict=True)
        }
        assert list(line["terms"].values()) == sorted(line["terms"].values(), reverse=True)
    assert len(asked) == len(set(asked)) == len(np.unique(found.terms))


def test_a_file_that_cannot_be_finished_leaves_nothing(tmp_path):
    with pytest.raises(StopIteration):
        write_jsonl(
            spooled(tmp_path, rows(), 7), TEXTS[:3], tmp_path / "rows.jsonl", lambda terms: list(map(str, terms))
        )
    assert [file.name for file in tmp_path.iterdir()] == ["out.part"]


def test_an_interrupted_spool_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(_spool, "_SECONDS_BETWEEN_CHECKPOINTS", 0)
    found = rows()
    with contextlib.suppress(KeyboardInterrupt), SparseSpool(tmp_path / "out", "x") as spool:
        spool.append(found.take(np.arange(3)))
        raise KeyboardInterrupt
    with (tmp_path / "out.part").open("ab") as file:
        file.write(b"half a block")
    with SparseSpool(tmp_path / "out", "x") as spool:
        assert (spool.rows, spool.width) == (3, 50)
        spool.append(found.take(np.arange(3, 7)))
        spool.finish()
    np.testing.assert_array_equal(Terms.joined(list(spool.blocks())).dense(), found.dense())
    with SparseSpool(tmp_path / "out", "another") as spool:
        assert spool.rows == 0
