"""Models on ONNX and OpenVINO give the numbers of the older library's torch, from folders as they are published."""

import copy
import pickle
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import graphs
from tests.checkpoints import adapter
from tests.graphs import load
from tests.support import TEXTS, content, thorough
from tests.tolerances import PACKED

import fourfold
from fourfold import CrossEncoder, SentenceTransformer, SentenceTransformerTrainer, SparseEncoder
from fourfold.errors import InputError, MissingExtraError, MissingFileError
from fourfold.modules import Transformer
from fourfold.runtimes import KINDS
from fourfold.testing import tiny_folder

pytestmark = pytest.mark.usefixtures("traced_once")

VARIED = [f"{'the world of ' * (number % 17)}{number}" for number in range(40)]
PAIRS = [("the query", "a document"), ("the query", "the long text of the world " * 5), ("", ""), ("short", "x")]


@pytest.fixture(scope="module")
def graph_folders(tmp_path_factory):
    """Return a function that gives a model's folder with its weights, and one with graphs, for a way to make it."""
    root = tmp_path_factory.mktemp("models")

    @cache
    def folders(make, *arguments):
        place = root / "-".join((make.__name__, *arguments))
        return graphs.published(make(place / "checkpoint", *arguments), place)

    return folders


@pytest.fixture(scope="module")
def folders(graph_folders):
    """A model's folder with its weights, and one with graphs."""
    return graph_folders(graphs.dense)


@pytest.fixture(scope="module", params=KINDS)
def model(request, folders):
    return load(SentenceTransformer, folders[1], request.param)


@pytest.fixture(scope="module")
def theirs(st, folders):
    return st.SentenceTransformer(str(folders[0]), device="cpu")


# -- the same numbers --------------------------------------------------------------------------------------------------

MODES = {
    "bert": "mean", "roberta": "mean", "xlm_roberta": "mean", "distilbert": "cls", "mpnet": "mean",
    "modernbert": "mean", "deberta_v2": "mean", "qwen3": "lasttoken", "t5": "mean",
}  # fmt: skip


# Encoders whose graphs are those of another's layers.
ALIKE = {"xlm_roberta", "distilbert"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", [pytest.param(name, marks=[thorough] * (name in ALIKE)) for name in MODES])
def test_vectors_equal(st, graph_folders, architecture, kind):
    plain, exported = graph_folders(graphs.dense, architecture, MODES[architecture])
    wanted = st.SentenceTransformer(str(plain), device="cpu").encode(TEXTS + VARIED)
    ours = load(SentenceTransformer, exported, kind)
    np.testing.assert_allclose(ours.encode(TEXTS + VARIED), wanted, atol=PACKED)
    # vectors that are all alike would equal each other whatever was wrong
    assert (wanted @ wanted.T).min() < 0.999
    graph = ours[0].model.graph
    segments = ["token_type_ids"] * (architecture == "bert")
    assert sorted(graph.inputs) == sorted(["input_ids", "attention_mask", *segments])
    assert set(graph.inputs.values()) == {(None, None)}
    assert "last_hidden_state" in graph.outputs


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_rows_equal(st, graph_folders, kind):
    plain, exported = graph_folders(graphs.sparse)
    wanted = st.SparseEncoder(str(plain), device="cpu").encode(TEXTS)
    ours = load(SparseEncoder, exported, kind)
    np.testing.assert_allclose(ours.encode(TEXTS).to_dense(), wanted.to_dense(), atol=PACKED)
    assert "logits" in ours[0].model.graph.outputs


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal(st, graph_folders, kind):
    plain, exported = graph_folders(graphs.cross)
    wanted = st.CrossEncoder(str(plain), device="cpu").predict(PAIRS)
    ours = load(CrossEncoder, exported, kind)
    np.testing.assert_allclose(ours.predict(PAIRS), wanted, atol=PACKED)
    assert "logits" in ours[0].model.graph.outputs


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_scores_by_its_last_position(tmp_path, kind):
    graphs.generative(tmp_path / "checkpoint", 20).save(str(tmp_path / "model"))
    (tmp_path / "model" / "model.safetensors").unlink()
    inputs = {name: ["rows", "tokens"] for name in ("input_ids", "attention_mask", "position_ids")}
    graphs.convert(graphs.handmade(tmp_path / "model" / "onnx" / "model.onnx", inputs, output="logits"))
    model = load(CrossEncoder, tmp_path / "model", kind)
    tokenizer = model.tokenizer
    wanted = [graphs.table()[tokenizer.sep_token_id, 20] + len(tokenizer(*pair).input_ids) for pair in PAIRS]
    got = model.predict(PAIRS, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(got, wanted, rtol=PACKED)


def test_layers_that_stay_in_float32_are_for_torch(graph_folders):
    with pytest.raises(ValueError, match="needs backend='torch'"):
        load(CrossEncoder, graph_folders(graphs.cross)[1], "onnx").set_keep_in_fp32_modules(["0.model.classifier"])


# -- every way of calling ----------------------------------------------------------------------------------------------

CALLS = {
    "queries": lambda m: m.encode_query(TEXTS, prompt="the "),
    "tensors": lambda m: m.encode(TEXTS, convert_to_tensor=True),
    "small": lambda m: m.encode(TEXTS, batch_size=2),
    "tokens": lambda m: torch.cat(m.encode(TEXTS, output_value="token_embeddings")),
    "truncated": lambda m: m.encode(TEXTS, truncate_dim=5),
    "bytes": lambda m: m.encode(TEXTS, precision="ubinary"),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call(model, theirs, call):
    got, wanted = (CALLS[call](one) for one in (model, theirs))
    assert (type(got), got.dtype) == (type(wanted), wanted.dtype)
    np.testing.assert_allclose(got, wanted, atol=PACKED)


def test_chunks_that_know_the_text_around_them(model, folders):
    long = "The quick brown fox. " * 20
    got, wanted = (
        one.encode_chunks(long, size=20, late=True).vectors
        for one in (model, SentenceTransformer(str(folders[0]), device="cpu"))
    )
    np.testing.assert_allclose(got, wanted, atol=PACKED)


def test_what_a_model_says_of_itself(model, theirs):
    assert model.device == torch.device("cpu")
    assert model.get_sentence_embedding_dimension() == theirs.get_sentence_embedding_dimension()
    assert model.max_seq_length == theirs.max_seq_length
    assert list(model.parameters()) == []
    assert (model.backend, model.get_backend()) == (model[0].backend, model[0].model.kind)
    assert not model[0].packed
    assert model.half().encode("a text").dtype == np.float32
    assert model.transformers_model is model[0].model


# -- folders -----------------------------------------------------------------------------------------------------------


def layout(folder):
    return {path for path in content(folder) if path != "README.md"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_a_published_one(st, folders, tmp_path, kind):
    plain, exported = folders
    model = load(SentenceTransformer, exported, kind)
    model.save_pretrained(str(tmp_path / "again"))
    st.SentenceTransformer(str(plain), device="cpu").save_pretrained(str(tmp_path / "theirs"))
    graph = {"onnx/model.onnx"} if kind == "onnx" else {f"openvino/openvino_model.{end}" for end in ("xml", "bin")}
    assert layout(tmp_path / "again") == layout(tmp_path / "theirs") - {"model.safetensors"} | graph
    again = load(SentenceTransformer, tmp_path / "again", kind, export=False)
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))


def test_a_model_is_saved_over_itself(folders, tmp_path):
    shutil.copytree(folders[1], tmp_path / "model")
    for kind in KINDS:
        model = load(SentenceTransformer, tmp_path / "model", kind)
        before = model.encode(TEXTS)
        model[0].save(str(tmp_path / "model"))
        model.save(str(tmp_path / "model"))
        np.testing.assert_array_equal(load(SentenceTransformer, tmp_path / "model", kind).encode(TEXTS), before)


def test_an_export_on_the_fly_is_told_and_can_be_kept(folders, tmp_path, caplog):
    plain = str(folders[0])
    model = load(SentenceTransformer, plain, "onnx")
    assert f"model.save_pretrained({plain!r})" in caplog.text
    assert not Path(plain, "onnx").exists()
    caplog.clear()
    shutil.copytree(plain, tmp_path / "model")
    model.save_pretrained(str(tmp_path / "model"))
    again = load(SentenceTransformer, tmp_path / "model", "onnx")
    assert "exported" not in caplog.text
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_an_export_can_be_forced_and_forbidden(folders, tmp_path, caplog):
    shutil.copytree(folders[0], tmp_path / "model")
    graphs.handmade(tmp_path / "model" / "onnx" / "model.onnx", {"input_ids": ["rows", "tokens"]})
    wanted = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)

    def off(**kwargs):
        model = load(SentenceTransformer, tmp_path / "model", "onnx", **kwargs)
        return abs(model.encode(TEXTS) - wanted).max()

    assert off() > 0.01
    assert off(export=True, file_name="onnx/model.onnx") < PACKED
    caplog.clear()
    assert off(file_name="model_O9.onnx") < PACKED
    assert 'model_kwargs={"file_name": "onnx/model.onnx"}' in caplog.text
    with pytest.raises(MissingFileError, match=r"model_O9\.onnx is missing"):
        off(file_name="model_O9.onnx", export=False)


@pytest.fixture(scope="module")
def published(folders, tmp_path_factory):
    """A folder with a graph of every precision, told apart by their numbers."""
    folder = tmp_path_factory.mktemp("published") / "model"
    shutil.copytree(folders[1], folder)
    for name in ("model_O3", "model_qint8_arm64"):
        graphs.handmade(folder / "onnx" / f"{name}.onnx", {"input_ids": ["rows", "tokens"]})
    for end in ("xml", "bin"):
        plain = folder / "openvino" / f"openvino_model.{end}"
        shutil.copyfile(plain, plain.with_name(f"openvino_model_qint8_quantized.{end}"))
    return folder


@pytest.mark.parametrize(
    ("kind", "given", "loaded"),
    [
        ("onnx", {}, "model.onnx"),
        ("onnx", {"file_name": "model_O3.onnx"}, "model_O3.onnx"),
        ("onnx", {"file_name": "onnx/model_O3.onnx"}, "model_O3.onnx"),
        ("onnx", {"file_name": "model_qint8_arm64.onnx", "provider": "CPUExecutionProvider"}, "model_qint8_arm64.onnx"),
        ("openvino", {}, "openvino_model.xml"),
        ("openvino", {"file_name": "openvino/openvino_model_qint8_quantized.xml"},
         "openvino_model_qint8_quantized.xml"),
    ],
)  # fmt: skip
def test_folders_as_they_are_published(published, caplog, kind, given, loaded):
    model = load(SentenceTransformer, published, kind, **given)
    assert model[0].model.file == published / kind / loaded
    assert ("holds several" in caplog.text) == (not given)
    plain = load(SentenceTransformer, published, kind).encode(TEXTS)
    another = loaded in ("model_O3.onnx", "model_qint8_arm64.onnx")
    assert np.allclose(model.encode(TEXTS), plain, atol=PACKED) != another


def test_another_precision_is_saved_as_the_plain_one(published, tmp_path):
    model = load(SentenceTransformer, published, "onnx", file_name="model_O3.onnx")
    model.save(str(tmp_path))
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["model.onnx"]
    np.testing.assert_array_equal(load(SentenceTransformer, tmp_path, "onnx").encode(TEXTS), model.encode(TEXTS))


def test_an_upload_names_class_and_backend(hub, model):
    model.push_to_hub("someone/model", token="hf_good")
    message = hub.head("someone/model").message
    assert "SentenceTransformer" in message
    assert model.backend in message
    graph_files = {path for path in hub.files("someone/model") if path.startswith(model.backend)}
    ours = {"onnx": {"onnx/model.onnx"}, "openvino": {f"openvino/openvino_model.{end}" for end in ("xml", "bin")}}
    assert graph_files == ours[model.backend]
    assert "model.safetensors" not in hub.files("someone/model")


def test_a_model_from_the_hub(hub, folders):
    hub.add_folder("someone/model", folders[1])
    wanted = SentenceTransformer(str(folders[0]), device="cpu").encode(TEXTS)
    for kind in KINDS:
        np.testing.assert_allclose(load(SentenceTransformer, "someone/model", kind).encode(TEXTS), wanted, atol=PACKED)
    assert not any("model.safetensors" in asked for asked in hub.asked())


# -- graphs that others have exported ----------------------------------------------------------------------------------

TWO = ["rows", "tokens"]
OTHERS = {
    "ids alone": {},
    "no segments": {"attention_mask": TWO},
    "segments": {"attention_mask": TWO, "token_type_ids": TWO},
    "positions": {"attention_mask": TWO, "position_ids": TWO},
    "a cache": {
        "attention_mask": TWO, "position_ids": TWO, "past_key_values.0.key": ["rows", 2, "past", 8],
        "past_key_values.0.value": ["rows", 2, "past", 8],
    },
}  # fmt: skip


@pytest.fixture
def other(folders, tmp_path):
    """Return a function that puts a graph written by hand into a published folder."""

    def make(inputs, **outputs):
        shutil.copytree(folders[1], tmp_path / "model")
        for kind in KINDS:
            shutil.rmtree(tmp_path / "model" / kind)
        path = graphs.handmade(tmp_path / "model" / "onnx" / "model.onnx", {"input_ids": TWO, **inputs}, **outputs)
        graphs.convert(path)
        return tmp_path / "model"

    return make


@pytest.mark.parametrize("name", OTHERS)
def test_graphs_with_other_inputs(other, name):
    folder = other(OTHERS[name])
    for kind in KINDS:
        model = load(SentenceTransformer, folder, kind)
        ids = model.preprocess([TEXTS[0]])["input_ids"][0].numpy()
        states = graphs.table()[ids] + ("attention_mask" in OTHERS[name])
        states = states + np.arange(len(ids))[:, None] * ("position_ids" in OTHERS[name])
        wanted = states.mean(0) / np.linalg.norm(states.mean(0))
        np.testing.assert_allclose(model.encode(TEXTS)[0], wanted, atol=PACKED)


def test_a_graph_that_takes_what_no_text_has(other):
    model = load(SentenceTransformer, other({"attention_mask": TWO, "pixel_values": TWO}), "onnx")
    with pytest.raises(InputError, match="'pixel_values', which no text has"):
        model.encode(TEXTS)


def test_older_graphs_with_their_pooling_inside(other):
    folder = other({"attention_mask": TWO}, output="token_embeddings", also="sentence_embedding")
    with pytest.raises(ValueError, match=r"exported with its pooling inside.*export=True"):
        load(SentenceTransformer, folder, "openvino")
    assert load(SentenceTransformer, folder, "onnx").encode(TEXTS).shape == (len(TEXTS), 32)


def test_a_graph_for_another_task(other):
    folder = other({"attention_mask": TWO}, output="logits")
    for kind in KINDS:
        with pytest.raises(ValueError, match=r"gives .*logits.*task feature-extraction needs last_hidden_state"):
            load(SentenceTransformer, folder, kind)


# -- copies ------------------------------------------------------------------------------------------------------------


def test_copies_run(model):
    wanted = model.encode(TEXTS)
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(copied.encode(TEXTS), wanted)
        assert copied.backend == model.backend


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_unknown_backends(st, folders):
    for cls in (SentenceTransformer, SparseEncoder, CrossEncoder, st.SentenceTransformer):
        with pytest.raises(ValueError, match="backend"):
            cls(str(folders[0]), device="cpu", backend="tensorrt")


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_for_torch(tmp_path, kind):
    pytest.importorskip("peft")
    folder = adapter(tmp_path / "adapter", graphs.one_layer("bert", tmp_path / "base"))
    with pytest.raises(ValueError, match=r"merge the adapter into the model, save that, and load what was saved"):
        load(SentenceTransformer, folder, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_that_no_graph_does(folders, kind):
    with pytest.raises(ValueError, match=r"Unsupported task 'retrieval'") as caught:
        Transformer(str(folders[0]), transformer_task="retrieval", backend=kind)
    for task in ("feature-extraction", "fill-mask", "sequence-classification", "text-generation"):
        assert task in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_runtime_that_is_not_installed(folders, monkeypatch, kind):
    monkeypatch.setattr("fourfold.errors.installed", lambda package: package != KINDS[kind].package)
    with pytest.raises(MissingExtraError, match=rf'pip install "fourfold\[{kind}\]"'):
        load(SentenceTransformer, folders[1], kind)


@pytest.mark.parametrize("kwargs", [{"provider": "Nothing"}, {"file_name": "../model.onnx"}], ids=str)
def test_options_that_are_unusable(folders, kwargs):
    with pytest.raises(ValueError, match=r"provider must be one|must be a relative path"):
        load(SentenceTransformer, folders[1], "onnx", **kwargs)


def test_settings_of_openvino_that_are_unusable(folders, tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        load(SentenceTransformer, folders[1], "openvino", ov_config=str(tmp_path / "no.json"))


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_for_torch(folders, kind):
    with pytest.raises(RuntimeError, match="a graph cannot be trained"):
        SentenceTransformerTrainer(load(SentenceTransformer, folders[1], kind))
    with pytest.raises(ValueError, match="adapters need"):
        load(SentenceTransformer, folders[1], kind).add_adapter({})


def test_a_static_model_has_nothing_to_run_otherwise():
    folder = str(tiny_folder("dense", "static"))
    wanted = SentenceTransformer(folder, device="cpu").encode(TEXTS)
    np.testing.assert_array_equal(SentenceTransformer(folder, device="cpu", backend="onnx").encode(TEXTS), wanted)
    assert fourfold.load(folder).backend == "static"
