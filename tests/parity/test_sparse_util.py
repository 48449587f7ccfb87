"""The functions of ``fourfold.util`` on sparse tensors give what ``sentence_transformers.util`` gives."""

import logging

import numpy as np
import pytest
import torch
from tests.tolerances import FORMULA_LARGE

from fourfold import notices
from fourfold import util as ours

ALL_PAIRS = ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"]
PAIRWISE = [f"pairwise_{name}" for name in [*ALL_PAIRS, "angle_sim"]]


def rows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(count, 301, generator=generator)
    return torch.where(torch.rand(count, 301, generator=generator) < 0.05, dense, torch.zeros(()))


A, B = rows(9, 0), rows(9, 1)
A[4] = 0
SPARSE_A, SPARSE_B = A.to_sparse(), B.to_sparse()
TWICE = torch.sparse_coo_tensor(
    torch.cat([SPARSE_A.indices()] * 2, dim=1),
    torch.cat([SPARSE_A.values() * 0.25, SPARSE_A.values() * 0.75]),
    A.shape,
    check_invariants=False,
)
FORMS = {
    "coo": (SPARSE_A, SPARSE_B),
    "uncoalesced": (TWICE, SPARSE_B),
    "lists": (list(SPARSE_A), list(SPARSE_B)),
    "sparse and dense": (SPARSE_A, B),
    "dense and sparse": (A, SPARSE_B),
    "one and one": (SPARSE_A[0], SPARSE_B[0]),
    "float16": (SPARSE_A.half(), SPARSE_B.half()),
    "bfloat16": (SPARSE_A.bfloat16(), SPARSE_B.bfloat16()),
    "float64": (SPARSE_A.double(), SPARSE_B.double()),
    "integers": (SPARSE_A.long(), SPARSE_B.long()),
}


@pytest.fixture(scope="module")
def theirs(st):
    return st.util


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ALL_PAIRS + PAIRWISE)
def test_similarities(theirs, name, form):
    given = FORMS[form]
    if name == "pairwise_angle_sim" and form == "one and one":
        for module in (ours, theirs):
            with pytest.raises(IndexError):
                module.pairwise_angle_sim(*given)
        return
    mine, wanted = (getattr(module, name)(*given) for module in (ours, theirs))
    assert mine.layout == torch.strided
    assert mine.dtype == wanted.dtype
    torch.testing.assert_close(mine, wanted.to_dense(), atol=FORMULA_LARGE, rtol=0)


@pytest.mark.parametrize("name", ALL_PAIRS)
def test_one_vector_beside_many(theirs, name):
    mine, wanted = (getattr(module, name)(SPARSE_A[0], SPARSE_B) for module in (ours, theirs))
    torch.testing.assert_close(mine, wanted.to_dense(), atol=FORMULA_LARGE, rtol=0)


def test_vectors_of_two_widths_are_an_error_of_one_type(theirs):
    narrow = SPARSE_B.to_dense()[:, :200].to_sparse()
    for name in ("dot_score", "cos_sim", "pairwise_dot_score"):
        for module in (ours, theirs):
            with pytest.raises(RuntimeError):
                getattr(module, name)(SPARSE_A, narrow)


def test_what_is_made_dense_is_told_once(theirs, caplog, monkeypatch):
    monkeypatch.setattr(notices, "_said", set())
    with caplog.at_level(logging.WARNING, "fourfold"):
        for _ in range(3):
            ours.pairwise_angle_sim(SPARSE_A, SPARSE_B)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_lists_of_sparse_vectors_become_one(theirs, dtype):
    for name in ("_convert_to_tensor", "_convert_to_batch_tensor"):
        mine, wanted = (getattr(module, name)(list(SPARSE_A.to(dtype))) for module in (ours, theirs))
        assert (mine.dtype, mine.layout, mine.shape) == (wanted.dtype, wanted.layout, wanted.shape)
        assert torch.equal(mine.to_dense(), wanted.to_dense())


@pytest.mark.parametrize("given", [SPARSE_A, TWICE, SPARSE_A.half(), SPARSE_A[0]], ids=["coo", "twice", "half", "one"])
def test_vectors_keep_their_kind_when_scaled(theirs, given):
    mine, wanted = (module.normalize_embeddings(given.clone()) for module in (ours, theirs))
    assert (mine.dtype, mine.layout, mine.shape) == (wanted.dtype, wanted.layout, wanted.shape)
    torch.testing.assert_close(mine.to_dense(), wanted.to_dense(), atol=FORMULA_LARGE, rtol=0)


@pytest.mark.parametrize("given", [SPARSE_A, TWICE, SPARSE_A[0]], ids=["coo", "twice", "one"])
def test_counting(theirs, given):
    mine, wanted = (module.compute_count_vector(given.clone()) for module in (ours, theirs))
    assert mine.dtype == wanted.dtype
    assert torch.equal(mine, wanted)


def test_the_strongest_entries(theirs):
    for most in (1, 4, 400):
        mine, wanted = (module.select_max_active_dims(SPARSE_A.to_dense(), most) for module in (ours, theirs))
        assert torch.equal(mine, wanted)
        assert torch.equal(ours.select_max_active_dims(SPARSE_A, most), wanted)


def test_scipy_matrices(theirs):
    for given in (SPARSE_A, SPARSE_A.double(), TWICE.coalesce()):
        mine, wanted = (module.to_scipy_coo(given) for module in (ours, theirs))
        assert type(mine) is type(wanted)
        assert mine.dtype == wanted.dtype
        np.testing.assert_allclose(mine.toarray(), wanted.toarray(), atol=FORMULA_LARGE)


# Distinct scores: the order of equal ones is nobody's promise.
CORPUS = rows(240, 2)
QUERIES = rows(33, 3)


@pytest.mark.parametrize("chunks", [{}, {"query_chunk_size": 7, "corpus_chunk_size": 33}], ids=["whole", "chunks"])
@pytest.mark.parametrize("name", ALL_PAIRS)
def test_search(theirs, name, chunks):
    queries, corpus = QUERIES.to_sparse(), CORPUS.to_sparse()
    forms = [(queries, corpus), (QUERIES, corpus), (queries, CORPUS), (queries[0], corpus), (list(queries), corpus)]
    for given in forms:
        mine, wanted = (
            module.semantic_search(*given, **chunks, score_function=getattr(module, name)) for module in (ours, theirs)
        )
        assert [[hit["corpus_id"] for hit in row] for row in mine] == [
            [hit["corpus_id"] for hit in row] for row in wanted
        ]
        scores = [np.array([hit["score"] for row in found for hit in row]) for found in (mine, wanted)]
        np.testing.assert_allclose(*scores, atol=FORMULA_LARGE)


def test_a_corpus_of_nothing(theirs):
    nothing = torch.zeros(0, 301).to_sparse()
    assert ours.semantic_search(QUERIES.to_sparse(), nothing) == theirs.semantic_search(QUERIES.to_sparse(), nothing)
