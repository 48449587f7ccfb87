"""Exported folders give torch's numbers, in both runtimes and in every precision, and hold what they must hold."""

import copy
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from tests import graphs
from tests.graphs import EXACT
from tests.support import TEXTS, content, read_json
from tests.tolerances import PACKED

import fourfold
from fourfold import SentenceTransformer, SparseEncoder
from fourfold.cli._folder import describe
from fourfold.errors import FolderError, InputError, MissingExtraError
from fourfold.exporting import calibration
from fourfold.modules import CNN, Dense, Pooling, Router, WordEmbeddings
from fourfold.runtimes import KINDS
from fourfold.runtimes.whole import Wholes
from fourfold.store.source import Source
from fourfold.testing import WIDTH, tiny

pytestmark = pytest.mark.usefixtures("traced_once")

PAIRS = [("the query", "a document"), ("the query", "the long text of the world " * 5), ("", ""), ("short", "x")]
PROMPTS = {"query": "the query of ", "document": ""}


def dense(folder):
    return SentenceTransformer(modules=[*graphs.dense(folder, include_prompt=False)], prompts=PROMPTS, device="cpu")


def static(folder):
    return SentenceTransformer(modules=[*tiny("dense", "static"), Dense(WIDTH, 12)], device="cpu")


def routed(folder):
    router = Router.for_query_document([*tiny("sparse", "static")], [*graphs.sparse(folder)])
    return SparseEncoder(modules=[router], device="cpu")


MAKERS = {
    "dense": dense,
    "static": static,
    "sparse": graphs.sparse,
    "static sparse": lambda folder: tiny("sparse", "static"),
    "routed": routed,
    "cross": graphs.cross,
    "generative": graphs.generative,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a function that makes a model, once."""
    root = tmp_path_factory.mktemp("models")
    return cache(lambda name: MAKERS[name](root / name).eval())


@pytest.fixture(scope="module")
def exported(tmp_path_factory, models):
    """Return a function that exports a model whole, once."""
    root = tmp_path_factory.mktemp("exported")

    @cache
    def export(name, kind, precision="float32"):
        folder = root / f"{name}-{kind}-{precision}"
        fourfold.export(models(name), folder, kind, whole=True, precision=precision)
        return folder

    return export


def rows(found):
    if hasattr(found, "to_dense"):
        return found.to_dense().numpy()
    return found.dense() if hasattr(found, "dense") else found


def outputs(model):
    """Return what a model or an encoder makes of texts or pairs, in all its ways."""
    if model.model_type == "CrossEncoder":
        return [model.predict(PAIRS), model.predict(PAIRS[1]), model.predict(PAIRS, prompt="the ")]
    calls = [model.encode(TEXTS), model.encode([TEXTS[0]]), model.encode_query(TEXTS), model.encode_document(TEXTS)]
    return [rows(call) for call in (*calls, model.encode(TEXTS, prompt="of the "))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MAKERS)
def test_a_whole_graph_gives_the_numbers_of_torch(models, exported, name, kind):
    encoder = fourfold.load(exported(name, kind), backend=kind, **EXACT[kind])
    assert encoder.backend == kind
    for got, wanted in zip(outputs(encoder), outputs(models(name)), strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=PACKED)


def weights(folder):
    return {path for path in content(folder) if path.endswith((".safetensors", ".bin", ".pt"))}


TABLE = "model.safetensors"
WEIGHTS = {
    "dense": set(), "static": {TABLE, f"2_Dense/{TABLE}"}, "sparse": set(), "static sparse": {TABLE},
    "routed": {f"query_0_SparseStaticEmbedding/{TABLE}"}, "cross": set(), "generative": set(),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_of_whole_graphs_holds_no_weights_of_a_transformer(exported, name):
    folder = exported(name, "onnx")
    assert weights(folder) == WEIGHTS[name]
    graph_files = {path.name for path in (folder / "onnx").iterdir()}
    routes = {"whole_query.onnx", "whole_document.onnx"} if name == "routed" else {"whole.onnx"}
    assert graph_files == {"whole.json", *routes}
    assert {"modules.json", "config_sentence_transformers.json", "README.md"} <= content(folder).keys()


def test_what_a_folder_says_of_its_graphs(exported):
    def described(name):
        return Wholes.read(Source(str(exported(name, "onnx"))), "onnx")

    dense = described("dense").graph()
    names = ["input_ids", "attention_mask", "token_type_ids", "prompt_length"]
    assert [port["name"] for port in dense.inputs] == names
    assert [port["axes"] for port in dense.inputs] == [["batch_size", "sequence_length"]] * 3 + [[]]
    assert (dense.width, dense.max_length, dense.padding_side) == (32, 128, "right")
    assert described("static").graph().width == 12
    assert [port["name"] for port in described("cross").graph().outputs] == ["scores", "logits"]
    assert described("generative").graph().padding_side == "left"
    routed = described("routed")
    assert (routed.routes, routed.model_type) == (["query", "document"], "SparseEncoder")
    assert not routed.graph("query").special_tokens
    assert routed.graph("document").special_tokens


def test_logits_are_the_scores_before_the_activation(models, exported):
    encoder = fourfold.load(exported("cross", "onnx"), backend="onnx")
    wanted = models("cross").predict(PAIRS, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(encoder.predict(PAIRS, activation_fn=lambda logits: 2 * logits), 2 * wanted, atol=PACKED)
    assert abs(models("cross").predict(PAIRS) - wanted).max() > 10 * PACKED


# -- the transformer alone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_layout(models, tmp_path, kind):
    fourfold.export(models("dense"), str(tmp_path / "model"), kind)
    graph_files = {"onnx": {"model.onnx"}, "openvino": {"openvino_model.xml", "openvino_model.bin"}}[kind]
    assert {path.name for path in (tmp_path / "model" / kind).iterdir()} == graph_files
    assert weights(tmp_path / "model") == {f"{kind}/{name}" for name in graph_files if name.endswith(".bin")}
    assert read_json(tmp_path / "model" / "config.json")["model_type"] == "bert"
    loaded = graphs.load(SentenceTransformer, tmp_path / "model", kind)
    np.testing.assert_allclose(loaded.encode(TEXTS), models("dense").encode(TEXTS), atol=PACKED)


def test_each_route_has_a_graph_of_its_own(models, tmp_path):
    fourfold.export(models("routed"), tmp_path / "model")
    assert weights(tmp_path / "model") == WEIGHTS["routed"]
    assert (tmp_path / "model" / "document_0_Transformer" / "onnx" / "model.onnx").is_file()
    loaded = SparseEncoder(str(tmp_path / "model"), device="cpu", backend="onnx")
    for got, wanted in zip(outputs(loaded), outputs(models("routed")), strict=True):
        np.testing.assert_allclose(got, wanted, atol=PACKED)


# -- the model afterwards ----------------------------------------------------------------------------------------------


def state(model):
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.dtype for name, tensor in tensors}, [module.training for module in model.modules()]


@pytest.mark.parametrize("whole", [False, True])
def test_a_model_in_half_precision_stays_as_it_was(models, tmp_path, whole):
    model = copy.deepcopy(models("dense")).half()
    before, packed = model.encode(TEXTS), model[0].packed
    model.train()
    wanted = state(model)
    fourfold.export(model, tmp_path / "model", whole=whole)
    assert state(model) == wanted
    model.eval()
    assert model[0].packed == packed
    np.testing.assert_array_equal(model.encode(TEXTS), before)


def test_each_tensor_keeps_its_own_type(tmp_path, monkeypatch):
    monkeypatch.setattr("fourfold.exporting.folder.export_wholes", lambda *args: SimpleNamespace(write=lambda place: 0))
    modules = [tiny("dense", "static")[0].double(), Dense(WIDTH, 4).bfloat16()]
    model = SentenceTransformer(modules=modules, device="cpu")
    types, numbers = state(model), [parameter.clone() for parameter in model.parameters()]
    fourfold.export(model, tmp_path / "model", whole=True)
    assert state(model) == types
    assert all(map(torch.equal, numbers, model.parameters()))


# -- other precisions --------------------------------------------------------------------------------------------------


def cosines(got, wanted):
    return (got * wanted).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)


def kept_as(path):
    """Return the data types of the weights that a graph holds."""
    if path.suffix == ".onnx":
        names = onnx.TensorProto.DataType.Name
        return {names(tensor.data_type).lower() for tensor in onnx.load(path).graph.initializer if len(tensor.dims) > 1}
    import openvino

    ops = openvino.Core().read_model(path).get_ops()
    constants = [op for op in ops if op.get_type_name() == "Constant" and len(op.get_output_shape(0)) > 1]
    return {op.get_output_element_type(0).get_type_name() for op in constants}


@pytest.mark.parametrize(
    ("kind", "precision", "least", "types"),
    [
        ("onnx", "float16", 0.9999, {"float16"}),
        ("openvino", "float16", 0.9999, {"f16"}),
        ("onnx", "int8", 0.98, {"uint8"}),
        ("openvino", "int8", 0.98, {"i8"}),
    ],
)
def test_fewer_bits_keep_the_vectors(models, exported, kind, precision, least, types):
    folder, plain = exported("dense", kind, precision), exported("dense", kind)
    file = KINDS[kind].file.rpartition(".")[2]
    path = folder / kind / f"whole.{file}"
    assert types <= kept_as(path)
    assert not types & kept_as(plain / kind / f"whole.{file}")
    encoder = fourfold.load(folder, backend=kind)
    assert cosines(encoder.encode(TEXTS), models("dense").encode(TEXTS)).min() > least
    assert Wholes.read(Source(str(folder)), kind).graph().precision == precision
    heavy = path.with_suffix(".bin") if kind == "openvino" else path
    assert heavy.stat().st_size < (plain / kind / heavy.name).stat().st_size
    assert {p.name for p in path.parent.iterdir()} == {"whole.json", path.name, heavy.name}


def test_fewer_bits_for_the_transformer_alone(models, tmp_path):
    fourfold.export(models("dense"), tmp_path / "model", precision="int8")
    assert "uint8" in kept_as(tmp_path / "model" / "onnx" / "model.onnx")
    loaded = SentenceTransformer(str(tmp_path / "model"), device="cpu", backend="onnx")
    assert cosines(loaded.encode(TEXTS), models("dense").encode(TEXTS)).min() > 0.98


def test_the_first_of_several_layers_keeps_its_precision(tmp_path):
    model = tiny("dense", "bert")
    assert model.config.num_hidden_layers == 2
    for kind in KINDS:
        fourfold.export(model, tmp_path, kind, whole=True, precision="int8")
    nodes = onnx.load(tmp_path / "onnx" / "whole.onnx").graph.node
    assert sum(node.op_type == "MatMulInteger" for node in nodes) == 6
    tables = 3  # of words, places and segments
    text = (tmp_path / "openvino" / "whole.xml").read_text(encoding="utf-8")
    assert text.count('element_type="i8"') == 6 + tables
    for kind in KINDS:
        assert min(cosines(fourfold.load(tmp_path, backend=kind).encode(TEXTS), model.encode(TEXTS))) > 0.98


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_fewer_bits_for_every_route(models, exported, precision):
    folder = exported("routed", "onnx", precision)
    assert {graph.precision for graph in Wholes.read(Source(str(folder)), "onnx").graphs} == {precision}
    encoder = fourfold.load(folder, backend="onnx")
    for task in ("query", "document"):
        got, wanted = (rows(model.encode(TEXTS, task=task)) for model in (encoder, models("routed")))
        some = np.linalg.norm(wanted, axis=1) > 0
        assert cosines(got[some], wanted[some]).min() > 0.98


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_large_weights_in_fewer_bits_lie_beside_their_graph(models, tmp_path, monkeypatch, precision):
    monkeypatch.setattr("fourfold.runtimes.export.LARGEST", 1000)
    fourfold.export(models("dense"), tmp_path / "model", whole=True, precision=precision)
    assert len(list((tmp_path / "model" / "onnx").iterdir())) == 3
    encoder = fourfold.load(tmp_path / "model", backend="onnx")
    assert cosines(encoder.encode(TEXTS), models("dense").encode(TEXTS)).min() > 0.98


def test_texts_to_calibrate_with():
    own = calibration.texts(None)
    assert len(own) > 20
    assert all(isinstance(text, str) and text.strip() for text in own)
    assert calibration.texts(["a", "b"]) == ["a", "b"]
    with pytest.raises(InputError, match="at least one text"):
        calibration.texts([])
    with pytest.raises(InputError, match="position 1"):
        calibration.texts(["a", None])


def test_a_graph_is_calibrated_with_the_texts_that_are_given(models, tmp_path, monkeypatch):
    fed = []

    def quantize(source, target, feeds, config):
        fed.extend(feeds)
        for ending in (".xml", ".bin"):
            target.with_suffix(ending).write_bytes(source.with_suffix(ending).read_bytes())

    monkeypatch.setattr("fourfold.exporting.quantize.quantize_static", quantize)
    texts = ["a text", "the long text of the world " * 40]
    fourfold.export(models("dense"), tmp_path / "model", "openvino", whole=True, precision="int8", texts=texts)
    (feeds,) = fed
    assert feeds["input_ids"].shape == (2, 128)
    assert feeds["attention_mask"].sum(1).tolist() == [4, 128]


# -- what is refused ---------------------------------------------------------------------------------------------------


def words(tmp_path):
    (tmp_path / "vectors.txt").write_text("the 1 2 3\nfox 4 5 6\n")
    layer = WordEmbeddings.from_text_file(str(tmp_path / "vectors.txt"))
    modules = [layer, CNN(3, 4), Pooling(12)]
    return SentenceTransformer(modules=modules, device="cpu")


def test_a_model_that_no_graph_can_hold(tmp_path):
    model = words(tmp_path)
    with pytest.raises(InputError, match=r"cannot hold the module WordEmbeddings.*Export the model without whole"):
        fourfold.export(model, tmp_path / "model", whole=True)
    with pytest.raises(InputError, match="no Transformer module to export"):
        fourfold.export(model, tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"vectors.txt"}


def test_a_failed_export_leaves_an_older_folder_as_it_was(models, tmp_path, monkeypatch):
    fourfold.export(models("static"), tmp_path / "model", whole=True)
    before = content(tmp_path / "model")
    monkeypatch.setattr("fourfold.exporting.folder.export_wholes", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fourfold.export(models("static"), tmp_path / "model", whole=True)
    assert content(tmp_path / "model") == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"format": "onx"}, "format must be one of onnx, openvino; got 'onx'. Did you mean 'onnx'?"),
        ({"precision": "float17"}, "got 'float17'. Did you mean 'float16'?"),
    ],
)
def test_arguments_that_are_refused(models, tmp_path, arguments, said):
    with pytest.raises(InputError) as caught:
        fourfold.export(models("static"), tmp_path / "model", whole=True, **arguments)
    assert said in str(caught.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_a_load_exports_in_float32(models, tmp_path, key):
    models("dense").save(tmp_path)
    for given in (torch.float32, "auto"):
        loaded = SentenceTransformer(str(tmp_path), device="cpu", backend="onnx", model_kwargs={key: given})
        assert loaded.encode(TEXTS).dtype == np.float32
    given = "bfloat16" if key == "dtype" else torch.bfloat16
    with pytest.raises(FolderError, match=r"dtype must be float32 or float16 .* got .*bfloat16"):
        SentenceTransformer(str(tmp_path), device="cpu", backend="onnx", model_kwargs={key: given})


def test_only_models_on_torch_are_exported(models, tmp_path):
    fourfold.export(models("dense"), tmp_path / "model")
    loaded = SentenceTransformer(str(tmp_path / "model"), device="cpu", backend="onnx")
    for model in (loaded, fourfold.load(), object()):
        with pytest.raises(InputError, match="only a model on the torch backend"):
            fourfold.export(model, tmp_path / "other")


@pytest.mark.parametrize("kind", KINDS)
def test_a_runtime_that_is_not_installed(models, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("fourfold.errors.installed", lambda package: package != KINDS[kind].package)
    with pytest.raises(MissingExtraError, match=rf'pip install "fourfold\[{kind}\]"'):
        fourfold.export(models("static"), tmp_path / "model", kind, whole=True)
    assert not (tmp_path / "model").exists()


def test_whole_graphs_are_for_fourfolds_own_loader(exported):
    folder = str(Path(exported("dense", "onnx")))
    for kind in KINDS:
        with pytest.raises(FolderError, match=r"holds whole graphs \(onnx/whole\.json\).*fourfold\.load\("):
            SentenceTransformer(folder, device="cpu", backend=kind)
    assert describe(folder)["backends"] == ["onnx"]
    with pytest.raises(InputError, match="are those of a SentenceTransformer, not of a CrossEncoder"):
        fourfold.load(folder, backend="onnx", family="cross")
