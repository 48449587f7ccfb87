"""The sparse index finds what a dense product finds, whatever was added, replaced, removed, merged or interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourfold.containers import Terms
from fourfold.errors import InputError, SearchIndexError
from fourfold.search import SparseIndex, inverted, maxscore, sparse_index
from fourfold.search.inverted import Inverted
from fourfold.search.maxscore import MaxScore

LAST_BIT = 2.0**-23  # a float64 sum rounded to float32, whatever the order it was added up in


def rows_of(count, width=40, density=0.2, seed=0, *, negative=False):
    """Return sparse rows with weights like those of a model: many small ones, frequent terms light."""
    chance = np.random.default_rng(seed)
    rows = chance.exponential(1.0, (count, width)) * np.linspace(0.2, 2, width)
    rows[chance.random((count, width)) > density * np.linspace(2.5, 0.1, width)] = 0
    if negative:
        rows *= np.where(chance.random((count, width)) < 0.3, -1, 1)
    return Terms.of(rows.astype(np.float32))


def expected(rows, queries, top_k, ids=None):
    """Return what a product of dense matrices finds: scores above 0, equal ones by id, padded."""
    scores = (queries.dense().astype(np.float64) @ rows.dense().astype(np.float64).T).astype(np.float32)
    ids = np.arange(len(rows)) if ids is None else np.asarray(ids)
    found = np.full((len(queries), top_k), -1), np.full((len(queries), top_k), -np.inf, np.float32)
    for number, row in enumerate(scores):
        order = [at for at in np.lexsort((ids, -row)) if row[at] > 0][:top_k]
        found[0][number, : len(order)], found[1][number, : len(order)] = ids[order], row[order]
    return found


def same(hits, wanted):
    np.testing.assert_allclose(hits.scores, wanted[1], rtol=LAST_BIT)
    # Where sums in another order differ in the last bit, neighbours may change places.
    differ = hits.ids != wanted[0]
    if differ.any():
        assert all(sorted(a) == sorted(b) for a, b in zip(hits.ids.tolist(), wanted[0].tolist(), strict=True))
        near = np.abs(np.diff(wanted[1], prepend=np.inf)) <= 2 * LAST_BIT * np.abs(wanted[1])
        assert near[differ].any()


@st.composite
def matrices(draw, width, most_rows, *, negative):
    """Draw rows of a few whole weights, so that sums are exact and many are equal; rows may be empty or repeat."""
    low = -3 if negative else 0
    entry = st.one_of(st.just(0), st.integers(low, 4))
    rows = draw(st.lists(st.lists(entry, min_size=width, max_size=width), max_size=most_rows))
    return Terms.of(np.array(rows, np.float32).reshape(-1, width) / 4)


@pytest.fixture(scope="module", params=[0, maxscore._FEW_ROWS], ids=["pruned", "whole"])
def few_rows(request):
    """Have small parts searched either way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maxscore, "_FEW_ROWS", request.param)
        yield


@given(drawn=st.data())
@settings(max_examples=120, deadline=None)
def test_exact_for_any_rows_queries_and_removals(drawn, few_rows):
    width = drawn.draw(st.integers(1, 7))
    negative = drawn.draw(st.booleans())
    top_k = drawn.draw(st.sampled_from([1, 2, 5, 60]))
    batches = drawn.draw(st.lists(matrices(width, 9, negative=negative), min_size=1, max_size=5))
    queries = drawn.draw(matrices(width, 4, negative=negative))
    with tempfile.TemporaryDirectory() as folder:
        index = SparseIndex(folder)
        for batch in batches:
            index.add(batch)
        rows = Terms.joined(batches)
        assert len(index) == len(rows)
        got = index.search(queries, top_k)
        wanted = expected(rows, queries, top_k)
        np.testing.assert_array_equal(got.ids, wanted[0])
        np.testing.assert_array_equal(got.scores, wanted[1])
        gone = drawn.draw(st.lists(st.integers(0, len(rows) - 1), unique=True) if len(rows) else st.just([]))
        index.remove(gone)
        left = np.setdiff1d(np.arange(len(rows)), gone)
        for opened in (index, SparseIndex.open(folder)):
            got, wanted = opened.search(queries, top_k), expected(rows.take(left), queries, top_k, left)
            np.testing.assert_array_equal(got.ids, wanted[0])
            np.testing.assert_array_equal(got.scores, wanted[1])
            assert opened.ids.tolist() == left.tolist()


@pytest.mark.parametrize("top_k", [1, 10, 300, 5000])
@pytest.mark.parametrize("negative", [False, True])
def test_exact_at_sizes_where_most_is_not_read(tmp_path, monkeypatch, top_k, negative):
    # Small steps, so that the search stops reading as early as it can.
    monkeypatch.setattr(maxscore, "_TOGETHER", 64)
    monkeypatch.setattr(maxscore, "_START", 10)
    monkeypatch.setattr(maxscore, "_FEW_ROWS", 200)
    rows, queries = rows_of(3000, 60, negative=negative), rows_of(25, 60, 0.3, seed=1, negative=negative)
    index = SparseIndex(tmp_path)
    for start in (0, 900, 1000):
        index.add(rows.take(np.arange(start, {0: 900, 900: 1000, 1000: 3000}[start])))
    same(index.search(queries, top_k), expected(rows, queries, top_k))
    gone = np.arange(0, 3000, 7)
    index.remove(gone)
    left = np.setdiff1d(np.arange(3000), gone)
    same(index.search(queries, top_k), expected(rows.take(left), queries, top_k, left))


def test_most_postings_are_not_read(monkeypatch):
    read = []
    monkeypatch.setattr(maxscore, "_TOGETHER", 64)
    monkeypatch.setattr(maxscore, "_START", 10)
    monkeypatch.setattr(maxscore, "_FEW_ROWS", 0)
    original = maxscore._Run.read
    monkeypatch.setattr(maxscore._Run, "read", lambda run, n: read.append(original(run, n)) or read[-1])
    rows = rows_of(20000, 200, 0.1)
    part = Inverted.of(rows)
    # As an inference-free model asks: a few terms, the rare ones heavy.
    terms = np.array([0, 1, 2, 3, 10, 190], np.int32)
    MaxScore([part], [None]).best(terms, np.array([0.1, 0.1, 0.1, 0.2, 0.5, 4.0]), 10)
    listed = part.stop[terms] - part.starts()[terms]
    assert sum(read) < 0.4 * listed.sum()


def test_stopping_early_changes_no_score(monkeypatch):
    rows, queries = rows_of(4000, 50), rows_of(10, 50, seed=3)
    parts, some = [Inverted.of(rows)], [Inverted.of(rows.take(np.arange(k, 4000, 3))) for k in range(3)]

    def found(held, split):
        best = [MaxScore(held, [None] * len(held)).best(*queries.row(i), 20) for i in range(len(queries))]
        rows = [b.row * 3 + b.part if split else b.row for b in best]
        return [dict(zip(r.tolist(), b.score.tolist(), strict=True)) for r, b in zip(rows, best, strict=True)]

    whole = found(parts, split=False)
    monkeypatch.setattr(maxscore, "_FEW_ROWS", 0)
    assert found(parts, split=False) == whole
    assert found(some, split=True) == whole
    monkeypatch.setattr(maxscore, "_START", 1 << 60)  # never stops early
    assert found(parts, split=False) == whole
    monkeypatch.setattr(maxscore, "_START", 0)
    monkeypatch.setattr(maxscore, "_TOGETHER", 1)
    assert found(parts, split=False) == whole
    monkeypatch.setattr(maxscore, "_EXACT", 3)
    assert found(parts, split=False) == whole
    monkeypatch.setattr(maxscore, "_OLD_NUMPY", not maxscore._OLD_NUMPY)
    assert found(parts, split=False) == whole


def test_scores_of_every_row(tmp_path):
    rows, queries = rows_of(500), rows_of(4, seed=2)
    alive = np.arange(500) % 5 > 0
    searcher = MaxScore([Inverted.of(rows), Inverted.of(rows.take(np.arange(10)))], [alive, None])
    for number, query in enumerate(queries.dense()):
        first, second = searcher.scores(*queries.row(number))
        wanted = rows.dense() @ query
        np.testing.assert_allclose(first, np.where(alive, wanted, 0), rtol=1e-5)
        np.testing.assert_allclose(second, wanted[:10], rtol=1e-5)
        assert not np.signbit(first).any()


def test_equal_rows_come_by_id(tmp_path):
    index = SparseIndex(tmp_path)
    row = rows_of(1, density=0.5)
    ids = [7, 3, 900, 12, 5, 8, 100]
    for number in ids:
        index.add(row, ids=[number])
    assert index.search(row, 4).ids.tolist() == [sorted(ids)[:4]]


def test_empty_index_and_empty_queries(tmp_path):
    index = SparseIndex(tmp_path / "new")
    assert (len(index), index.width, index.nbytes, index.ids.tolist()) == (0, None, 0, [])
    assert index.search(rows_of(2), 3).ids.tolist() == [[-1] * 3] * 2
    assert not (tmp_path / "new").exists()
    index.add(Terms.of(np.zeros((0, 40))))
    index.add(Terms.of(np.zeros((3, 40))))
    assert len(index) == 3
    hits = index.search(rows_of(1), 2)
    assert (hits.ids.tolist(), hits.scores.tolist()) == ([[-1, -1]], [[-np.inf, -np.inf]])
    assert index.search(Terms.of(np.zeros((0, 40)))).ids.shape == (0, 10)
    assert index.search(Terms.of(np.zeros((1, 40)))).ids.tolist() == [[-1] * 10]
    index.remove([0, 1, 2])
    assert (len(index), index.nbytes) == (0, 0)
    assert index.add(rows_of(1)).tolist() == [3]


def test_incremental_equals_rebuilt(tmp_path):
    chance, kept = np.random.default_rng(4), {}
    index = SparseIndex(tmp_path / "grown")
    pool, queries = rows_of(700), rows_of(20, seed=5)
    for step in range(30):
        numbers = chance.integers(0, 300, chance.integers(1, 60))
        ids = np.unique(numbers)
        rows = pool.take(chance.integers(0, 700, len(ids)))
        index.add(rows, ids=ids)
        kept.update({int(number): rows.take(np.array([at])) for at, number in enumerate(ids)})
        if step % 4 == 3:
            gone = chance.choice(sorted(kept), 20, replace=False)
            index.remove(gone)
            for number in gone.tolist():
                del kept[number]
    ids = sorted(kept)
    rebuilt = SparseIndex(tmp_path / "rebuilt")
    rebuilt.add(Terms.joined([kept[number] for number in ids]), ids=ids)
    assert index.ids.tolist() == rebuilt.ids.tolist() == ids
    for top_k in (1, 15, 400):
        one, other = index.search(queries, top_k), rebuilt.search(queries, top_k)
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_small_additions_are_merged(tmp_path):
    index = SparseIndex(tmp_path)
    rows = rows_of(300)
    for start in range(300):
        index.add(rows.take(np.array([start])))
    assert len(list(tmp_path.glob("*.sparse"))) <= 3 * 5  # at most three parts of each power of four
    same(index.search(rows, 5), expected(rows, rows, 5))
    index.remove(range(250))
    assert sum(len(part.ids) for part in index._sparse.parts) < 300
    assert index.ids.tolist() == list(range(250, 300))


def test_files_that_are_no_longer_named_go(tmp_path):
    index = SparseIndex(tmp_path)
    for _ in range(9):
        index.add(rows_of(5))
    named = {f"{part.name}{suffix}" for part in index._sparse.parts for suffix in (".sparse", ".ids")}
    assert {file.name for file in tmp_path.iterdir()} == named | {"catalog", "lock"}


def test_chunks_and_iterables_give_the_same_index(tmp_path, monkeypatch):
    rows, queries = rows_of(400), rows_of(8, seed=6)
    SparseIndex(tmp_path / "whole").add(rows)
    monkeypatch.setattr(sparse_index, "_CHUNK", 100)
    monkeypatch.setattr(sparse_index, "_MOST_PIECES", 3)
    monkeypatch.setattr(inverted, "_RUN", 50)
    SparseIndex(tmp_path / "chunks").add(rows)
    SparseIndex(tmp_path / "stream").add(rows.take(np.arange(i, i + 1)) for i in range(400))
    whole, *others = (SparseIndex.open(tmp_path / name) for name in ("whole", "chunks", "stream"))
    for other in others:
        assert len(other._sparse.parts) == 1
        for column in ("term", "stop", "most", "least", "row", "weight"):
            np.testing.assert_array_equal(
                *(getattr(index._sparse.parts[0].rows, column) for index in (whole, other)), err_msg=column
            )
        np.testing.assert_array_equal(whole.search(queries).ids, other.search(queries).ids)


def test_merging_drops_removed_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(inverted, "_RUN", 30)
    rows = rows_of(120, negative=True)
    parts = [Inverted.of(rows.take(np.arange(start, start + 40))) for start in (0, 40, 80)]
    masks = [np.arange(40) % 2 > 0, None, np.arange(40) < 3]
    assert inverted.save_merged(tmp_path / "merged", parts, masks) == 20 + 40 + 3
    merged = Inverted.open(tmp_path / "merged")
    plain = Inverted.of(rows.take(np.concatenate([np.arange(1, 40, 2), np.arange(40, 83)])))
    for column in ("rows", "width", "term", "stop", "most", "least", "row", "weight"):
        np.testing.assert_array_equal(getattr(merged, column), getattr(plain, column), err_msg=column)


def test_many_terms(tmp_path):
    # Beyond 16 bits terms are sorted in two steps.
    chance = np.random.default_rng(8)
    terms = np.sort(chance.choice(1 << 20, (30, 12)), axis=1).astype(np.int32)
    rows = Terms(np.arange(31) * 12, terms.reshape(-1), chance.random(360).astype(np.float32), 1 << 20)
    index = SparseIndex(tmp_path)
    index.add(rows)
    assert index.search(rows, 1).ids[:, 0].tolist() == list(range(30))


@pytest.mark.parametrize("kind", ["coo", "csr", "dense", "scipy", "scipy array", "numpy", "float64", "vectors"])
def test_rows_of_every_kind(tmp_path, kind):
    import torch
    from scipy import sparse

    rows = rows_of(30)
    dense = rows.dense()
    given = {
        "coo": lambda: torch.from_numpy(dense).to_sparse_coo(),
        "csr": lambda: torch.from_numpy(dense).to_sparse_csr(),
        "dense": lambda: torch.from_numpy(dense).requires_grad_(),
        "scipy": lambda: sparse.csc_matrix(dense),
        "scipy array": lambda: sparse.coo_array(dense),
        "numpy": lambda: dense,
        "float64": lambda: Terms.of(dense.astype(np.float64)),
        "vectors": lambda: list(torch.from_numpy(dense).to_sparse_coo()),
    }[kind]()
    index = SparseIndex(tmp_path)
    assert index.add(given).tolist() == list(range(30))
    asked = given[3] if kind == "vectors" else given
    same(index.search(asked, 5), expected(rows, rows.take(np.array([3])) if kind == "vectors" else rows, 5))


def test_neither_torch_nor_scipy_is_needed(tmp_path):
    code = """
import sys
import numpy as np
from fourfold.containers import Terms
from fourfold.search import SparseIndex
index = SparseIndex(sys.argv[1])
index.add(Terms.of(np.eye(4)))
assert index.search(np.eye(4), 1).ids.tolist() == [[0], [1], [2], [3]]
assert not {"torch", "scipy", "transformers"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_untidy_rows_are_tidied(tmp_path):
    # Twice the same term, descending terms, zeros, 64-bit term numbers.
    rows = Terms(np.array([0, 4, 5]), np.array([3, 1, 3, 0]).repeat([1, 1, 1, 2])[:5], np.array([1.0, 2, 4, 0, 5]), 4)
    index = SparseIndex(tmp_path)
    index.add(rows)
    hits = index.search(np.array([[0, 0, 0, 1.0], [0, 1, 0, 1], [1, 0, 0, 0]]), 2)
    assert (hits.ids.tolist(), hits.scores.tolist()) == (
        [[0, -1], [0, -1], [1, -1]],
        [[5, -np.inf], [7, -np.inf], [5, -np.inf]],
    )


def test_threads_find_the_same(tmp_path):
    rows = rows_of(2000)
    index = SparseIndex(tmp_path)
    index.add(rows.take(np.arange(1500)))
    index.add(rows.take(np.arange(1500, 2000)))
    one, several = index.search(rows, 7), index.search(rows, 7, threads=3)
    np.testing.assert_array_equal(one.ids, several.ids)
    np.testing.assert_array_equal(one.scores, several.scores)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.search(rows_of(1), 0), "top_k and threads must be at least 1; got 0"),
        (lambda index: index.search(rows_of(1, 41)), "queries must have the index's width 40; got 41"),
        (lambda index: index.add(rows_of(1, 41)), "rows must have the index's width 40; got 41"),
        (lambda index: index.add(rows_of(2), ids=[1]), "ids must be as many as rows; got 1 for 2"),
        (lambda index: index.add(rows_of(2), ids=[8, 8]), "ids must differ; got 8 2 times"),
        (lambda index: index.add(rows_of(2), ids=[-1, 3]), "ids must be at least 0; got -1"),
        (lambda index: index.add(rows_of(1), ids=[0.5]), "ids must be a list of whole numbers; got float64"),
        (lambda index: index.add(np.full((1, 40), np.nan)), "finite real weights of at most 1e\\+15; got nan"),
        (lambda index: index.add(np.full((1, 40), 1e30)), "finite real weights of at most 1e\\+15; got 1e\\+30"),
        (lambda index: index.add(np.full((1, 40), 1j)), "finite real weights"),
        (lambda index: index.add("text"), "must be Terms, or a torch, scipy or numpy matrix .*; got str"),
        (lambda index: index.add(3), "must be Terms, or a torch, scipy or numpy matrix .*; got int"),
        (lambda index: index.add(np.zeros((1, 2, 3))), r"got shape \(1, 2, 3\)"),
        (
            lambda index: index.add(Terms(np.array([0, 1]), np.array([40]), np.ones(1), 40)),
            "terms from 0 to 39; got 40",
        ),
        (lambda index: index.add(Terms(np.array([0, 2]), np.array([4]), np.ones(1), 40)), "as many terms as weights"),
        (lambda index: index.remove([0, 99, 98]), "no rows of 2 of the ids, 98 for one"),
        (lambda index: SparseIndex.open(index.folder / "none"), "holds no sparse index; make one with"),
    ],
)
def test_what_is_refused_changes_nothing(tmp_path, call, message):
    index = SparseIndex(tmp_path)
    index.add(rows_of(9))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match=message):
        call(index)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert len(index) == 9


def test_an_error_while_rows_arrive_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_index, "_CHUNK", 20)
    index = SparseIndex(tmp_path)
    index.add(rows_of(9))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def rows():
        for number in range(20):
            if number == 15:
                signal.raise_signal(signal.SIGINT)
            yield rows_of(5, seed=number)

    with pytest.raises(KeyboardInterrupt):
        index.add(rows())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert index.add(rows_of(2)).tolist() == [9, 10]


@pytest.mark.parametrize("fails", range(1, 9))
def test_a_failing_disk_keeps_the_old_index(tmp_path, monkeypatch, fails):
    """Whichever file of an addition and its merge cannot be written, the index is one of those before or after."""
    index = SparseIndex(tmp_path)
    for number in range(3):
        index.add(rows_of(5, seed=number))
    real, count = sparse_index.save_arrays, iter(range(1, 100))

    def save(*args):
        if next(count) == fails:
            raise OSError(28, "No space left on device")
        real(*args)

    for module in ("sparse_index", "inverted", "sparse_catalog"):
        monkeypatch.setattr(f"fourfold.search.{module}.save_arrays", save)
    failed = False
    try:
        index.add(rows_of(5, seed=3))
    except OSError:
        failed = True
    monkeypatch.undo()
    assert failed == (fails <= 6)  # rows, ids and catalog of the addition and of the merge
    rows = Terms.joined([rows_of(5, seed=number) for number in range(4 if fails > 3 else 3)])
    for opened in (SparseIndex.open(tmp_path), index):
        if opened is index and failed:
            opened.refresh()
        same(opened.search(rows, 3), expected(rows, rows, 3))
    assert not list(tmp_path.glob("*.tmp"))


ADD = """
import sys
import numpy as np
from fourfold.containers import Terms
from fourfold.search import SparseIndex
index = SparseIndex(sys.argv[1])
print("ready", flush=True)
for _ in range(10000):
    first = index._sparse.next_id
    weights = 1 + np.arange(first, first + 10, dtype=np.float32)
    index.add(Terms(np.arange(11), np.zeros(10, np.int32), weights, 3))
"""


def test_killed_at_random_moments(tmp_path):
    """Additions of ten rows: the index always holds a multiple of ten, each row as it was given."""
    before = 0
    for wait in (0.02, 0.07, 0.13, 0.19, 0.26):
        with subprocess.Popen([sys.executable, "-c", ADD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(wait)
            process.kill()
        index = SparseIndex(tmp_path)
        assert len(index) >= before
        assert len(index) % 10 == 0
        before = len(index)
        if before:
            hits = index.search(np.array([[1.0, 0, 0]]), before + 5)
            assert hits.ids[0, :before].tolist() == list(range(before))[::-1]
            assert hits.scores[0, :before].tolist() == list(range(1, before + 1))[::-1]
    assert before > 0


def test_one_reader_sees_one_state(tmp_path):
    writer, reader = SparseIndex(tmp_path), None
    rows = rows_of(50)
    writer.add(rows)
    reader = SparseIndex.open(tmp_path)
    for number in range(6):
        writer.add(rows_of(50, seed=number))
    assert len(reader) == 50
    same(reader.search(rows, 5), expected(rows, rows, 5))
    reader.refresh()
    assert len(reader) == 350


def test_writers_wait_for_each_other(tmp_path):
    indexes = [SparseIndex(tmp_path) for _ in range(6)]
    threads = [threading.Thread(target=index.add, args=(rows_of(4),)) for index in indexes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert SparseIndex.open(tmp_path).ids.tolist() == list(range(24))


def damage(file, how):
    data = file.read_bytes()
    file.write_bytes({"empty": b"", "half": data[: len(data) // 2], "head": b"\xff" * 40 + data[40:]}[how])


@pytest.mark.parametrize("how", ["empty", "half", "head"])
@pytest.mark.parametrize("pattern", ["catalog", "*.sparse", "*.ids"])
def test_damaged_files_are_named(tmp_path, pattern, how):
    SparseIndex(tmp_path).add(rows_of(50))
    (file,) = tmp_path.glob(pattern)
    damage(file, how)
    with pytest.raises(SearchIndexError, match=f"{file.name}.* is damaged: .*delete its folder"):
        SparseIndex(tmp_path)
    index = SparseIndex.__new__(SparseIndex)
    index.folder, index.timeout = Path(tmp_path), 1
    index.clear()
    assert index.add(rows_of(3)).tolist() == [0, 1, 2]


def test_other_damage(tmp_path):
    index = SparseIndex(tmp_path)
    index.add(rows_of(50))
    part = index._sparse.parts[0]
    (tmp_path / f"{part.name}.ids").unlink()
    with pytest.raises(SearchIndexError, match=r"\.ids is missing"):
        SparseIndex(tmp_path)
    index.clear()
    index.add(rows_of(50))
    part = index._sparse.parts[0]
    wrong = Inverted.of(rows_of(50))
    columns = {**vars(wrong), "row": wrong.row + 100}
    inverted.save(tmp_path / f"{part.name}.sparse", Inverted(**columns))
    with pytest.raises(SearchIndexError, match="names a row that is not there"):
        SparseIndex.open(tmp_path).search(rows_of(1))
    inverted.save(tmp_path / f"{part.name}.sparse", Inverted(**{**vars(wrong), "row": wrong.row[:-1]}))
    with pytest.raises(SearchIndexError, match="arrays do not fit each other"):
        SparseIndex(tmp_path)
    inverted.save(tmp_path / f"{part.name}.sparse", Inverted.of(rows_of(49)))
    with pytest.raises(SearchIndexError, match="49 rows"):
        SparseIndex(tmp_path)


def test_newer_and_foreign_catalogs(tmp_path, monkeypatch):
    from fourfold.search import Index

    monkeypatch.setattr("fourfold.search.sparse_catalog.FORMAT", 2)
    SparseIndex(tmp_path / "newer").add(rows_of(2))
    monkeypatch.undo()
    with pytest.raises(SearchIndexError, match="written by a newer version"):
        SparseIndex(tmp_path / "newer")
    Index(tmp_path, folder=tmp_path / "passages").put("name", ["a text"], vectors=False)
    with pytest.raises(SearchIndexError, match="catalog is damaged: 'kind'"):
        SparseIndex(tmp_path / "passages")


def test_an_open_index_is_mapped(tmp_path):
    rows = rows_of(4000, 400, 0.2)
    SparseIndex(tmp_path).add(rows)
    tracemalloc.start()
    index = SparseIndex.open(tmp_path)
    index.search(rows.take(np.arange(3)), 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert index.nbytes > 8 * len(rows.terms)
    assert peak < index.nbytes / 4
    for column in (index._sparse.parts[0].rows.row, index._sparse.parts[0].rows.weight, index._sparse.parts[0].ids):
        assert not column.flags.owndata
        assert not column.flags.writeable


def test_adding_needs_memory_for_a_chunk_only(tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_index, "_CHUNK", 4000)
    monkeypatch.setattr(inverted, "_RUN", 4000)
    rows = rows_of(10000, 400, 0.2)
    index = SparseIndex(tmp_path)
    tracemalloc.start()
    index.add(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(rows.terms) / 2


def test_progress_is_shown_only_when_asked_for(tmp_path, capsys):
    SparseIndex(tmp_path).add(rows_of(50))
    assert capsys.readouterr() == ("", "")
    SparseIndex(tmp_path).add(rows_of(50), show_progress_bar=True)
    assert "50/50" in capsys.readouterr().err
