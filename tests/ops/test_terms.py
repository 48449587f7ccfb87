import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourfold.containers import Terms
from fourfold.errors import InputError
from fourfold.ops.terms import as_terms, check_active, heaviest, normalized, sparsity, strongest, sums

dense = st.lists(
    st.lists(st.one_of(st.just(0.0), st.integers(-9, 9).map(float)), min_size=6, max_size=6), min_size=1, max_size=6
).map(lambda rows: np.array(rows, np.float32))


@given(dense, st.integers(1, 7))
def test_the_entries_of_largest_weight_stay(rows, most):
    kept = strongest(Terms.of(rows), most).dense()
    assert ((kept == rows) | (kept == 0)).all()
    sizes, before = -np.sort(-np.abs(kept)), -np.sort(-np.abs(rows))
    assert np.array_equal(sizes[:, :most], before[:, :most])
    assert not sizes[:, most:].any()


def test_no_bound_keeps_the_very_rows():
    rows = Terms.of(np.eye(3))
    assert strongest(rows, None) is rows
    assert strongest(rows, 1) is rows


@given(dense, dense)
def test_parts_are_joined_in_order(first, second):
    both = Terms.joined([Terms.of(first), Terms.of(second)])
    assert np.array_equal(both.dense(), np.concatenate([first, second]))


def test_a_row_must_keep_something():
    assert check_active(None) is None
    assert check_active(1) == 1
    for wrong in (0, True, 2.0, "3"):
        with pytest.raises(InputError, match="max_active_dims must be a whole number of at least 1, or None; got"):
            check_active(wrong)


@given(dense)
def test_normalized_rows_have_length_one_unless_empty(rows):
    terms = normalized(Terms.of(rows))
    assert terms.weights.dtype == np.float32
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(terms.dense(), rows / np.where(lengths > 0, lengths, 1), rtol=1e-6)


@given(dense)
def test_sums_are_by_row(rows):
    terms = Terms.of(rows)
    np.testing.assert_array_equal(sums(terms, terms.weights), rows.sum(1))


@given(dense, st.one_of(st.none(), st.integers(1, 7)))
def test_the_heaviest_entries_come_first(rows, top_k):
    for row, (terms, weights) in zip(rows, heaviest(Terms.of(rows), top_k), strict=True):
        order = np.argsort(-row, kind="stable")
        assert terms.tolist() == [term for term in order.tolist() if row[term]][:top_k]
        assert weights.tolist() == row[terms].tolist()


def test_no_entry_is_none_of_the_heaviest():
    with pytest.raises(InputError, match="top_k must be at least 1, got 0"):
        heaviest(Terms.of(np.eye(2)), 0)


def test_sparsity_counts_entries():
    assert sparsity(Terms.of(np.eye(4))) == {"active_dims": 1, "sparsity_ratio": 0.75}
    for nothing in (np.zeros((0, 3)), np.zeros((3, 0))):
        assert sparsity(Terms.of(nothing)) == {"active_dims": 0, "sparsity_ratio": 1}


def test_rows_of_any_kind_are_taken():
    import scipy.sparse
    import torch

    rows = np.array([[0, 2.5, 0, 1], [0, 0, 0, 0], [3, 0, 0, 0]], np.float32)
    kinds = [
        rows, Terms.of(rows), torch.from_numpy(rows), torch.from_numpy(rows).to_sparse(),
        torch.from_numpy(rows).to_sparse_csr(), scipy.sparse.csc_matrix(rows), scipy.sparse.coo_array(rows),
    ]  # fmt: skip
    for kind in kinds:
        np.testing.assert_array_equal(as_terms(kind).dense(), rows)
    for one in (rows[0], torch.from_numpy(rows[0]).to_sparse()):
        np.testing.assert_array_equal(as_terms(one).dense(), rows[:1])
    for wrong in ([1, 2], "a", np.zeros((1, 2, 3)), None):
        with pytest.raises(InputError, match="these must be Terms, or a torch, scipy or numpy matrix"):
            as_terms(wrong, argument="these")
