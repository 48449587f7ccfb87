"""The sparse family: what a model is built from, the forms of its rows, and what one may look up in them."""

import copy
import json
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, read_json, thorough

from fourfold import SentenceTransformer, SparseEncoder
from fourfold.errors import FolderError, InputError
from fourfold.modules import (
    Dense,
    Normalize,
    Pooling,
    Router,
    SparseAutoEncoder,
    SparseStaticEmbedding,
    SpladePooling,
    StaticEmbedding,
    Transformer,
)
from fourfold.testing import WIDTH, checkpoint, tiny, tiny_folder

KINDS = ("bert", "distilbert", "roberta", "modernbert", "mpnet", "qwen3", "static")


@pytest.fixture(scope="module", params=KINDS)
def any_model(request):
    return tiny("sparse", request.param)


@pytest.fixture(scope="module")
def model():
    return tiny("sparse")


def load(path, **options):
    return SparseEncoder(str(path), **{"device": "cpu", **options})


def dense(rows):
    return (rows if rows.layout == torch.strided else rows.to_dense()).float().numpy()


def twin(model, texts, **kwargs):
    """Return dense rows by the modules themselves, one padded text at a time."""
    with torch.inference_mode():
        features = [model(model.preprocess([text]), **kwargs)["sentence_embedding"] for text in texts]
    return np.concatenate([dense(each) for each in features])


def close(got, want, atol=tolerances.PACKED):
    want = np.asarray(want)
    np.testing.assert_allclose(got, want, rtol=0, atol=atol * max(1.0, float(np.abs(want).max(initial=0))))


def changed(folder, name, **values):
    file = folder / name
    file.write_text(json.dumps({**read_json(file), **values}))
    return folder


# -- what it is built from ---------------------------------------------------------------------------------------------


def test_a_masked_language_model_becomes_splade(tmp_path):
    found = load(checkpoint("bert", tmp_path, head="masked"))
    assert [type(module) for module in found] == [Transformer, SpladePooling]
    assert found[0].transformer_task == "fill-mask"
    assert (found[1].pooling_strategy, found[1].activation_function) == ("max", "relu")
    assert found.similarity_fn_name == "dot"
    assert found.prompts == {"query": "", "document": ""}
    assert found.encode("a text").shape == (found.config.vocab_size,)


def test_another_checkpoint_gets_an_auto_encoder_that_has_to_be_trained(tmp_path, caplog):
    found = load(checkpoint("bert", tmp_path))
    assert [type(module) for module in found] == [Transformer, Pooling, SparseAutoEncoder]
    assert found[1].pooling_mode == "mean"
    wanted = {"input_dim": WIDTH, "hidden_dim": 4 * WIDTH, "k": 256, "k_aux": 512}
    assert found[2].get_config_dict().items() >= wanted.items()
    assert found.max_active_dims == 256
    assert "still untrained" in caplog.text


def test_modules_are_taken_as_they_are():
    parts = [StaticEmbedding.example(), Dense(8, 8), SparseAutoEncoder(8, 40, k=3, k_aux=4)]
    found = SparseEncoder(modules=parts, device="cpu")
    assert list(found) == parts
    assert found.encode(["a", "b a"]).shape == (2, 40)
    assert found.get_embedding_dimension() == 40
    with pytest.raises(InputError, match="at least one module"):
        SparseEncoder(modules=[])


@pytest.mark.parametrize("wrong", [True, 0, -1, 1.5, "3", [3]])
def test_a_bound_is_a_positive_number(tmp_path, wrong):
    with pytest.raises(InputError, match="the argument max_active_dims"):
        tiny("sparse", "static", max_active_dims=wrong)
    tiny("sparse", "static").save(tmp_path / "m", create_model_card=False)
    changed(tmp_path / "m", "config_sentence_transformers.json", max_active_dims=wrong)
    with pytest.raises(FolderError, match="max_active_dims") as caught:
        load(tmp_path / "m")
    assert str(tmp_path / "m" / "config_sentence_transformers.json") in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_where_the_bound_comes_from(tmp_path):
    assert tiny("sparse", "qwen3").max_active_dims == 8
    assert tiny("sparse", "qwen3", max_active_dims=3).max_active_dims == 3
    assert tiny("sparse").max_active_dims is None
    tiny("sparse", "static", max_active_dims=2).save(tmp_path / "m", create_model_card=False)
    assert read_json(tmp_path / "m" / "config_sentence_transformers.json")["max_active_dims"] == 2
    assert load(tmp_path / "m").max_active_dims == 2
    assert load(tmp_path / "m", max_active_dims=5).max_active_dims == 5
    assert "max_active_dims" not in read_json(tiny_folder("sparse") / "config_sentence_transformers.json")


@pytest.mark.parametrize(("saved", "want"), [("cosine", "cosine"), (None, "dot"), ("maxsim", "dot")])
def test_a_saved_similarity_is_used_if_it_is_known(tmp_path, saved, want):
    tiny("sparse", "static").save(tmp_path / "m", create_model_card=False)
    changed(tmp_path / "m", "config_sentence_transformers.json", similarity_fn_name=saved)
    assert load(tmp_path / "m").similarity_fn_name == want
    assert load(tmp_path / "m", similarity_fn_name="manhattan").similarity_fn_name == "manhattan"


def test_the_similarity_is_saved_as_null_until_it_is_asked_for(tmp_path):
    fresh = tiny("sparse", "static")
    for want in (None, "dot"):
        fresh.save(tmp_path / "m", create_model_card=False)
        assert read_json(tmp_path / "m" / "config_sentence_transformers.json")["similarity_fn_name"] == want
        assert fresh.similarity_fn_name == "dot"


def test_it_is_saved_and_loaded(any_model, tmp_path):
    any_model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert [type(module) for module in again] == [type(module) for module in any_model]
    np.testing.assert_array_equal(dense(again.encode(TEXTS)), dense(any_model.encode(TEXTS)))
    assert read_json(tmp_path / "m" / "config_sentence_transformers.json")["model_type"] == "SparseEncoder"


def test_it_is_pickled_and_copied(any_model):
    wanted = dense(any_model.encode(TEXTS))
    for again in (copy.deepcopy(any_model), pickle.loads(pickle.dumps(any_model))):
        np.testing.assert_array_equal(dense(again.encode(TEXTS)), wanted)


# -- folders of other families -----------------------------------------------------------------------------------------


def test_a_dense_model_gets_an_auto_encoder_on_top(tmp_path, caplog):
    tiny(prompts={"query": "query: "}, similarity_fn_name="euclidean").save(tmp_path / "dense")
    found = load(tmp_path / "dense")
    assert "converting a SentenceTransformer" in caplog.text
    assert [type(module).__name__ for module in found] == ["Transformer", "Pooling", "Normalize", "SparseAutoEncoder"]
    assert [name for name, _ in found.named_children()] == ["0", "1", "2", "3"]
    wanted = {"input_dim": WIDTH, "hidden_dim": 4 * WIDTH, "k": WIDTH // 4, "k_aux": WIDTH // 2}
    assert found[3].get_config_dict().items() >= wanted.items()
    assert found.max_active_dims == WIDTH // 4
    assert (found.prompts["query"], found.similarity_fn_name) == ("query: ", "euclidean")
    assert found._model_card_text is None
    rows = found.encode(TEXTS)
    assert rows.shape == (len(TEXTS), 4 * WIDTH)
    found.save(tmp_path / "sparse")
    np.testing.assert_array_equal(dense(load(tmp_path / "sparse").encode(TEXTS)), dense(rows))
    assert "CSR Sparse Encoder" in (tmp_path / "sparse" / "README.md").read_text(encoding="utf-8")


def test_a_dense_model_of_unknown_width_cannot_be_converted(tmp_path, monkeypatch):
    SentenceTransformer(modules=[StaticEmbedding.example()], device="cpu").save(tmp_path / "dense")
    monkeypatch.setattr(StaticEmbedding, "get_embedding_dimension", lambda self: None)
    with pytest.raises(ValueError, match="width"):
        load(tmp_path / "dense")


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("family", ["CrossEncoder", "MultiVectorEncoder"])
def test_another_familys_folder_gives_default_modules_on_its_backbone(tmp_path, caplog, family, masked):
    folder = tmp_path / "other"
    made = tiny("sparse", prompts={"query": "q: "}) if masked else tiny(prompts={"query": "q: "})
    made.save(folder)
    changed(folder, "config_sentence_transformers.json", model_type=family, similarity_fn_name="manhattan")
    found = load(folder)
    assert f"converting a {family} in {folder}" in caplog.text
    assert [type(module).__name__ for module in found] == (
        ["Transformer", "SpladePooling"] if masked else ["Transformer", "Pooling", "SparseAutoEncoder"]
    )
    # Such conversions read no settings of the model.
    assert (found.prompts["query"], found.similarity_fn_name) == ("", "dot")
    assert found._model_card_text is None


def test_a_sparse_folder_becomes_a_dense_model_on_its_backbone(tmp_path, caplog):
    tiny("sparse", prompts={"query": "q: "}).save(tmp_path / "sparse")
    found = SentenceTransformer(str(tmp_path / "sparse"), device="cpu")
    assert f"converting a SparseEncoder in {tmp_path / 'sparse'}" in caplog.text
    assert [type(module).__name__ for module in found] == ["Transformer", "Pooling"]
    assert found[0].transformer_task == "feature-extraction"
    assert found.encode(TEXTS).shape == (len(TEXTS), WIDTH)
    assert found.prompts["query"] == ""


@pytest.mark.parametrize("kind", ["static", "router"])
def test_a_root_without_a_transformers_model_has_no_default_modules(tmp_path, kind):
    made = tiny("sparse", "static")
    if kind == "router":
        made = SparseEncoder(modules=[Router.for_query_document([*made], [*tiny("sparse")])], device="cpu")
    made.save(tmp_path / "m", create_model_card=False)
    assert len(load(tmp_path / "m")) == 1
    with pytest.raises(ValueError, match=str(tmp_path / "m")):
        SentenceTransformer(str(tmp_path / "m"), device="cpu")
    (tmp_path / "m" / "modules.json").unlink()
    with pytest.raises(ValueError, match=str(tmp_path / "m")):
        load(tmp_path / "m")


# -- encode ------------------------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_modules(any_model):
    rows = any_model.encode(TEXTS)
    assert (rows.layout, rows.is_coalesced(), rows.dtype) == (torch.sparse_coo, True, torch.float32)
    assert (rows.coalesce().values() != 0).all()
    close(dense(rows), twin(any_model, TEXTS))


@pytest.mark.parametrize("most", [1, 3, 4 * WIDTH])
def test_only_the_strongest_are_kept(any_model, most):
    told = {"max_active_dims": most} if "max_active_dims" in any_model.get_model_kwargs() else {}
    whole = twin(any_model, TEXTS, **told)
    got = dense(any_model.encode(TEXTS, max_active_dims=most))
    for row, full in zip(got, whole, strict=True):
        kept = np.sort(np.abs(full))[::-1][:most]
        close(np.sort(np.abs(row))[::-1][:most], kept)
        assert np.count_nonzero(row) <= most
        close(row[row != 0], full[row != 0])


def test_more_than_there_are_may_be_asked_for_where_nothing_has_to_choose_them(model):
    close(dense(model.encode(TEXTS, max_active_dims=10_000)), dense(model.encode(TEXTS)))
    with pytest.raises(RuntimeError, match="128 units, of which 10000 cannot be kept"):
        tiny("sparse", "qwen3").encode(TEXTS, max_active_dims=10_000)


@pytest.mark.parametrize("flags", [{}, {"max_active_dims": 4}, {"prompt": "query "}, {"batch_size": 1}], ids=str)
def test_every_form_holds_the_same_numbers(any_model, flags):
    wanted = dense(any_model.encode(TEXTS, **flags))
    forms = {
        "dense": any_model.encode(TEXTS, convert_to_sparse_tensor=False, **flags),
        "csr": any_model.encode(TEXTS, convert_to_sparse_tensor="csr", **flags),
        "coo": any_model.encode(TEXTS, convert_to_sparse_tensor="coo", **flags),
        "list": torch.stack(any_model.encode(TEXTS, convert_to_tensor=False, **flags)),
        "dense list": torch.stack(
            any_model.encode(TEXTS, convert_to_tensor=False, convert_to_sparse_tensor=False, **flags)
        ),
        "stream": torch.stack(list(any_model.encode_stream(iter(TEXTS), window=3, **flags))),
    }
    layouts = {"csr": torch.sparse_csr, "dense": torch.strided, "dense list": torch.strided}
    for name, rows in forms.items():
        assert rows.layout == layouts.get(name, torch.sparse_coo), name
        close(dense(rows), wanted, tolerances.BATCH)


def test_one_input_is_one_row(any_model):
    wanted = dense(any_model.encode([TEXTS[0]]))[0]
    for flags, layout in [
        ({}, torch.sparse_coo),
        ({"convert_to_sparse_tensor": False}, torch.strided),
        ({"convert_to_tensor": False}, torch.sparse_coo),
        ({"convert_to_tensor": False, "convert_to_sparse_tensor": False}, torch.strided),
    ]:
        row = any_model.encode(TEXTS[0], **flags)
        assert (row.layout, row.shape) == (layout, wanted.shape)
        close(dense(row), wanted, tolerances.BATCH)


@pytest.mark.parametrize("form", [True, False, "csr"])
def test_no_inputs_are_no_rows(model, form):
    empty = model.encode([], convert_to_sparse_tensor=form)
    assert empty.shape == ((0, 0) if form == "csr" else (0,))
    assert (empty.layout == torch.strided) is (form is False)
    assert form == "csr" or model.encode([], convert_to_tensor=False, convert_to_sparse_tensor=form) == []


def test_a_row_may_be_empty():
    found = tiny("sparse", "static")
    rows = found.encode(["", "a text", ""])
    assert [len(each) for each in found.decode(rows)] == [0, 2, 0]
    assert found.encode("").to_dense().count_nonzero() == 0
    assert found.encode(["", ""]).shape == (2, found.get_embedding_dimension())
    assert found.encode(["", ""], convert_to_sparse_tensor="csr").values().numel() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_active_dims": 0}, "max_active_dims"), ({"max_active_dims": -3}, "max_active_dims"),
        ({"convert_to_sparse_tensor": "cso"}, "Did you mean 'cs"), ({"batch_size": 0}, "batch_size"),
        ({"convert_to_sparse_tensor": "csr", "convert_to_tensor": False}, "convert_to_tensor=True"),
        ({"prompt_name": "none"}, "none"), ({"truncate_dim": 3}, "truncate_dim"), ({"precision": "int8"}, "precision"),
    ],
)  # fmt: skip
def test_arguments_that_are_refused(model, arguments, said):
    for call in (model.encode, model.encode_query, model.encode_document):
        with pytest.raises(InputError, match=said):
            call(["a"], **arguments)
    with pytest.raises(InputError, match=said):
        model.encode_stream(["a"], **arguments)


def test_results_are_ordinary_tensors(model):
    weight = torch.ones(model.config.vocab_size, requires_grad=True)
    for rows in (
        model.encode(TEXTS), model.encode(TEXTS, convert_to_sparse_tensor=False),
        model.encode(TEXTS, convert_to_sparse_tensor="csr"), *model.encode(TEXTS, convert_to_tensor=False),
        *model.encode_stream(TEXTS),
    ):  # fmt: skip
        assert not rows.is_inference()
        assert not rows.requires_grad
    (model.encode(TEXTS, convert_to_sparse_tensor=False) @ weight).sum().backward()
    assert weight.grad is not None


def test_a_streamed_row_keeps_no_other(model):
    first = next(iter(model.encode_stream([f"text {i}" for i in range(50)])))
    assert first.values().untyped_storage().nbytes() == first.values().numel() * 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["bert", "qwen3", "static"])
def test_rows_are_of_the_models_type(kind, dtype):
    exact, found = tiny("sparse", kind), tiny("sparse", kind).to(dtype)
    near = {torch.float16: tolerances.HALF, torch.bfloat16: tolerances.BFLOAT, torch.float64: tolerances.PACKED}[dtype]
    for flags in ({}, {"convert_to_sparse_tensor": False}, {"convert_to_sparse_tensor": "csr"}, {"max_active_dims": 5}):
        rows = found.encode(TEXTS, **flags)
        assert rows.dtype == dtype, flags
        if kind != "qwen3":  # which units are the strongest may hang on the last bit
            want = exact.encode(TEXTS, **flags)
            if "max_active_dims" not in flags:
                close(dense(rows), dense(want), 4 * near)
    assert all(row.dtype == dtype for row in found.encode(TEXTS, convert_to_tensor=False))
    assert all(row.dtype == dtype for row in found.encode_stream(TEXTS))


def test_a_router_takes_queries_one_way_and_documents_the_other():
    looked_up, spelt = [*tiny("sparse", "static")], [*tiny("sparse")]
    found = SparseEncoder(modules=[Router.for_query_document(looked_up, spelt)], device="cpu")
    queries, documents = found.encode_query(TEXTS), found.encode_document(TEXTS)
    close(dense(queries), dense(tiny("sparse", "static").encode(TEXTS)))
    close(dense(documents), dense(tiny("sparse").encode(TEXTS)))
    close(dense(found.encode(TEXTS)), dense(documents))
    assert found.similarity(queries, documents).layout == torch.strided
    close(found.similarity(queries, documents).numpy(), dense(queries) @ dense(documents).T)


def test_modules_may_follow_a_table_of_weights():
    table, width = [*tiny("sparse", "static")], tiny("sparse", "static").get_embedding_dimension()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        followers = [Dense(width, width), SparseAutoEncoder(width, 40, k=3, k_aux=4), Normalize()]
    for follower in followers:
        found = SparseEncoder(modules=[*table, follower], device="cpu").eval()
        close(dense(found.encode(TEXTS)), twin(found, TEXTS))
    found = SparseEncoder(modules=[*table, *tiny("sparse", "static", seed=1)], device="cpu")
    close(dense(found.encode(TEXTS)), twin(found, TEXTS))


WORDS = ["the", "a", "query", "document", "text", "short", "long", "world", "unseen", "ünïcödé", "7", "?"]


def made_up(count, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(0, 30))) for _ in range(count)]


def test_a_texts_row_does_not_depend_on_its_company(any_model):
    texts = made_up(60)
    together = dense(any_model.encode(texts))
    np.testing.assert_array_equal(dense(any_model.encode(texts)), together)
    order = random.Random(1).sample(range(60), 60)
    close(dense(any_model.encode([texts[i] for i in order], batch_size=3)), together[order])
    for i in order[:5]:
        close(dense(any_model.encode(texts[i])), together[i])


@pytest.mark.parametrize("kind", ["bert", "qwen3", "static"])
def test_many_threads_use_one_model(kind):
    found = tiny("sparse", kind)
    batches = [made_up(8, seed) for seed in range(24)]
    wanted = [dense(found.encode(texts)) for texts in batches]
    with ThreadPoolExecutor(12) as pool:
        for got, want in zip(pool.map(found.encode, batches), wanted, strict=True):
            close(dense(got), want)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", *(pytest.param(kind, marks=thorough) for kind in ("qwen3", "static"))])
def test_worker_processes_give_the_same_rows(kind):
    found = tiny("sparse", kind)
    texts = made_up(150) + TEXTS
    wanted = dense(found.encode(texts))
    pool = found.start_multi_process_pool(["cpu", "cpu"])
    try:
        rows = found.encode(texts, pool=pool)
        assert (rows.layout, rows.device.type, rows.shape) == (torch.sparse_coo, "cpu", wanted.shape)
        close(dense(rows), wanted)
        close(dense(found.encode(texts, pool=pool, convert_to_sparse_tensor="csr")), wanted)
        whole = found.encode(texts, pool=pool, convert_to_sparse_tensor=False, chunk_size=20)
        assert (whole.layout, whole.dtype) == (torch.strided, torch.float32)
        close(dense(whole), wanted)
        each = found.encode(texts, pool=pool, convert_to_tensor=False)
        close(np.stack([dense(row) for row in each]), wanted)
        close(dense(found.encode(texts[0], pool=pool)), wanted[0])
        few = found.encode(texts, pool=pool, max_active_dims=2)
        close(dense(few), dense(found.encode(texts, max_active_dims=2)))
        streamed = list(found.encode_stream(iter(texts), pool=pool, window=64))
        close(np.stack([dense(row) for row in streamed]), wanted)
        close(dense(found.encode_query(texts, pool=pool)), wanted)
        with pytest.raises(InputError, match="position 8: NoneType"):
            found.encode([*TEXTS, None], pool=pool)
    finally:
        SparseEncoder.stop_multi_process_pool(pool)


@pytest.mark.slow
def test_worker_processes_keep_half_precision():
    found = tiny("sparse").to(torch.bfloat16)
    wanted = dense(found.encode(TEXTS))
    pool = found.start_multi_process_pool(["cpu"])
    try:
        for flags in ({}, {"convert_to_sparse_tensor": False}):
            rows = found.encode(TEXTS, pool=pool, **flags)
            assert rows.dtype == torch.bfloat16
            close(dense(rows), wanted, tolerances.BFLOAT)
    finally:
        SparseEncoder.stop_multi_process_pool(pool)


# Its tracing says so of every cached function that it meets.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.slow
def test_a_compiled_model_gives_the_same_rows(model):
    found = copy.deepcopy(model)
    found[0].model.compile(backend="eager")
    close(dense(found.encode(TEXTS)), dense(model.encode(TEXTS)))
    found = copy.deepcopy(model)
    found.compile(backend="eager")
    close(dense(found.encode(TEXTS)), dense(model.encode(TEXTS)))
    torch.compiler.reset()


def test_encoding_leaves_evaluation_mode_and_gradients_work_after(model):
    found = copy.deepcopy(model).train()
    found.encode(TEXTS)
    assert not any(module.training for module in found.modules())
    found(found.preprocess(TEXTS))["sentence_embedding"].sum().backward()
    assert all(p.grad is not None for p in found[0].model.cls.parameters())


# -- looking inside ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [True, False, "csr"])
def test_decode_names_the_heaviest_first(model, form):
    rows = model.encode(TEXTS, convert_to_sparse_tensor=form)
    found = model.decode(rows)
    tokens = model.tokenizer.convert_ids_to_tokens
    for each, row in zip(found, dense(rows), strict=True):
        assert dict(each) == pytest.approx({tokens(int(i)): float(row[i]) for i in np.flatnonzero(row)})
        assert [weight for _, weight in each] == sorted((weight for _, weight in each), reverse=True)
    assert model.decode(rows, top_k=2) == [each[:2] for each in found]
    if form != "csr":
        assert model.decode(rows[0], top_k=2) == found[0][:2]


def test_decode_of_a_router_and_of_an_auto_encoder():
    found = SparseEncoder(
        modules=[Router.for_query_document([*tiny("sparse", "static")], [*tiny("sparse")])], device="cpu"
    )
    assert {token for token, _ in found.decode(found.encode_query("the query"))} == {"the", "query"}
    units = tiny("sparse", "qwen3")
    assert len(units.decode(units.encode("a text"))) <= 8


def test_what_is_no_vector_is_refused(model):
    row, rows = torch.zeros(4), torch.zeros(2, 4)
    first, second = (lambda x: model.intersection(x, row)), (lambda x: model.intersection(row, x))
    for call in (model.decode, model.sparsity, first, second):
        with pytest.raises(TypeError, match="tensor"):
            call([1.0])
        with pytest.raises(ValueError, match="shape"):
            call(rows[None])
    for top_k in (0, -1):
        with pytest.raises(ValueError, match="top_k"):
            model.decode(row, top_k)
    with pytest.raises(ValueError, match="embeddings_1"):
        model.intersection(rows, row)
    with pytest.raises(ValueError, match="widths"):
        model.intersection(row, rows[:, :3])


def test_sparsity(model):
    rows = model.encode(TEXTS)
    active = np.count_nonzero(dense(rows)) / len(TEXTS)
    for form in (rows, rows.to_dense(), rows.to_sparse_csr()):
        said = model.sparsity(form)
        assert said == pytest.approx({"active_dims": active, "sparsity_ratio": 1 - active / rows.shape[1]})
        assert all(type(value) is float for value in said.values())
    # Zeros that are written down are no active dimensions.
    written = torch.sparse_coo_tensor([[0, 1]], [0.0, 2.0], (4,), check_invariants=True)
    assert model.sparsity(written) == {"active_dims": 1.0, "sparsity_ratio": 0.75}


def test_intersection_is_what_both_hold(model):
    rows = model.encode(TEXTS)
    first = rows[0]
    wanted = np.maximum(dense(first) * dense(rows), 0)
    for one in (first, first.to_dense()):
        for other in (rows, rows.to_dense()):
            shared = model.intersection(one, other)
            assert (shared.layout, shared.shape) == (torch.sparse_coo, rows.shape)
            close(dense(shared), wanted)
    assert model.intersection(first, rows[1]).shape == first.shape


def test_the_chunk_size_is_the_poolings(model, caplog):
    found = copy.deepcopy(model)
    assert found.splade_pooling_chunk_size is None
    found.splade_pooling_chunk_size = 2
    assert found[1].chunk_size == 2
    close(dense(found.encode(TEXTS)), dense(model.encode(TEXTS)))
    close(twin(found, TEXTS), dense(model.encode(TEXTS)))
    assert not caplog.records
    other = tiny("sparse", "static")
    other.splade_pooling_chunk_size = 3
    assert other.splade_pooling_chunk_size is None
    assert "no SpladePooling" in caplog.text


def test_pooling_may_leave_the_prompt_out():
    parts = [*tiny()][:2]
    found = SparseEncoder(modules=[*parts, *[*tiny("sparse", "qwen3")][2:]], device="cpu")
    with_prompt = dense(found.encode(TEXTS, prompt="query "))
    found.set_pooling_include_prompt(False)
    assert found[1].include_prompt is False
    assert found[1].pooling_mode == "mean"
    assert not np.array_equal(dense(found.encode(TEXTS, prompt="query ")), with_prompt)


def test_weights_of_tokens_may_be_learnt():
    found = tiny("sparse", "static")
    assert found[0].weight.requires_grad
    found(found.preprocess(["a text"]))["sentence_embedding"].sum().backward()
    assert found[0].weight.grad.count_nonzero() == 2
    assert not SparseStaticEmbedding(found.tokenizer, frozen=True).weight.requires_grad
