import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourfold.containers import Terms
from fourfold.errors import InputError
from fourfold.ops.terms import check_active, joined, normalized, strongest

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
    both = joined([Terms.of(first), Terms.of(second)])
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
