import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import tolerances

from fourfold.containers import Terms
from fourfold.errors import InputError, ShapeError
from fourfold.ops import terms_similarity
from fourfold.ops.similarity import compare
from fourfold.ops.terms_similarity import compare_terms

NAMES = ("cosine", "dot", "euclidean", "manhattan")
rows = st.lists(
    st.lists(st.one_of(st.just(0.0), st.integers(-9, 9).map(float)), min_size=5, max_size=5), max_size=6
).map(lambda found: np.array(found, np.float32).reshape(-1, 5))


def sparse(count, width, share, seed=0):
    generator = np.random.default_rng(seed)
    found = generator.normal(size=(count, width)).astype(np.float32)
    found[generator.random(found.shape) > share] = 0
    return found


@pytest.mark.parametrize("name", NAMES)
@given(rows, rows)
def test_the_formulas_are_those_of_dense_rows(name, a, b):
    got = compare_terms(name, Terms.of(a), Terms.of(b))
    assert got.dtype == np.float32
    wanted = compare(name, a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(got, wanted, rtol=tolerances.FORMULA, atol=tolerances.FORMULA)
    same = min(len(a), len(b))
    got = compare_terms(name, Terms.of(a[:same]), Terms.of(b[:same]), pairwise=True)
    np.testing.assert_allclose(got, np.diagonal(wanted), rtol=tolerances.FORMULA, atol=tolerances.FORMULA)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("first", "second"), [(40, 7), (7, 40)])
def test_however_little_is_worked_on_at_a_time(monkeypatch, name, first, second):
    a, b = sparse(first, 30, 0.3), sparse(second, 30, 0.5, seed=1)
    whole = compare_terms(name, Terms.of(a), Terms.of(b))
    for most in (1, 9, 100):
        monkeypatch.setattr(terms_similarity, "_PAIRS", most)
        np.testing.assert_allclose(
            compare_terms(name, Terms.of(a), Terms.of(b)), whole, rtol=0, atol=tolerances.FORMULA
        )


def test_memory_above_the_result_stays_bounded(monkeypatch):
    a, b = (Terms.of(sparse(500, 400, 0.2, seed)) for seed in (0, 1))
    largest = 0
    before = np.bincount

    def watched(places, *arguments, **keywords):
        nonlocal largest
        largest = max(largest, len(places))
        return before(places, *arguments, **keywords)

    monkeypatch.setattr(terms_similarity, "_PAIRS", 20_000)
    monkeypatch.setattr(np, "bincount", watched)
    compare_terms("dot", a, b)
    # Terms are counted once for all rows; pairs, of which there are 4 million, in parts.
    assert len(b.terms) <= largest <= 60_000


def test_rows_far_from_zero_and_near_each_other_keep_their_distance():
    a = np.full((1, 300), 1000, np.float32)
    b = a.copy()
    b[0, 0] += 0.5
    got = compare_terms("euclidean", Terms.of(a), Terms.of(np.concatenate([a, b])))
    np.testing.assert_allclose(got, [[0, -0.5]], atol=1e-2)


def test_float64_stays():
    wide = Terms.of(np.array([[1.0, 1e-12]]))
    assert compare_terms("dot", wide, Terms.of(np.ones((1, 2), np.float32))).dtype == np.float64


def test_what_cannot_be_compared_is_told():
    a, b = Terms.of(np.eye(3)), Terms.of(np.eye(4))
    with pytest.raises(ShapeError, match="one width, got 3 and 4"):
        compare_terms("dot", a, b)
    with pytest.raises(ShapeError, match="in pairs must be as many on both sides, got 3 and 2"):
        compare_terms("dot", a, a.take(np.arange(2)), pairwise=True)
    with pytest.raises(InputError, match="Did you mean 'cosine'"):
        compare_terms("cosin", a, a)
