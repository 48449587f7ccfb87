import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourfold.containers import Prefixes
from fourfold.engine.plan import Budget, plan, windows
from fourfold.errors import InputError

lengths = st.lists(st.integers(0, 600), max_size=200).map(lambda values: np.array(values, dtype=np.int64))
budgets = st.builds(
    Budget, tokens=st.integers(1, 2000), rows=st.none() | st.integers(1, 50), padded=st.booleans()
)  # fmt: skip


def cost(batch, lengths, budget):
    tokens = np.maximum(lengths[batch], 1)
    return tokens.max() * len(batch) if budget.padded else tokens.sum()


@given(lengths, budgets)
def test_every_row_is_in_exactly_one_batch(lengths, budget):
    rows = [row for batch in plan(lengths, budget) for row in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths)))


@given(lengths, budgets)
def test_only_a_single_text_may_exceed_the_budget(lengths, budget):
    for batch in plan(lengths, budget):
        assert len(batch) == 1 or cost(batch, lengths, budget) <= budget.tokens
        assert budget.rows is None or len(batch) <= budget.rows


def total(batches, lengths, budget):
    return sum(cost(batch, lengths, budget) + budget.each for batch in batches)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=9), st.integers(1, 200), st.none() | st.integers(1, 5))
def test_few_padded_texts_are_cut_where_it_costs_least(values, tokens, rows):
    lengths = np.array(values, dtype=np.int64)
    budget = Budget(tokens, rows, padded=True, each=13)
    order = np.argsort(-lengths, kind="stable")
    ways = (
        np.split(order, [place + 1 for place, cut in enumerate(cuts) if cut])
        for cuts in itertools.product([False, True], repeat=len(order) - 1)
    )
    possible = [
        way for way in ways
        if all(len(b) == 1 or (cost(b, lengths, budget) <= tokens and len(b) <= (rows or 9)) for b in way)
    ]  # fmt: skip
    batches = plan(lengths, budget)
    assert total(batches, lengths, budget) == min(total(way, lengths, budget) for way in possible)
    assert np.concatenate(batches).tolist() == order.tolist()


@given(lengths, st.integers(1, 2000))
def test_cutting_where_it_costs_least_costs_no_more_than_filling(lengths, tokens):
    cheapest = Budget(tokens, padded=True, each=24)
    batches = plan(lengths, cheapest)
    assert sorted(np.concatenate([*batches, np.array([], dtype=np.int64)]).tolist()) == list(range(len(lengths)))
    assert all(len(batch) == 1 or cost(batch, lengths, cheapest) <= tokens for batch in batches)
    filled = plan(lengths, Budget(tokens, padded=True))
    assert total(batches, lengths, cheapest) <= total(filled, lengths, cheapest)


@given(lengths, budgets)
def test_no_batch_leaves_room_for_the_next_text(lengths, budget):
    batches = plan(lengths, budget)
    for batch, following in itertools.pairwise(batches):
        grown = np.append(batch, following[0])
        assert cost(grown, lengths, budget) > budget.tokens or len(batch) == budget.rows


@given(lengths, budgets)
def test_longest_texts_come_first_and_equal_ones_keep_their_order(lengths, budget):
    rows = np.concatenate([*plan(lengths, budget), np.array([], dtype=np.int64)]).astype(np.int64)
    keys = list(zip((-lengths[rows]).tolist(), rows.tolist(), strict=True))
    assert keys == sorted(keys)


@given(lengths, budgets)
def test_planning_twice_gives_the_same(lengths, budget):
    assert [b.tolist() for b in plan(lengths, budget)] == [b.tolist() for b in plan(lengths.copy(), budget)]


@st.composite
def grouped_rows(draw):
    """Lengths, and groups that share less than their shortest row."""
    sizes = draw(st.lists(st.integers(2, 6), max_size=5))
    loose = draw(st.integers(0, 6))
    numbers = np.array([0] * loose + [i for i, size in enumerate(sizes, 1) for _ in range(size)], dtype=np.int64)
    numbers = numbers[draw(st.permutations(range(len(numbers))))] if len(numbers) else numbers
    shared = np.array([0, *(draw(st.integers(1, 100)) for _ in sizes)], dtype=np.int64)[numbers]
    own = np.array([draw(st.integers(1, 200)) for _ in numbers], dtype=np.int64)
    return shared + own, Prefixes(numbers, shared)


def shared_cost(batch, lengths, prefixes):
    group, shared = prefixes.group[batch], prefixes.length[batch]
    first = [row for row in range(len(batch)) if group[row] not in group[:row]]
    return (lengths[batch] - shared).sum() + shared[first].sum()


@given(grouped_rows(), st.integers(1, 900), st.none() | st.integers(1, 9))
def test_groups_stay_together_and_what_they_share_counts_once_a_batch(rows, tokens, most):
    lengths, prefixes = rows
    batches = plan(lengths, Budget(tokens, most), prefixes)
    order = [row for batch in batches for row in batch.tolist()]
    assert sorted(order) == list(range(len(lengths)))
    numbers = [number for number, _ in itertools.groupby(prefixes.group[order].tolist())]
    assert len(numbers) == len(set(numbers))
    for batch in batches:
        assert len(batch) == 1 or shared_cost(batch, lengths, prefixes) <= tokens
        assert most is None or len(batch) <= most
    for batch, following in itertools.pairwise(batches):
        grown = np.append(batch, following[0])
        assert shared_cost(grown, lengths, prefixes) > tokens or len(batch) == most


def test_padding_counts_as_cost():
    lengths = np.array([10, 1, 1, 1])
    assert [b.tolist() for b in plan(lengths, Budget(12, padded=True))] == [[0], [1, 2, 3]]
    assert [b.tolist() for b in plan(lengths, Budget(12))] == [[0, 1, 2], [3]]


def test_texts_without_tokens_still_fill_a_batch():
    assert [len(b) for b in plan(np.zeros(10, dtype=np.int64), Budget(4))] == [4, 4, 2]


@given(st.integers(0, 200_000), st.integers(1, 3000), st.integers(1, 40000))
def test_windows_cover_the_input_in_order(count, first, largest):
    ranges = list(windows(count, first, max(first, largest)))
    assert [i for r in ranges for i in (r.start, r.stop)] == sorted(i for r in ranges for i in (r.start, r.stop))
    covered = 0
    for r in ranges:
        assert r.start == covered
        assert 0 < len(r) <= max(first, largest)
        covered = r.stop
    assert covered == count


def test_windows_grow():
    assert [len(r) for r in windows(100_000, 1000, 20_000)] == [1000, 4000, 16000, 20000, 20000, 20000, 19000]


@given(budgets)
def test_a_halved_budget_stays_usable(budget):
    for _ in range(40):
        smaller = budget.halved()
        assert 1 <= smaller.tokens <= budget.tokens
        assert smaller.padded == budget.padded
        budget = smaller
    assert budget.tokens == 1
    assert budget.rows in (None, 1)


@pytest.mark.parametrize("options", [{"tokens": 0}, {"tokens": -5}, {"tokens": 8, "rows": 0}])
def test_an_empty_budget_is_refused(options):
    with pytest.raises(InputError, match="at least one token"):
        Budget(**options)
