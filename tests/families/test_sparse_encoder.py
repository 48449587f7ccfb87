"""``fourfold.load`` of sparse models: the rows of ``SparseEncoder`` as ``Terms``, in numpy and over torch."""

import json
import shutil

import numpy as np
import pytest
import scipy.sparse
import torch
from tests import tolerances
from tests.support import TEXTS, read_json

import fourfold
from fourfold import SparseEncoder
from fourfold.containers import Terms
from fourfold.errors import InputError
from fourfold.modules import Router
from fourfold.testing import tiny, tiny_folder

NAMES = ("static", "bert", "qwen3", "routed")


def folder_of(name, root):
    if name != "routed":
        return tiny_folder("sparse", name)
    router = Router.for_query_document([*tiny("sparse", "static")], [*tiny("sparse")])
    SparseEncoder(modules=[router], device="cpu").save(root / "routed", create_model_card=False)
    return root / "routed"


@pytest.fixture(scope="module", params=NAMES)
def pair(request, tmp_path_factory):
    folder = folder_of(request.param, tmp_path_factory.mktemp("routed"))
    return fourfold.load(folder), SparseEncoder(str(folder), device="cpu")


def dense(found):
    if isinstance(found, list):
        return np.stack([dense(row)[0] for row in found])
    rows = found.dense() if isinstance(found, Terms) else found.to_dense().numpy()
    return np.atleast_2d(rows)


CALLS = {
    "many": lambda m: m.encode(TEXTS),
    "tuple": lambda m: m.encode(tuple(TEXTS)),
    "array": lambda m: m.encode(np.array(TEXTS)),
    "one": lambda m: m.encode(TEXTS[0]),
    "queries": lambda m: m.encode_query(TEXTS),
    "documents": lambda m: m.encode_document(TEXTS),
    "task": lambda m: m.encode(TEXTS, task="query"),
    "active": lambda m: m.encode(TEXTS, max_active_dims=3),
    "prompt": lambda m: m.encode_query(TEXTS, prompt="the "),
    "small": lambda m: m.encode(TEXTS, batch_size=2),
    "stream": lambda m: list(m.encode_stream(iter(TEXTS), window=3)),
    "stream of queries": lambda m: list(m.encode_stream(iter(TEXTS), window=3, task="query", max_active_dims=2)),
}


@pytest.mark.parametrize("name", CALLS)
def test_rows_are_the_models(pair, name):
    got, wanted = (CALLS[name](model) for model in pair)
    for each in got if isinstance(got, list) else [got]:
        assert isinstance(each, Terms)
        assert (each.weights.dtype, each.width) == (np.float32, pair[1].get_embedding_dimension())
        assert all((np.diff(each.row(number)[0]) > 0).all() for number in range(len(each)))
    np.testing.assert_allclose(dense(got), dense(wanted), rtol=0, atol=tolerances.BATCH * 10)


def test_one_and_none(pair):
    encoder, _ = pair
    assert len(encoder.encode("a text")) == len(encoder.encode(["a text"])) == 1
    nothing = encoder.encode([])
    assert (len(nothing), nothing.width) == (0, encoder.get_embedding_dimension())
    assert list(encoder.encode_stream([])) == []


@pytest.mark.parametrize("name", ["dot", "cosine", "euclidean", "manhattan"])
def test_similarity_is_the_models(pair, name):
    encoder, model = pair
    rows = encoder.encode_query(TEXTS)
    vectors = torch.from_numpy(rows.dense())
    encoder.similarity_fn_name = model.similarity_fn_name = name
    csr = scipy.sparse.csr_matrix((rows.weights, rows.terms, rows.offsets), shape=(len(rows), rows.width))
    wanted = model.similarity(vectors, vectors[:3]).double().numpy()
    near = {"rtol": 1e-4, "atol": 1e-2 if name == "euclidean" else 1e-4}  # torch's own cdist is no nearer to 0
    for kind in (rows, rows.dense(), vectors.to_sparse(), csr):
        got = encoder.similarity(kind, rows.take(np.arange(3)))
        assert isinstance(got, np.ndarray)
        np.testing.assert_allclose(got, wanted, **near)
        np.testing.assert_allclose(encoder.similarity_pairwise(kind, rows), _diagonal(name, rows.dense()), **near)
    encoder.similarity_fn_name = model.similarity_fn_name = "dot"


def _diagonal(name, rows):
    lengths = np.linalg.norm(rows, axis=1)
    return {"dot": lengths**2, "cosine": (lengths > 0).astype(float)}.get(name, np.zeros(len(rows)))


def test_tokens_and_sparsity_are_the_models(pair):
    encoder, model = pair
    rows, vectors = encoder.encode_query(TEXTS), model.encode_query(TEXTS)
    for top_k in (None, 3):
        got, wanted = encoder.decode(rows, top_k), model.decode(vectors, top_k)
        assert [[token for token, _ in row] for row in got] == [[token for token, _ in row] for row in wanted]
        for row, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose([w for _, w in row], [w for _, w in other], rtol=tolerances.BATCH * 10)
    assert encoder.decode(rows.take(np.array([1]))) == encoder.decode(rows)[1:2]
    assert encoder.sparsity(rows) == pytest.approx(model.sparsity(vectors))
    with pytest.raises(InputError, match="top_k"):
        encoder.decode(rows, 0)


def test_rows_of_several_tasks_in_one_call(tmp_path):
    folder = folder_of("routed", tmp_path)
    encoder = fourfold.load(folder)
    mixed = [{("query", "document")[i % 3 % 2]: text} for i, text in enumerate(TEXTS)]
    each = [getattr(encoder, f"encode_{next(iter(item))}")(next(iter(item.values()))) for item in mixed]
    for got in (encoder.encode(mixed), list(encoder.encode_stream(mixed, window=2))):
        np.testing.assert_allclose(dense(got), dense(each), rtol=0, atol=tolerances.BATCH * 10)
    one = encoder.encode({"query": "the text"}, prompt="a ")
    np.testing.assert_array_equal(one.dense(), encoder.encode_query("a the text").dense())
    with pytest.raises(InputError, match="state their task"):
        encoder.encode([{"query": "a"}, "b"])
    with pytest.raises(InputError, match=r"no route for task 'qery'.*Did you mean 'query'"):
        encoder.encode([{"qery": "a"}])


@pytest.mark.parametrize("name", ["bert", "static"])
def test_settings_that_are_given_win_over_saved_ones(tmp_path, name):
    saved = {"prompts": {"query": "the ", "extra": "a "}, "default_prompt_name": "query", "max_active_dims": 3}
    folder = shutil.copytree(tiny_folder("sparse", name), tmp_path / "m")
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps({**read_json(file), "similarity_fn_name": "cosine", **saved}))
    given = {"prompts": {"query": "q "}, "default_prompt_name": "extra", "similarity_fn_name": "euclidean"}
    for options in ({}, {**given, "max_active_dims": 2}):
        encoder, model = fourfold.load(folder, **options), SparseEncoder(str(folder), **options)
        assert encoder.backend == ("static" if name == "static" else "torch")
        for setting in ("prompts", "default_prompt_name", "similarity_fn_name", "max_active_dims"):
            assert getattr(encoder, setting) == getattr(model, setting)
        for call in (lambda m: m.encode(TEXTS), lambda m: m.encode_query(TEXTS), lambda m: m.encode(TEXTS, prompt="")):
            np.testing.assert_allclose(dense(call(encoder)), dense(call(model)), rtol=0, atol=tolerances.BATCH * 10)


def test_a_lazy_side_is_given_the_same_settings(tmp_path):
    folder = folder_of("routed", tmp_path)
    encoder = fourfold.load(folder, prompts={"document": "the "}, max_active_dims=4)
    model = SparseEncoder(str(folder), device="cpu", prompts={"document": "the "}, max_active_dims=4)
    assert encoder.backend == "static"
    got, wanted = (dense(m.encode_document(TEXTS)) for m in (encoder, model))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerances.BATCH * 10)


def test_half_precision_gives_float32(tmp_path):
    for dtype in ("bfloat16", "float16"):
        encoder = fourfold.load(tiny_folder("sparse"), device="cpu", dtype=dtype)
        assert encoder.encode(TEXTS).weights.dtype == np.float32
        assert next(encoder.encode_stream(TEXTS)).weights.dtype == np.float32


@pytest.mark.parametrize("name", ["bert", "static"])
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.encode(TEXTS, batch_size=0), "batch_size"),
        (lambda m: m.encode(TEXTS, max_active_dims=0), "max_active_dims"),
        (lambda m: m.encode(TEXTS, prompt_name="nothing"), "not among the prompts"),
        (lambda m: m.encode(["a", None]), "position 1: NoneType"),
        (lambda m: m.encode_stream("a"), "takes an iterable"),
        (lambda m: m.encode_stream(TEXTS, window=0), "window"),
        (lambda m: m.similarity([1.0], [2.0]), "embeddings1 must be Terms"),
    ],
)
def test_wrong_calls_are_refused(name, call, said):
    with pytest.raises(InputError, match=said):
        call(fourfold.load(tiny_folder("sparse", name)))


@pytest.mark.parametrize(
    "wrong", [{"default_prompt_name": "nobody"}, {"similarity_fn_name": "maxsim"}, {"max_active_dims": 0}]
)
@pytest.mark.parametrize("name", ["bert", "static"])
def test_settings_that_do_not_fit_are_refused(name, wrong):
    with pytest.raises(InputError):
        fourfold.load(tiny_folder("sparse", name), **wrong)


def test_options_of_torch_choose_torch():
    assert fourfold.load(tiny_folder("sparse", "static"), device="cpu").backend == "torch"
    with pytest.raises(InputError, match="takes no device"):
        fourfold.load(tiny_folder("sparse", "static"), backend="static", device="cpu")
    with pytest.raises(InputError, match="takes no truncate_dim"):
        fourfold.load(tiny_folder("sparse", "static"), backend="static", truncate_dim=3)


def test_a_stream_reads_no_further_than_two_windows():
    read = []

    def texts():
        for number in range(100):
            read.append(number)
            yield f"text {number}"

    rows = fourfold.load(tiny_folder("sparse", "static")).encode_stream(texts(), window=5)
    next(rows)
    assert len(read) <= 10
    rows.close()


def test_an_error_of_a_stream_comes_after_the_rows_before_it():
    def texts():
        yield "a"
        yield "b"
        raise OSError("gone")

    rows = fourfold.load(tiny_folder("sparse", "static")).encode_stream(texts())
    assert [len(next(rows)), len(next(rows))] == [1, 1]
    with pytest.raises(OSError, match="gone"):
        next(rows)
