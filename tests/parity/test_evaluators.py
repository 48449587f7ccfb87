"""Evaluators beside the older library's: the same numbers under the same names in the same order, tables and files."""

import csv
import io
import json
import math
import random

import pytest
import torch
from tests.support import named

import fourfold
from fourfold import SentenceTransformer, SimilarityFunction, SparseEncoder, evaluation
from fourfold.testing import tiny_folder

CLOSE = 1e-5
WORDS = ["the", "a", "of", "query", "document", "text", "short", "long", "world", "x", "in"]
FUNCTIONS = ["cosine", "dot", "euclidean", "manhattan"]


def made_texts(count, seed):
    chooser = random.Random(seed)
    return [" ".join(chooser.choices(WORDS, k=chooser.randint(1, 8))) for _ in range(count)]


FIRST, SECOND, THIRD = (made_texts(12, seed) for seed in range(3))
SCORES = [round(number, 1) for number in torch.rand(12, generator=torch.Generator().manual_seed(0)).tolist()]
QUERIES = {f"q{i}": text for i, text in enumerate(made_texts(5, 3))}
CORPUS = {f"d{i}": text for i, text in enumerate(dict.fromkeys(made_texts(40, 4)))}
RELEVANT = {"q0": {"d0", "d11", "d2"}, "q1": {"d3"}, "q2": set(), "q3": {"d1", "absent"}}
RETRIEVAL = (QUERIES, CORPUS, RELEVANT)
KS = {"mrr_at_k": [3, 10], "ndcg_at_k": [2, 5], "accuracy_at_k": [2], "precision_recall_at_k": [1, 4], "map_at_k": [7]}


@pytest.fixture(scope="module")
def dense(st):
    folder = str(tiny_folder("dense", "bert"))
    options = {"device": "cpu", "prompts": {"query": "query: ", "document": "text: ", "other": "x "}}
    return SentenceTransformer(folder, **options), st.SentenceTransformer(folder, **options)


@pytest.fixture(scope="module")
def sparse(st):
    folder = str(tiny_folder("sparse", "bert"))
    return SparseEncoder(folder, device="cpu"), st.SparseEncoder(folder, device="cpu")


@pytest.fixture(scope="module")
def theirs(st):
    from sentence_transformers.base import evaluation as base
    from sentence_transformers.sentence_transformer import evaluation as of_dense
    from sentence_transformers.sparse_encoder import evaluation as of_sparse

    def find(name):
        return next(getattr(home, name) for home in (of_dense, of_sparse, base) if hasattr(home, name))

    return find


def near(one, other):
    return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE) or (math.isnan(one) and math.isnan(other))


def assert_same_numbers(one, other):
    assert list(one) == list(other)
    for key, value in one.items():
        assert type(value) is float
        assert near(value, other[key]), (key, value, other[key])


def assert_same_table(one, other):
    assert one.splitlines(keepends=True)[0] == other.splitlines(keepends=True)[0]
    ours, theirs = (list(csv.reader(io.StringIO(text, newline=""))) for text in (one, other))
    assert [len(row) for row in ours] == [len(row) for row in theirs]
    for row, wanted in zip(ours[1:], theirs[1:], strict=True):
        assert row[:2] == wanted[:2]
        assert all(near(float(a), float(b)) for a, b in zip(row, wanted, strict=True))


def assert_same_predictions(one, other):
    for row, wanted in zip(*([json.loads(line) for line in text.splitlines()] for text in (one, other)), strict=True):
        assert list(row) == list(wanted)
        assert (row["query_id"], row["query"]) == (wanted["query_id"], wanted["query"])
        assert [hit["corpus_id"] for hit in row["results"]] == [hit["corpus_id"] for hit in wanted["results"]]
        for hit, other_hit in zip(row["results"], wanted["results"], strict=True):
            assert list(hit) == list(other_hit)
            assert near(hit["score"], other_hit["score"])


def read(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes().decode() for path in sorted(files)}


def assert_same_files(one, other):
    ours, wanted = read(one), read(other)
    assert list(ours) == list(wanted)
    for name, text in ours.items():
        (assert_same_table if name.endswith(".csv") else assert_same_predictions)(text, wanted[name])


def compare(pair, models, folder, calls=((), (2, -1), (3, 40)), **options):
    """Call both evaluators at some moments of training and compare all that can be seen."""
    for moment in calls:
        results = [
            evaluator(model, str(folder / side / "eval"), *moment, **{key: value[i] for key, value in options.items()})
            for i, (evaluator, model, side) in enumerate(zip(pair, models, ("ours", "theirs"), strict=True))
        ]
        assert_same_numbers(*results)
        assert pair[0].primary_metric == pair[1].primary_metric
    assert pair[0].greater_is_better == pair[1].greater_is_better
    assert pair[0].get_config_dict() == pair[1].get_config_dict()
    assert list(pair[0].get_config_dict()) == list(pair[1].get_config_dict())
    assert pair[0].description == pair[1].description
    assert list(pair[0].csv_headers) == list(pair[1].csv_headers)
    assert pair[0].csv_file == pair[1].csv_file
    assert_same_files(folder / "ours", folder / "theirs")
    cards = [list(model.model_card_data.eval_results_dict.items())[-1] for model in models]
    assert [key is evaluator for (key, _), evaluator in zip(cards, pair, strict=True)] == [True, True]
    assert_same_numbers(cards[0][1], cards[1][1])
    logs = [model.model_card_data.training_logs[-1] for model in models]
    assert list(logs[0]) == list(logs[1])
    assert all(near(logs[0][key], logs[1][key]) for key in logs[0])
    return results[0]


def both(theirs, cls, /, *args, **options):
    return getattr(evaluation, cls)(*args, **options), theirs(cls)(*args, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "a-name, with_marks", "batch_size": 3},
        {"main_similarity": "dot"},
        {"main_similarity": SimilarityFunction.EUCLIDEAN},
        {"similarity_fn_names": FUNCTIONS, "name": "all"},
        {"similarity_fn_names": ["manhattan", "cosine"], "main_similarity": "cosine", "name": "n"},
        {"truncate_dim": 7},
        {"write_csv": False},
        *({"precision": p, "similarity_fn_names": FUNCTIONS, "truncate_dim": 16} for p in
          ("float32", "int8", "uint8", "binary", "ubinary")),
        {"precision": "binary", "name": "bits"},
    ],
    ids=named,
)  # fmt: skip
def test_embedding_similarity(dense, theirs, tmp_path, options):
    if "main_similarity" in options and not isinstance(options["main_similarity"], str):
        options = {**options, "main_similarity": options["main_similarity"].value}
    pair = both(theirs, "EmbeddingSimilarityEvaluator", FIRST, SECOND, SCORES, **options)
    compare(pair, dense, tmp_path)


def test_embedding_similarity_with_constant_scores(dense, theirs, tmp_path):
    compare(both(theirs, "EmbeddingSimilarityEvaluator", FIRST, SECOND, [1.0] * 12), dense, tmp_path)


def test_embedding_similarity_of_one_row(dense, theirs):
    for evaluator, model in zip(both(theirs, "EmbeddingSimilarityEvaluator", ["a"], ["b"], [1.0]), dense, strict=True):
        with pytest.raises(ValueError):
            evaluator(model)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "mine"},
        {"similarity_fn_names": FUNCTIONS},
        {"similarity_fn_names": ["dot", "manhattan"], "main_similarity_function": "dot", "name": "n"},
        {"main_similarity_function": "euclidean", "margin": 1},
        {"margin": 0.05, "truncate_dim": 5},
        {"similarity_fn_names": FUNCTIONS, "margin": {"dot": 0.1, "manhattan": 2}},
        {"main_distance_function": "manhattan"},
        {"main_distance_function": "manhattan", "main_similarity_function": "dot"},
        {"write_csv": False},
    ],
    ids=named,
)
def test_triplet(dense, theirs, tmp_path, options):
    pair = both(theirs, "TripletEvaluator", FIRST, [*SECOND[:6], *FIRST[6:]], THIRD, **options)
    compare(pair, dense, tmp_path)
    assert pair[0].margin == pair[1].margin


def test_triplet_without_rows_or_with_ties(dense, theirs, tmp_path):
    compare(both(theirs, "TripletEvaluator", [], [], []), dense, tmp_path / "none")
    compare(both(theirs, "TripletEvaluator", FIRST, SECOND, SECOND), dense, tmp_path / "ties")


@pytest.mark.parametrize(
    "arguments",
    [
        {"similarity_fn_names": ["x"]},
        {"main_similarity_function": "x"},
        {"margin": {"x": 1}},
        {"margin": "x"},
    ],
    ids=named,
)
def test_triplet_refusals(theirs, arguments):
    for cls in (evaluation.TripletEvaluator, theirs("TripletEvaluator")):
        with pytest.raises(ValueError):
            cls(FIRST, SECOND, THIRD, **arguments)


def test_from_examples(st, dense, theirs, tmp_path):
    columns = list(zip(FIRST, SECOND, THIRD, SCORES, strict=True))
    for name in ("EmbeddingSimilarityEvaluator", "TripletEvaluator"):
        pair = [
            cls.from_input_examples([example(texts=list(row[:3]), label=row[3]) for row in columns], name="mine")
            for cls, example in (
                (getattr(evaluation, name), fourfold.InputExample),
                (theirs(name), st.InputExample),
            )
        ]
        compare(pair, dense, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "mine", "write_predictions": True},
        {"corpus_chunk_size": 7, "write_predictions": True, "batch_size": 4},
        {"truncate_dim": 6, "write_csv": False, **KS},
        {"query_prompt": "x ", "corpus_prompt_name": "other", "name": "n", **KS},
        {"query_prompt_name": "other", "corpus_prompt": ""},
        {"main_score_function": "cosine", "name": "n"},
    ],
    ids=named,
)
def test_retrieval(dense, theirs, tmp_path, options):
    compare(both(theirs, "InformationRetrievalEvaluator", *RETRIEVAL, **options), dense, tmp_path)


def test_retrieval_whose_main_function_is_not_among_them(dense, theirs):
    pair = both(theirs, "InformationRetrievalEvaluator", *RETRIEVAL, main_score_function="dot", name="n")
    assert_same_numbers(*(evaluator(model) for evaluator, model in zip(pair, dense, strict=True)))
    assert pair[0].primary_metric == pair[1].primary_metric == "n_dot_ndcg@10"


@pytest.mark.parametrize("main", [None, "dot"])
@pytest.mark.parametrize("chunk", [5, 1000])
def test_retrieval_by_several_functions(st, dense, theirs, tmp_path, main, chunk):
    options = {"corpus_chunk_size": chunk, "main_score_function": main, "name": "n", "write_predictions": True, **KS}
    pair = [
        cls(
            *RETRIEVAL,
            score_functions={"manhattan": home.manhattan_sim, "dot": home.dot_score, "euclidean": home.euclidean_sim},
            **options,
        )
        for cls, home in (
            (evaluation.InformationRetrievalEvaluator, fourfold.util),
            (theirs("InformationRetrievalEvaluator"), st.util),
        )
    ]
    compare(pair, dense, tmp_path)


def equal_scores(queries, documents):
    """Whole numbers of few values, so that many documents tie, whatever the last bits of the vectors are."""
    return ((queries[:, :1] > 0) * 1.0 + (documents[:, :1] > 0).T * 1.0).round()


@pytest.mark.parametrize("chunk", [1, 4, 9, 1000])
@pytest.mark.parametrize("depth", [1, 3, 30])
@pytest.mark.parametrize("number", [False, True])
def test_retrieval_with_ties(dense, theirs, tmp_path, chunk, depth, number):
    ids = [(7 * i) % 41 for i in range(len(CORPUS))]
    corpus = {i if number else f"d{i}": text for i, text in zip(ids, CORPUS.values(), strict=True)}
    relevant = {key: set(list(corpus)[i:20:3]) for i, key in enumerate(QUERIES)}
    ks = {key: [depth] for key in KS}
    functions = {"tied": equal_scores, "same": lambda a, b: torch.ones(len(a), len(b))}
    options = {"score_functions": functions, "corpus_chunk_size": chunk, "write_predictions": True, **ks}
    compare(both(theirs, "InformationRetrievalEvaluator", QUERIES, corpus, relevant, **options), dense, tmp_path)


@pytest.mark.parametrize("kind", ["tensor", "array"])
@pytest.mark.parametrize("chunk", [6, 1000])
def test_retrieval_in_given_vectors(dense, theirs, tmp_path, kind, chunk):
    vectors = dense[0].encode_document(list(CORPUS.values()), convert_to_tensor=True)
    vectors = vectors if kind == "tensor" else vectors.numpy()
    pair = both(theirs, "InformationRetrievalEvaluator", *RETRIEVAL, corpus_chunk_size=chunk, write_predictions=True)
    compare(pair, dense, tmp_path, corpus_embeddings=(vectors, vectors))


def test_retrieval_with_a_model_for_documents(st, dense, theirs, tmp_path):
    folder = str(tiny_folder("dense", "bert", seed=1))
    others = SentenceTransformer(folder, device="cpu"), st.SentenceTransformer(folder, device="cpu")
    compare(both(theirs, "InformationRetrievalEvaluator", *RETRIEVAL), dense, tmp_path, corpus_model=others)


def test_retrieval_of_a_model_whose_similarity_changes(dense, theirs, tmp_path):
    pair = both(theirs, "InformationRetrievalEvaluator", *RETRIEVAL, name="n")
    for similarity in ("cosine", "dot", "manhattan"):
        for model in dense:
            model.similarity_fn_name = similarity
        try:
            compare(pair, dense, tmp_path / similarity)
        finally:
            for model in dense:
                model.similarity_fn_name = "cosine"


def test_retrieval_in_nothing(dense, theirs, tmp_path):
    compare(both(theirs, "InformationRetrievalEvaluator", QUERIES, {}, RELEVANT), dense, tmp_path)


def test_retrieval_methods(st, dense, theirs):
    pair = [
        cls(*RETRIEVAL, score_functions={"cosine": home.cos_sim})
        for cls, home in (
            (evaluation.InformationRetrievalEvaluator, fourfold.util),
            (theirs("InformationRetrievalEvaluator"), st.util),
        )
    ]
    hits = [[{"corpus_id": f"d{i}", "score": 1 - i / 20} for i in order] for order in ((1, 2, 5), (3, 4), ())]
    found = [(evaluator.compute_metrics(hits), evaluator.compute_metrices(model)["cosine"])
             for evaluator, model in zip(pair, dense, strict=True)]  # fmt: skip
    for one, other in zip(*found, strict=True):
        assert list(one) == list(other)
        for kind in one:
            assert list(one[kind]) == list(other[kind])
            assert all(near(value, other[kind][k]) for k, value in one[kind].items())
    for relevances, k in (([1, 0, 1], 2), ([1, 0, 2.0], 10), ([0, 3], 1)):
        assert near(pair[0].compute_dcg_at_k(relevances, k), pair[1].compute_dcg_at_k(relevances, k))
    assert list(pair[0]._model_score_functions(dense[0])) == list(pair[1]._model_score_functions(dense[1]))
    assert pair[0].queries_ids == pair[1].queries_ids
    assert pair[0].corpus_ids == pair[1].corpus_ids


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "a,b", "max_active_dims": 5},
        {"similarity_fn_names": FUNCTIONS},
        {"main_similarity": "dot", "write_csv": False},
        {"similarity_fn_names": ["dot"], "name": "n"},
    ],
    ids=named,
)
def test_sparse_embedding_similarity(sparse, theirs, tmp_path, options):
    compare(both(theirs, "SparseEmbeddingSimilarityEvaluator", FIRST, SECOND, SCORES, **options), sparse, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "n", "max_active_dims": 6, "margin": 0.5},
        {"similarity_fn_names": FUNCTIONS, "main_similarity_function": "cosine"},
        {"write_csv": False},
    ],
    ids=named,
)
def test_sparse_triplet(sparse, theirs, tmp_path, options):
    compare(both(theirs, "SparseTripletEvaluator", FIRST, SECOND, THIRD, **options), sparse, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"write_predictions": True},
        {"corpus_chunk_size": 7, "write_predictions": True, "name": "n", "query_prompt": "x "},
        {"corpus_chunk_size": 11, "max_active_dims": 4, **KS},
        {"write_csv": False},
    ],
    ids=named,
)
def test_sparse_retrieval(sparse, theirs, tmp_path, options):
    compare(both(theirs, "SparseInformationRetrievalEvaluator", *RETRIEVAL, **options), sparse, tmp_path)


@pytest.mark.parametrize("layout", ["sparse", "dense"])
@pytest.mark.parametrize("chunk", [7, 1000])
def test_sparse_retrieval_in_given_vectors(sparse, theirs, tmp_path, layout, chunk):
    vectors = sparse[0].encode_document(list(CORPUS.values()), convert_to_tensor=True)
    vectors = vectors if layout == "sparse" else vectors.to_dense()
    pair = both(
        theirs, "SparseInformationRetrievalEvaluator", *RETRIEVAL, corpus_chunk_size=chunk, write_predictions=True
    )
    compare(pair, sparse, tmp_path, corpus_embeddings=(vectors, vectors))


def test_sequential(dense, theirs, tmp_path):
    def plain(model, output_path, epoch, steps):
        return 0.25

    results = []
    for side, find, model in zip(
        ("ours", "theirs"), (lambda name: getattr(evaluation, name), theirs), dense, strict=True
    ):
        parts = [
            find("TripletEvaluator")(FIRST, SECOND, THIRD, name="n"),
            plain,
            find("EmbeddingSimilarityEvaluator")(FIRST, SECOND, SCORES, similarity_fn_names=FUNCTIONS, name="m"),
            lambda *_: {"one": 3.0, "two": 4.0},
        ]
        for options in ({}, {"main_score_function": sum}):
            evaluator = find("SequentialEvaluator")(iter(parts), **options)
            assert evaluator.primary_metric is None
            results.append(evaluator(model, str(tmp_path / side), 1, 2))
            assert evaluator.primary_metric == "sequential_score"
        results.append(find("SequentialEvaluator")([])(model))
    for one, other in zip(results[:3], results[3:], strict=True):
        assert_same_numbers(one, other)
    assert_same_files(tmp_path / "ours", tmp_path / "theirs")


def test_what_subclasses_are_asked(dense, theirs):
    seen = []
    for find, model in zip((lambda name: getattr(evaluation, name), theirs), dense, strict=True):
        calls = []
        for name, args in (
            ("EmbeddingSimilarityEvaluator", (FIRST, SECOND, SCORES)),
            ("TripletEvaluator", (FIRST, SECOND, THIRD)),
            ("InformationRetrievalEvaluator", RETRIEVAL),
        ):

            class Mine(find(name)):
                def embed_inputs(self, model, sentences, **kwargs):
                    calls.append((len(sentences), kwargs))  # noqa: B023
                    return super().embed_inputs(model, sentences, **kwargs)

            Mine(*args)(model)
            calls.append(Mine(*args).description)
        seen.append(calls)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    "name",
    ["CECorrelationEvaluator", "NanoBEIREvaluator", "CENanoBEIREvaluator", "MSEEvaluatorFromDataFrame", "Foo",
     "CrossEncoderNanoBEIREvaluator", "MultiVectorDistillationEvaluator", "CentEvaluator", "Evaluator"],
)  # fmt: skip
def test_descriptions(theirs, name):
    ours, wanted = (
        type(name, (base,), {})().description for base in (evaluation.BaseEvaluator, theirs("BaseEvaluator"))
    )
    assert ours == wanted


def test_names_in_front(theirs):
    found = []
    for base in (evaluation.BaseEvaluator, theirs("BaseEvaluator")):
        evaluator = base()
        found.append([evaluator.primary_metric, evaluator.greater_is_better, evaluator.get_config_dict()])
        evaluator.primary_metric = "a"
        for _ in range(2):
            found[-1].append(evaluator.prefix_name_to_metrics({"a": torch.tensor(2), "b": "0.5 (+0.1)"}, "n"))
            found[-1].append(evaluator.primary_metric)
        found[-1].append(evaluator.prefix_name_to_metrics({"a": 1}, ""))
        with pytest.raises(NotImplementedError):
            evaluator(None)
    assert found[0] == found[1]


def test_signatures(theirs):
    """Arguments may be given by place: the older library's evaluators made so are equal to ours made so."""
    pair = both(
        theirs, "InformationRetrievalEvaluator", QUERIES, CORPUS, RELEVANT, 9, [1], [2], [3], [4], [5], False, 6, "n",
        False, 7, None, "dot", "a", None, "b", None, True,
    )  # fmt: skip
    skipped = {"score_functions", "_corpus_id_ranks", "_score_functions_from_model", "main_score_function"}
    for key, value in vars(pair[1]).items():
        if key not in skipped:
            assert getattr(pair[0], key) == value, key
