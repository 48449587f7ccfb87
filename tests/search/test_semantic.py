import numpy as np
import pytest
import torch
from tests.tolerances import FORMULA_LARGE

from fourfold.errors import InputError
from fourfold.ops.similarity import cos_sim, dot_score, euclidean_sim, manhattan_sim
from fourfold.search import semantic
from fourfold.search.semantic import semantic_search


@pytest.fixture(scope="module")
def corpus():
    return torch.randn(200, 16, generator=torch.Generator().manual_seed(1))


def plain(queries, corpus, score, top_k):
    scores = score(queries, corpus)
    return [
        sorted(((float(s), i) for i, s in enumerate(row)), key=lambda pair: -pair[0])[:top_k] for row in scores
    ]  # fmt: skip


@pytest.mark.parametrize("score", [cos_sim, dot_score, euclidean_sim, manhattan_sim, lambda a, b: -(a @ b.T)])
@pytest.mark.parametrize("chunks", [(100, 500000), (1, 1), (7, 33), (200, 7)])
def test_it_finds_what_sorting_all_scores_finds(corpus, score, chunks):
    queries = corpus[::11] + 0.3
    found = semantic_search(queries, corpus, *chunks, top_k=9, score_function=score)
    for row, wanted in zip(found, plain(queries, corpus, score, 9), strict=True):
        assert [hit["corpus_id"] for hit in row] == [i for _, i in wanted]
        np.testing.assert_allclose([hit["score"] for hit in row], [s for s, _ in wanted], atol=FORMULA_LARGE)


def test_small_corpora_and_odd_vectors(corpus):
    assert [len(row) for row in semantic_search(corpus[:3], corpus[:2], top_k=10)] == [2, 2, 2]
    assert semantic_search(corpus[0], corpus)[0][0]["corpus_id"] == 0
    zero = torch.zeros(1, 16)
    assert semantic_search(zero, corpus, top_k=1)[0][0]["score"] == 0
    assert {hit["score"] for hit in semantic_search(corpus[0], torch.cat([zero, zero]))[0]} == {0.0}


def test_own_functions_get_the_chunks_that_were_asked_for(corpus):
    shapes = []

    def score(a, b):
        shapes.append((len(a), len(b)))
        return a @ b.T

    semantic_search(corpus[:5], corpus, query_chunk_size=3, corpus_chunk_size=150, score_function=score)
    assert shapes == [(3, 150), (3, 50), (2, 150), (2, 50)]


def test_memory_is_bounded_by_the_chunks(corpus, monkeypatch):
    blocks = []
    original = torch.Tensor.topk

    def topk(scores, *args, **kwargs):
        blocks.append(scores.numel())
        return original(scores, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "topk", topk)
    semantic_search(corpus, corpus, query_chunk_size=4, corpus_chunk_size=300)
    assert max(blocks) <= 4 * 300
    monkeypatch.setattr(semantic, "_MOST_SCORES", 1000)
    blocks.clear()
    semantic_search(corpus, corpus)
    assert max(blocks) <= 100 * 200


@pytest.mark.parametrize("name", ["query_chunk_size", "corpus_chunk_size", "top_k"])
def test_sizes_must_be_positive(corpus, name):
    with pytest.raises(InputError, match=f"{name} must be at least 1, got 0"):
        semantic_search(corpus[:1], corpus, **{name: 0})


def test_no_gradient_is_kept(corpus):
    assert semantic_search(corpus[:1].clone().requires_grad_(), corpus)[0]


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
@pytest.mark.parametrize("score", [cos_sim, dot_score, euclidean_sim])
def test_sparse_corpora_are_searched_as_dense_ones(corpus, layout, score):
    rows = torch.where(corpus > 0.9, corpus, torch.zeros(()))
    sparse = getattr(rows, layout)()
    for chunks in ((100, 500000), (7, 33)):
        found = semantic_search(sparse, sparse, *chunks, top_k=1, score_function=score)
        for row, wanted in zip(found, plain(rows.double(), rows.double(), score, 1), strict=True):
            assert row[0]["score"] == pytest.approx(wanted[0][0], abs=FORMULA_LARGE)


def test_own_functions_get_sparse_chunks(corpus):
    rows = torch.where(corpus > 0.9, corpus, torch.zeros(()))
    got = []

    def score(a, b):
        got.append((tuple(a.shape), tuple(b.shape), a.is_sparse and b.is_sparse))
        return dot_score(a, b)

    semantic_search(rows[:5].to_sparse(), rows.to_sparse(), 3, 150, score_function=score)
    assert got == [((n, 16), (m, 16), True) for n in (3, 2) for m in (150, 50)]
