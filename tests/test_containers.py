import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fourfold.containers import ChunkedText, Items, Terms, Tokens

rows = st.lists(st.lists(st.integers(0, 30000), max_size=12), max_size=12)


def unpacked(tokens):
    bounds = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    return [tokens.ids[start:stop].tolist() for start, stop in bounds]


@given(rows)
def test_packing_keeps_every_id(rows):
    tokens = Tokens.of(rows)
    assert unpacked(tokens) == rows
    assert len(tokens) == len(rows)
    assert tokens.lengths.tolist() == [len(row) for row in rows]
    assert tokens.ids.dtype == np.int32
    assert tokens.type_ids is None


@given(rows, st.data())
def test_take_gives_the_rows_in_the_order_asked_for(rows, data):
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20)) if rows else []
    types = [[i % 2 for i in range(len(row))] for row in rows]
    taken = Tokens.of(rows, types).take(np.array(wanted, dtype=np.int64))
    assert unpacked(taken) == [rows[i] for i in wanted]
    assert taken.type_ids.tolist() == [t for i in wanted for t in types[i]]


@given(rows, st.booleans())
def test_padded_rows_hold_the_ids_on_one_side(rows, left):
    ids, mask = Tokens.of(rows).padded(-1, left=left)
    longest = max(map(len, rows), default=0)
    assert ids.shape == mask.shape == (len(rows), longest)
    assert ids.dtype == mask.dtype == np.int64
    for row, got, real in zip(rows, ids.tolist(), mask.tolist(), strict=True):
        gap = longest - len(row)
        assert got == ([-1] * gap + row if left else row + [-1] * gap)
        assert real == ([0] * gap + [1] * len(row) if left else [1] * len(row) + [0] * gap)


def test_items_are_taken_with_their_lengths():
    taken = Items(["a", "bb", "ccc"], np.array([1, 2, 3])).take(np.array([2, 0]))
    assert taken.values == ["ccc", "a"]
    assert taken.lengths.tolist() == [3, 1]
    assert len(taken) == 2


def test_a_chunked_text_knows_its_chunks():
    vectors = np.zeros((2, 3), dtype=np.float32)
    chunks = ChunkedText("one two", vectors, np.array([[0, 3], [4, 7]]))
    assert (len(chunks), chunks.texts) == (2, ["one", "two"])
    assert chunks.astype(np.float32).vectors is vectors
    assert chunks.astype(np.float64).vectors.dtype == np.float64


dense = st.lists(st.lists(st.sampled_from([0.0, 0.0, 1.5, -2.0]), min_size=5, max_size=5), max_size=8)


@given(dense, st.data())
def test_terms_hold_what_dense_rows_hold(rows, data):
    whole = np.array(rows, np.float32).reshape(-1, 5)
    terms = Terms.of(whole)
    assert terms.terms.dtype == np.int32
    assert np.array_equal(terms.dense(), whole)
    assert len(terms) == len(rows)
    wanted = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else [], np.int64)
    assert np.array_equal(terms.take(wanted).dense(), whole[wanted])
    for number, row in enumerate(whole):
        names, weights = terms.row(number)
        assert names.tolist() == np.flatnonzero(row).tolist()
        assert weights.tolist() == row[names].tolist()
