import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourfold.containers import Prefixes, Tokens
from fourfold.text.prefixes import laid_out, shared_prefixes


def rows_of(tokens):
    return [tokens.ids[start:stop].tolist() for start, stop in itertools.pairwise(tokens.offsets.tolist())]


def saved(prefixes):
    """Tokens that need not be computed again."""
    groups = {int(number) for number in prefixes.group if number} if prefixes else set()
    return sum(int(prefixes.length[prefixes.group == number][1:].sum()) for number in groups)


def prompts(queries, documents, system=60, query=20):
    """Token ids as of a reranker: what all share, a query, a document; no two documents begin alike."""
    return [
        [*range(1, system + 1), *range(1000 + 100 * q, 1000 + 100 * q + query), 5000 + 100 * q + d, 7, 8, 9]
        for q in range(queries)
        for d in range(documents)
    ]


few = st.lists(st.integers(0, 2), max_size=40)
rows = st.lists(st.tuples(few, few).map(lambda parts: [1] * 30 + parts[0] + parts[1]) | few, max_size=12)


@given(rows)
def test_groups_begin_alike_and_every_row_keeps_a_token(some):
    tokens = Tokens.of(some)
    prefixes = shared_prefixes(tokens)
    if prefixes is None:
        return
    for number in set(prefixes.group.tolist()):
        members = (prefixes.group == number).nonzero()[0]
        lengths = set(prefixes.length[members].tolist())
        assert len(lengths) == 1
        (length,) = lengths
        if number == 0:
            assert length == 0
            continue
        assert len(members) > 1
        assert length * (len(members) - 1) >= 32
        assert len({tuple(some[row][:length]) for row in members}) == 1
        assert all(len(some[row]) > length for row in members)


@given(rows, st.randoms())
@settings(max_examples=200)
def test_a_laid_out_batch_holds_every_row_once(some, random):
    tokens = Tokens.of(some)
    prefixes = shared_prefixes(tokens)
    chosen = np.array(random.sample(range(len(some)), random.randint(0, len(some))), dtype=np.int64)
    batch = Tokens(tokens.ids, tokens.offsets, None, prefixes).take(chosen)
    laid = laid_out(batch)
    if laid is None:
        assert prefixes is None or all(
            (batch.prefixes.group == number).sum() < 2 for number in set(batch.prefixes.group.tolist()) - {0}
        )
        return
    own = rows_of(laid.tokens)
    whole = [(own[after] if after >= 0 else []) + row for row, after in zip(own, laid.after, strict=True)]
    assert [whole[row] for row in laid.texts] == [some[row] for row in chosen]
    assert sum(map(len, own)) == sum(len(some[row]) for row in chosen) - saved(batch.prefixes)
    # what is shared stands before the longest text that begins with it
    for head in sorted(set(laid.after.tolist()) - {-1}):
        members = (laid.after == head).nonzero()[0]
        assert len(members) > 1
        assert laid.after[head + 1] == head
        assert len(own[head + 1]) == max(len(own[row]) for row in members)
    assert set(laid.texts.tolist()) | set(laid.after.tolist()) - {-1} == set(range(len(own)))


@pytest.mark.parametrize(("queries", "documents"), [(1, 5), (5, 20), (20, 3)])
def test_documents_of_a_query_share_it(queries, documents):
    some = prompts(queries, documents)
    order = np.random.default_rng(0).permutation(len(some))
    prefixes = shared_prefixes(Tokens.of([some[i] for i in order]))
    assert set(prefixes.length.tolist()) == {80}
    assert len(set(prefixes.group.tolist())) == queries
    query = order // documents
    assert all(len(set(prefixes.group[query == q].tolist())) == 1 for q in range(queries))


def test_one_document_a_query_shares_what_all_share():
    prefixes = shared_prefixes(Tokens.of(prompts(7, 1)))
    assert prefixes.length.tolist() == [60] * 7
    assert prefixes.group.tolist() == [1] * 7


def test_few_queries_of_one_document_beside_one_of_many():
    prefixes = shared_prefixes(Tokens.of(prompts(1, 100) + prompts(9, 1)[1:]))
    assert saved(prefixes) == 99 * 80 + 7 * 60


def test_two_texts_that_are_the_same_keep_their_last_token():
    assert shared_prefixes(Tokens.of([[1] * 50, [1] * 50])).length.tolist() == [49, 49]


@pytest.mark.parametrize("some", [[], [[]], [[], []], [[1] * 90], [[1] * 20, [1] * 20], [[1] * 50, [2] * 50]])
def test_nothing_worth_sharing(some):
    assert shared_prefixes(Tokens.of(some)) is None
    assert laid_out(Tokens.of(some)) is None


def test_a_group_of_which_one_row_is_here_shares_nothing():
    prefixes = Prefixes(np.array([1, 2]), np.array([4, 3]))
    tokens = Tokens(np.arange(12, dtype=np.int32), np.array([0, 6, 12]), None, prefixes)
    assert laid_out(tokens) is None
