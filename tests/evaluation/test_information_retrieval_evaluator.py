import gc
import json
import weakref

import pytest
import torch

from fourfold.errors import InputError
from fourfold.evaluation import InformationRetrievalEvaluator, _retrieval
from fourfold.ops.similarity import dot_score
from fourfold.testing import tiny

QUERIES = {"q1": "the text", "q2": "a query of world", "q3": "nothing"}
CORPUS = {f"d{i}": text for i, text in enumerate(["the text", "world", "a query", "x y", "long", "short text"])}
RELEVANT = {"q1": {"d0", "d3", "d5"}, "q2": {"d2"}, "q3": set()}
KS = {"mrr_at_k": [1, 3], "ndcg_at_k": [3, 10], "accuracy_at_k": [1, 3], "precision_recall_at_k": [1, 3],
      "map_at_k": [2, 100]}  # fmt: skip


def hits(*pairs):
    return [{"corpus_id": key, "score": score} for key, score in pairs]


def test_check_vector():
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, **KS)
    assert evaluator.queries_ids == ["q1", "q2"]
    first = hits(("d1", 0.9), ("d0", 0.8), ("d3", 0.8), ("d2", 0.5), ("d4", 0.4), ("d5", 0.3))
    found = evaluator.compute_metrics([first[::-1], hits(("d4", 0.7), ("d2", 0.6), ("d0", 0.1))])
    wanted = {
        "accuracy@k": {1: 0, 3: 1}, "precision@k": {1: 0, 3: 0.5}, "recall@k": {1: 0, 3: 0.833333},
        "ndcg@k": {3: 0.580826, 10: 0.664406}, "mrr@k": {1: 0, 3: 0.5}, "map@k": {2: 0.375, 100: 0.527778},
    }  # fmt: skip
    assert list(found) == list(wanted)
    for kind, values in wanted.items():
        assert found[kind] == pytest.approx(values, abs=1e-6)


def test_chunks_and_blocks_change_nothing(monkeypatch, tmp_path):
    model, results = tiny(), []
    for chunk, most in ((50, 2**25), (1, 2**25), (4, 2)):
        monkeypatch.setattr(_retrieval, "_MOST_SCORES", most)
        monkeypatch.setattr(_retrieval, "_MOST_DOCUMENTS", most)
        folder = tmp_path / f"{chunk}-{most}"
        options = {"corpus_chunk_size": chunk, "write_predictions": True, "name": "n", **KS}
        found = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, **options)(model, str(folder))
        lines = (folder / "Information-Retrieval_evaluation_n_predictions_cosine.jsonl").read_text().splitlines()
        results.append((found, [[hit["corpus_id"] for hit in json.loads(line)["results"]] for line in lines]))
    assert results[0] == results[1] == results[2]
    assert [len(ids) for ids in results[0][1]] == [6, 6]


def test_documents_are_encoded_a_chunk_at_a_time_and_let_go():
    held = []

    class Watched(InformationRetrievalEvaluator):
        def embed_inputs(self, model, sentences, encode_fn_name=None, **kwargs):
            gc.collect()
            assert sum(vectors() is not None for vectors in held) == 0
            vectors = super().embed_inputs(model, sentences, encode_fn_name, **kwargs)
            assert len(sentences) <= 2
            if encode_fn_name == "document":
                held.append(weakref.ref(vectors))
            return vectors

    Watched(QUERIES, CORPUS, RELEVANT, corpus_chunk_size=2)(tiny())
    assert len(held) == 3


def test_given_vectors_are_read_in_place():
    model, seen = tiny(), []
    vectors = model.encode_document(list(CORPUS.values()), convert_to_tensor=True)

    def score(queries, documents):
        seen.append(documents.data_ptr())
        return queries @ documents.T

    evaluator = InformationRetrievalEvaluator(
        QUERIES, CORPUS, RELEVANT, corpus_chunk_size=2, score_functions={"mine": score}
    )
    evaluator(model, corpus_embeddings=vectors)
    assert seen == [vectors[start:].data_ptr() for start in (0, 2, 4)]


def test_the_document_of_the_query_s_own_id_counts():
    found = InformationRetrievalEvaluator({"a": "the text"}, {"a": "the text", "b": "x"}, {"a": {"a"}})(tiny())
    assert found["cosine_accuracy@1"] == 1.0


def test_the_model_is_not_kept():
    model, evaluator = tiny(), InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)
    evaluator(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_the_primary_number():
    functions = {"up": lambda a, b: a @ b.T, "down": lambda a, b: -(a @ b.T)}
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, score_functions=functions, **KS)
    found = evaluator(tiny())
    assert evaluator.primary_metric == max("down_ndcg@10", "up_ndcg@10", key=found.get)
    same = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, score_functions=dict.fromkeys("ba", dot_score))
    same(tiny())
    assert same.primary_metric == "a_ndcg@10"
    named = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, name="cosine")
    for _ in range(2):
        assert named.primary_metric in (None, "cosine_cosine_ndcg@10")
        assert named.primary_metric is None or named.primary_metric in named(tiny())
        named(tiny())


def test_settings():
    options = {"truncate_dim": 4, "query_prompt": "q", "corpus_prompt_name": "c"}
    config = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, **options).get_config_dict()
    assert config == options
    assert list(config) == list(options)
    assert InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT).get_config_dict() == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"corpus_chunk_size": 0}, "corpus_chunk_size"),
        ({"map_at_k": [3, 0]}, "map_at_k"),
        ({"main_score_function": "x"}, "'x'"),
    ],
)
def test_refusals(options, said):
    with pytest.raises(InputError, match=said):
        InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, **options)


@pytest.mark.parametrize(
    ("relevant", "options", "call", "said"),
    [
        ({}, {}, {}, "relevant_docs"),
        (RELEVANT, {"ndcg_at_k": []}, {}, "ndcg_at_k"),
        (
            RELEVANT,
            {},
            {"corpus_embeddings": torch.zeros(2, 32)},
            "corpus_embeddings must have a row for each of the 6",
        ),
    ],
)
def test_refusals_when_called(relevant, options, call, said):
    with pytest.raises(InputError, match=said):
        InformationRetrievalEvaluator(QUERIES, CORPUS, relevant, **options)(tiny(), **call)
