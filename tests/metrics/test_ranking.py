import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from fourfold.errors import InputError
from fourfold.metrics import ranking

METRICS = [
    ranking.accuracy_at_k, ranking.precision_at_k, ranking.recall_at_k, ranking.mrr_at_k, ranking.ndcg_at_k,
    ranking.map_at_k,
]  # fmt: skip


@pytest.fixture
def judged():
    return ranking.judge(
        [["d1", "d0", "d3", "d2", "d4", "d5"], ["d4", "d2", "d0"]], [{"d0", "d3", "d5"}, {"d2"}]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "k", "wanted"),
    [
        ("accuracy", 1, 0), ("accuracy", 3, 1), ("precision", 1, 0), ("precision", 3, 0.5), ("recall", 1, 0),
        ("recall", 3, 0.833333), ("mrr", 1, 0), ("mrr", 3, 0.5), ("ndcg", 3, 0.580826), ("ndcg", 10, 0.664406),
        ("map", 2, 0.375), ("map", 100, 0.527778),
    ],
)  # fmt: skip
def test_two_queries(judged, metric, k, wanted):
    assert getattr(ranking, f"{metric}_at_k")(judged, k) == pytest.approx(wanted, abs=1e-6)


def test_one_reranked_query():
    judged = ranking.judge([[1, 2, 0, 3]], [{0, 2}])
    found = [ranking.mrr_at_k(judged, 3), ranking.ndcg_at_k(judged, 3), ranking.map_at_k(judged, 100)]
    assert found == pytest.approx([0.5, 0.693426, 0.583333], abs=1e-6)


def plain(gains, total, k):
    """Every number of one query, a rank at a time."""
    top = gains[:k]
    hits = [rank for rank, gain in enumerate(top, 1) if gain]
    best = sum(1 / np.log2(rank + 1) for rank in range(1, min(total, k) + 1))
    return [
        float(bool(hits)),
        len(hits) / k,
        len(hits) / total if total else 0.0,
        1 / hits[0] if hits else 0.0,
        sum(1 / np.log2(rank + 1) for rank in hits) / best if best else 0.0,
        sum((i + 1) / rank for i, rank in enumerate(hits)) / max(1, min(total, k)),
    ]


documents = some.lists(some.integers(0, 12), unique=True, max_size=10)
queries = some.lists(some.tuples(documents, some.sets(some.integers(0, 12), max_size=6)), min_size=1, max_size=5)


@given(queries, some.integers(1, 14))
def test_as_counted_one_by_one(rows, k):
    judged = ranking.judge([ranked for ranked, _ in rows], [relevant for _, relevant in rows])
    wanted = [plain([document in relevant for document in ranked], len(relevant), k) for ranked, relevant in rows]
    found = [metric(judged, k) for metric in METRICS]
    assert found == pytest.approx(np.mean(wanted, axis=0))
    assert all(0 <= number <= 1 + 1e-9 for number in found)


@given(queries)
def test_the_best_ranking_has_the_most(rows):
    rows = [(ranked, relevant | {13}) for ranked, relevant in rows]
    best = ranking.judge([sorted(relevant) for _, relevant in rows], [relevant for _, relevant in rows])
    assert [metric(best, 14) for metric in METRICS if metric is not ranking.precision_at_k] == pytest.approx([1] * 5)


@given(queries, some.integers(1, 13))
def test_more_of_the_ranking_finds_no_less(rows, k):
    judged = ranking.judge([ranked for ranked, _ in rows], [relevant for _, relevant in rows])
    for metric in (ranking.accuracy_at_k, ranking.recall_at_k, ranking.mrr_at_k):
        assert metric(judged, k) <= metric(judged, k + 1)


@given(some.lists(some.floats(0, 5), max_size=8), some.integers(1, 10))
def test_discounted_gain(relevances, k):
    wanted = sum(gain / np.log2(rank + 1) for rank, gain in enumerate(relevances[:k], 1))
    assert ranking.dcg_at_k(relevances, k) == pytest.approx(wanted)


def test_nothing_ranked():
    judged = ranking.judge([[], []], [{"a"}, set()])
    assert [metric(judged, 3) for metric in METRICS] == [0.0] * 6


def test_refusals(judged):
    with pytest.raises(InputError, match="ranked and relevant"):
        ranking.judge([["a"]], [])
    with pytest.raises(InputError, match="ranked and relevant"):
        ranking.judge([], [])
    for metric in METRICS:
        with pytest.raises(InputError, match="k must be at least 1"):
            metric(judged, 0)
    with pytest.raises(InputError, match="k must be at least 1"):
        ranking.dcg_at_k([1], 0)
