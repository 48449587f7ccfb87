import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from fourfold.errors import InputTypeError
from fourfold.evaluation import _retrieval
from fourfold.evaluation._retrieval import BestHits, ranks_of, rows_of, score_blocks
from fourfold.ops.similarity import dot_score


def plain(scores, ranks, most):
    """Every document sorted."""
    return [sorted(zip(ranks.tolist(), row.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))[:most]
            for row in scores]  # fmt: skip


@given(some.data(), some.integers(1, 4), some.integers(1, 30), some.integers(1, 12), some.integers(1, 30))
def test_best_of_blocks_are_the_best_of_all(data, queries, docs, most, chunk):
    few = some.sampled_from([0.0, 0.25, 0.5, 1.0, -3.0, float("-inf")])
    scores = torch.tensor(data.draw(some.lists(few, min_size=queries * docs, max_size=queries * docs)))
    scores = scores.view(queries, docs)
    ranks = np.array(data.draw(some.permutations(range(docs))), dtype=np.int32)
    best = BestHits(queries, min(most, docs))
    for start in range(0, docs, chunk):
        best.add(slice(0, queries), scores[:, start : start + chunk], ranks[start : start + chunk])
    assert [best.of(query) for query in range(queries)] == plain(scores, ranks, most)


def test_blocks_of_queries():
    scores, ranks = torch.rand(7, 20, generator=torch.Generator().manual_seed(0)), np.arange(20, dtype=np.int32)
    best = BestHits(7, 3)
    for start in range(0, 7, 2):
        best.add(slice(start, start + 2), scores[start : start + 2], ranks)
    assert [best.of(query) for query in range(7)] == plain(scores, ranks, 3)


def test_scores_that_are_not_numbers_are_no_hits_before_others():
    best = BestHits(1, 2)
    best.add(slice(0, 1), torch.tensor([[float("nan"), 0.5, 0.25]]), np.arange(3, dtype=np.int32))
    assert (1, 0.5) in best.of(0)


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_blocks_of_scores(monkeypatch, layout):
    monkeypatch.setattr(_retrieval, "_MOST_DOCUMENTS", 3)
    monkeypatch.setattr(_retrieval, "_MOST_SCORES", 7)
    generator = torch.Generator().manual_seed(0)
    queries, documents = torch.rand(5, 4, generator=generator), torch.rand(8, 4, generator=generator)
    sides = [side.to_sparse() for side in (queries, documents)] if layout == "sparse" else [queries, documents]
    found, sizes = torch.zeros(5, 8), []
    for asking, some_documents, scores in score_blocks(*sides, dot_score):
        found[asking, some_documents] = scores
        sizes.append(scores.numel())
    torch.testing.assert_close(found, queries @ documents.T)
    assert max(sizes) <= 7


def test_scores_in_other_forms():
    forms = {"array": lambda a, b: (a @ b.T).numpy(), "half": lambda a, b: (a @ b.T).half(),
             "sparse": lambda a, b: (a @ b.T).to_sparse(), "whole": lambda a, b: (a @ b.T).int()}  # fmt: skip
    sides = torch.eye(3), torch.eye(3)
    for form in forms.values():
        ((_, _, scores),) = score_blocks(*sides, form)
        best = BestHits(3, 1)
        best.add(slice(0, 3), scores, np.arange(3, dtype=np.int32))
        assert [best.of(query) for query in range(3)] == [[(query, 1.0)] for query in range(3)]


def test_rows_are_views():
    vectors = torch.rand(4, 2)
    assert rows_of(vectors, slice(0, 4)) is vectors
    assert rows_of(vectors, slice(1, 3)).data_ptr() == vectors[1:].data_ptr()
    assert torch.equal(rows_of(vectors.to_sparse_csr(), slice(1, 3)).to_dense(), vectors[1:3])
    assert rows_of([1, 2, 3], slice(1, 2)) == [2]


def test_ranks():
    assert ranks_of(["b", "a10", "a2"]).tolist() == [2, 0, 1]
    assert ranks_of([10, 9, 100]).tolist() == [1, 0, 2]
    with pytest.raises(InputTypeError, match="ids of corpus"):
        ranks_of(["a", 1])
