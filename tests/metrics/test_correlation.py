import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from fourfold.errors import InputError
from fourfold.metrics.correlation import pearson, ranks, spearman

numbers = some.integers(-20, 20).map(lambda number: number / 8)
pairs = some.lists(some.tuples(numbers, numbers), min_size=2, max_size=30)


@given(pairs)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_as_scipy(rows):
    stats = pytest.importorskip("scipy.stats")
    first, second = zip(*rows, strict=True)
    for ours, theirs in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        assert ours(first, second) == pytest.approx(theirs(first, second)[0], abs=1e-12, nan_ok=True)


def test_ranks_of_ties_as_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).integers(0, 9, 50)
    np.testing.assert_array_equal(ranks(values), stats.rankdata(values))


@given(pairs)
def test_properties(rows):
    first, second = (np.array(side) for side in zip(*rows, strict=True))
    for correlation in (pearson, spearman):
        found = correlation(first, second)
        assert math.isnan(found) == bool(np.ptp(first) == 0 or np.ptp(second) == 0)
        if not math.isnan(found):
            assert -1 <= found <= 1
            assert correlation(second, first) == pytest.approx(found)
            assert correlation(-first, second) == pytest.approx(-found)
            assert correlation(first * 3 + 1, second) == pytest.approx(found)
    assert math.isnan(pearson(first, second)) or spearman(first**3, second) == spearman(first, second)


def test_not_a_number():
    assert math.isnan(spearman([1.0, math.nan, 2.0], [1, 2, 3]))
    assert math.isnan(pearson([1.0, math.nan, 2.0], [1, 2, 3]))


@pytest.mark.parametrize(("first", "second"), [([1], [1]), ([], []), ([1, 2], [1, 2, 3])])
def test_refusals(first, second):
    for correlation in (pearson, spearman):
        with pytest.raises(InputError, match="at least 2"):
            correlation(first, second)
