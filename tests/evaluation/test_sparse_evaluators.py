import pytest
import torch

from fourfold.evaluation import (
    SparseEmbeddingSimilarityEvaluator,
    SparseInformationRetrievalEvaluator,
    SparseTripletEvaluator,
)
from fourfold.evaluation.sparse_information_retrieval_evaluator import expected_overlap
from fourfold.testing import tiny

FIRST, SECOND, THIRD = ["the text", "a query of world"], ["text", "world"], ["x y", "long"]
QUERIES = {"q1": "the text", "q2": "a query of world"}
CORPUS = {f"d{i}": text for i, text in enumerate(["the text", "world", "a query", "x y", "long"])}
RELEVANT = {"q1": {"d0"}, "q2": {"d2"}}


@pytest.fixture(scope="module")
def model():
    return tiny("sparse")


def test_similarity_and_triplets(model, tmp_path):
    found = SparseEmbeddingSimilarityEvaluator(FIRST, SECOND, [1, 0], name="n", max_active_dims=5)(model, str(tmp_path))
    assert list(found) == ["n_pearson_dot", "n_spearman_dot", "n_active_dims", "n_sparsity_ratio"]
    assert found["n_active_dims"] == 5.0
    vectors = [model.encode(texts, convert_to_sparse_tensor=True) for texts in (FIRST, SECOND, THIRD)]
    triplets = SparseTripletEvaluator(FIRST, SECOND, THIRD)(model, str(tmp_path))
    for group, rows in zip(("anchor", "positive", "negative"), vectors, strict=True):
        assert triplets[f"{group}_active_dims"] == pytest.approx(model.sparsity(rows)["active_dims"])
    for file in tmp_path.iterdir():
        assert len({line.count(",") for line in file.read_text().splitlines()}) == 1


@pytest.mark.parametrize("chunk", [2, 100])
def test_retrieval(model, chunk):
    evaluator = SparseInformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, corpus_chunk_size=chunk)
    for _ in range(2):  # counts do not add up over calls
        found = evaluator(model)
        queries, documents = (
            model.encode(list(texts.values()), convert_to_sparse_tensor=True) for texts in (QUERIES, CORPUS)
        )
        for side, rows in (("query", queries), ("corpus", documents)):
            for kind, value in model.sparsity(rows).items():
                assert found[f"{side}_{kind}"] == pytest.approx(value)
        shares = [(rows.to_dense() != 0).double().mean(0) for rows in (queries, documents)]
        assert found["avg_flops"] == pytest.approx(float(shares[0] @ shares[1]))
        assert sum(evaluator.count_lengths["corpus"]) == len(CORPUS)


def test_given_vectors_are_counted(model):
    vectors = model.encode_document(list(CORPUS.values()), convert_to_sparse_tensor=True)
    evaluator = SparseInformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, corpus_chunk_size=2)
    wanted = evaluator(model)
    for form in (vectors, vectors.to_dense(), vectors.to_dense().to_sparse_csr()):
        assert evaluator(model, corpus_embeddings=form) == pytest.approx(wanted)


def test_overlap_of_nothing():
    assert expected_overlap({}, {"query": [], "corpus": [3]}) == 0.0
    counts = {"query": torch.tensor([2, 1]), "corpus": torch.tensor([1, 0])}
    assert expected_overlap(counts, {"query": [2], "corpus": [3, 1]}) == 0.25


def test_settings():
    made = SparseInformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, max_active_dims=3, query_prompt="q")
    assert made.get_config_dict() == {"query_prompt": "q", "max_active_dims": 3}
    assert made.description == "Sparse Information Retrieval"
