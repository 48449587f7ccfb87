import numpy as np
import pytest
from tests import tolerances
from tests.support import TEXTS, saved_with

import fourfold
from fourfold import SentenceTransformer
from fourfold.errors import FourfoldError, InputError
from fourfold.modules import Router
from fourfold.testing import checkpoint, tiny, tiny_folder


def test_a_static_folder_runs_in_numpy_and_others_in_torch():
    assert fourfold.load(tiny_folder("dense", "static")).backend == "static"
    assert fourfold.load(tiny_folder(), device="cpu").backend == "torch"
    assert fourfold.load(tiny_folder("dense", "static"), backend="torch", device="cpu").backend == "torch"


def test_options_of_torch_choose_torch():
    assert fourfold.load(tiny_folder("dense", "static"), device="cpu").backend == "torch"


@pytest.mark.parametrize("name", ["bert", "static"])
def test_its_methods_give_the_models_numbers(name):
    encoder, model = fourfold.load(tiny_folder("dense", name)), SentenceTransformer(str(tiny_folder("dense", name)))
    rows = encoder.encode(TEXTS)
    np.testing.assert_allclose(rows, model.encode(TEXTS), rtol=0, atol=tolerances.BATCH)
    assert type(rows) is np.ndarray
    assert encoder.encode("one").shape == (32,)
    assert encoder.encode([]).shape == (0, 32)
    assert encoder.get_embedding_dimension() == 32
    got = encoder.similarity(rows[:3], rows)
    assert type(got) is np.ndarray
    np.testing.assert_allclose(got, model.similarity(rows[:3], rows), rtol=0, atol=tolerances.FORMULA)
    assert encoder.similarity_pairwise(rows, rows).shape == (len(TEXTS),)
    np.testing.assert_allclose(encoder.encode_query(TEXTS), model.encode_query(TEXTS), atol=tolerances.BATCH)


def test_half_precision_gives_float32():
    rows = fourfold.load(tiny_folder(), device="cpu", dtype="bfloat16").encode(TEXTS)
    assert rows.dtype == np.float32
    rows = fourfold.load(tiny_folder(), device="cpu", dtype="float16").encode(TEXTS)
    assert rows.dtype == np.float32


def test_wrong_backends_are_refused():
    with pytest.raises(InputError, match="Did you mean 'torch'"):
        fourfold.load(tiny_folder(), backend="troch")
    with pytest.raises(InputError, match="no static model"):
        fourfold.load(tiny_folder(), backend="static")
    with pytest.raises(InputError, match="takes no device"):
        fourfold.load(tiny_folder("dense", "static"), backend="static", device="cpu")


def test_a_name_that_is_nowhere_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for backend in ("auto", "torch"):
        with pytest.raises(OSError, match="no-such-model") as caught:
            fourfold.load("someone/no-such-model", backend=backend, cache_folder=str(tmp_path))
        assert isinstance(caught.value, FourfoldError)


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(FourfoldError, match=r"config\.json is missing"):
        fourfold.load(tmp_path)


def test_without_a_network_a_local_model_loads(no_network):
    fourfold.load(tiny_folder("dense", "static")).encode(TEXTS)
    fourfold.load(tiny_folder(), device="cpu").encode(TEXTS)


@pytest.mark.parametrize("name", ["bert", "static"])
def test_settings_that_are_given_win_over_saved_ones(tmp_path, name):
    saved = {"prompts": {"query": "saved ", "extra": "more "}, "default_prompt_name": "query", "truncate_dim": 20}
    folder = saved_with(tmp_path / "m", tiny_folder("dense", name), similarity_fn_name="dot", **saved)
    given = {"prompts": {"query": "q "}, "default_prompt_name": "extra", "similarity_fn_name": "euclidean"}
    for options in ({}, {**given, "truncate_dim": 7}):
        encoder, model = fourfold.load(folder, **options), SentenceTransformer(str(folder), **options)
        assert encoder.backend == ("static" if name == "static" else "torch")
        for setting in ("prompts", "default_prompt_name", "similarity_fn_name"):
            assert getattr(encoder, setting) == getattr(model, setting)
        assert encoder.get_embedding_dimension() == model.get_embedding_dimension()
        np.testing.assert_allclose(encoder.encode(TEXTS), model.encode(TEXTS), rtol=0, atol=tolerances.BATCH)


@pytest.mark.parametrize("wrong", [{"default_prompt_name": "nobody"}, {"similarity_fn_name": "maxsim"}])
@pytest.mark.parametrize("name", ["bert", "static"])
def test_settings_that_do_not_fit_are_refused(name, wrong):
    with pytest.raises(InputError):
        fourfold.load(tiny_folder("dense", name), **wrong)


def test_a_saved_similarity_of_another_family_is_ignored(tmp_path):
    folder = saved_with(tmp_path / "m", tiny_folder("dense", "static"), similarity_fn_name="maxsim")
    assert fourfold.load(folder).similarity_fn_name == "cosine"


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="wrong"):
        fourfold.load(tiny_folder(), wrong=1)


def test_queries_and_documents_go_their_own_ways(tmp_path):
    parts = [tiny("dense", "static", seed=seed)[0] for seed in (0, 1)]
    SentenceTransformer(modules=[Router.for_query_document([parts[0]], [parts[1]])], device="cpu").save(tmp_path / "m")
    encoder, model = fourfold.load(tmp_path / "m"), SentenceTransformer(str(tmp_path / "m"), device="cpu")
    for call in (
        lambda m: m.encode_query(TEXTS),
        lambda m: m.encode_document(TEXTS),
        lambda m: m.encode(TEXTS, task="query"),
        lambda m: m.encode([{"query": "a"}, {"document": "b"}]),
        lambda m: np.stack(list(m.encode_stream(TEXTS, task="query"))),
    ):
        np.testing.assert_array_equal(call(encoder), call(model))
    assert np.abs(encoder.encode_query(TEXTS) - encoder.encode_document(TEXTS)).max() > 0.1
    with pytest.raises(TypeError, match="task"):
        encoder.encode_query(TEXTS, task="document")


def test_a_prompt_of_ones_own_is_no_cause_for_a_warning(caplog):
    fourfold.load(tiny_folder("dense", "static")).encode_query("a", prompt="own ")
    assert not caplog.records


@pytest.mark.parametrize(
    ("kind", "name", "backend"),
    [("sparse", "bert", "torch"), ("sparse", "static", "static"), ("dense", "static", "static")],
)
def test_the_family_is_the_folders(kind, name, backend):
    encoder = fourfold.load(tiny_folder(kind, name))
    assert (encoder.backend, encoder.model_type) == (
        backend, {"sparse": "SparseEncoder", "dense": "SentenceTransformer"}[kind],
    )  # fmt: skip


@pytest.mark.parametrize("architecture", ["bert", "qwen3"])
def test_cross_encoders(architecture):
    folder = tiny_folder("cross", architecture)
    scorer = fourfold.load(folder)
    assert (scorer.model_type, scorer.backend, scorer.num_labels) == ("CrossEncoder", "torch", 1)
    pairs = [("the query", "a document"), ("the query", "text")]
    wanted = fourfold.CrossEncoder(str(folder), device="cpu").predict(pairs)
    np.testing.assert_array_equal(scorer.predict(pairs), wanted)
    assert scorer.rank("the query", ["a document", "text"], top_k=1)[0]["score"] == wanted.max()


def test_a_checkpoint_that_classifies_is_a_cross_encoder_unless_another_family_is_named(tmp_path):
    folder = checkpoint("bert", tmp_path, head="labels", num_labels=3)
    assert fourfold.load(folder).predict([("a", "b")]).shape == (1, 3)
    assert fourfold.load(folder, family="dense").encode(["a"]).shape == (1, 32)


def test_a_family_may_be_named(tmp_path, monkeypatch):
    folder = checkpoint("bert", tmp_path, head="masked")
    assert fourfold.load(folder).model_type == "SentenceTransformer"
    assert fourfold.load(folder, family="sparse").model_type == "SparseEncoder"
    with pytest.raises(InputError, match="Did you mean 'cross'"):
        fourfold.load(folder, family="crss")
    with pytest.raises(InputError, match="static backend cannot run"):
        fourfold.load(tiny_folder("cross"), backend="static")
    seen = []
    monkeypatch.setattr("fourfold.families.load._cross", lambda source, backend, options: seen.append(source.name))
    monkeypatch.setattr("fourfold.store.source.Source.pinned", lambda self, *args: self)
    fourfold.load("ms-marco-MiniLM-L6-v2", family="cross")
    assert seen == ["cross-encoder/ms-marco-MiniLM-L6-v2"]
