"""The older library's functions around exported graphs: names, files, numbers, uploads and what they refuse."""

import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from tests import graphs
from tests.graphs import EXACT
from tests.support import TEXTS, content, named
from tests.tolerances import PACKED

import fourfold
from fourfold import SentenceTransformer, backend
from fourfold.errors import FolderError, InputError, MissingExtraError, MissingFileError
from fourfold.exporting.optimize import Optimization
from fourfold.exporting.quantize import DynamicQuantization
from fourfold.runtimes import KINDS
from fourfold.testing import tiny

pytestmark = pytest.mark.usefixtures("traced_once")

OPTIMIZED = backend.export_optimized_onnx_model
QUANTIZED = backend.export_dynamic_quantized_onnx_model
STATIC = backend.export_static_quantized_openvino_model
NAMED = {"arm64": "qint8_arm64", "avx2": "quint8_avx2", "avx512": "qint8_avx512", "avx512_vnni": "qint8_avx512_vnni"}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return graphs.dense(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    fourfold.export(original, folder)
    graphs.convert(folder / "onnx" / "model.onnx")
    return folder


def load(folder, kind, **model_kwargs):
    return graphs.load(SentenceTransformer, folder, kind, **model_kwargs)


@pytest.fixture(scope="module")
def models(folder):
    return {kind: load(folder, kind) for kind in KINDS}


@pytest.fixture
def place(folder, tmp_path):
    """A folder that a model can be loaded from, without graphs."""
    for path, data in content(folder).items():
        if not path.startswith(tuple(KINDS)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(data)
    return tmp_path


def added(place, kind):
    return sorted(path.name for path in (place / kind).iterdir())


def operators(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def weights(path):
    names = onnx.TensorProto.DataType.Name
    return {names(one.data_type) for one in onnx.load(path).graph.initializer if len(one.dims) > 1}


def cosine(got, wanted):
    return (got * wanted).sum(1).min()


# -- optimised ---------------------------------------------------------------------------------------------------------

CLOSE = {"O1": PACKED, "O2": PACKED, "O3": 1e-3, "O4": 4e-3}


@pytest.mark.parametrize("level", CLOSE)
def test_every_level_of_optimisation(models, original, place, level):
    before = content(place)
    assert OPTIMIZED(models["onnx"], level, str(place)) is None
    path = place / "onnx" / f"model_{level}.onnx"
    assert content(place).keys() - before.keys() == {f"onnx/model_{level}.onnx"}
    found = operators(path)
    assert (found["Attention"] == 1) == (found["SkipLayerNormalization"] == 2) == (level != "O1")
    assert (found["FastGelu"] == 1) == (level in ("O3", "O4"))
    assert (found["BiasGelu"] == 1) == (level == "O2")
    assert ("FLOAT16" in weights(path)) == (level == "O4")
    for name in (f"model_{level}.onnx", f"onnx/model_{level}.onnx"):
        got = load(place, "onnx", file_name=name).encode(TEXTS)
        np.testing.assert_allclose(got, original.encode(TEXTS), atol=CLOSE[level])


THEIR_OPTIMIZATION = SimpleNamespace(
    optimization_level=2, enable_transformers_specific_optimizations=True, enable_gelu_approximation=True, fp16=False,
    optimize_for_gpu=False,
)  # fmt: skip


OWN_OPTIMIZATION = Optimization(2, fusions=True, gelu_approximation=True)


@pytest.mark.parametrize("config", [THEIR_OPTIMIZATION, OWN_OPTIMIZATION], ids=["theirs", "own"])
def test_an_optimisation_of_ones_own(models, place, config):
    OPTIMIZED(models["onnx"], config, str(place))
    assert added(place, "onnx") == ["model_optimized.onnx"]
    assert operators(place / "onnx" / "model_optimized.onnx")["FastGelu"] == 1
    OPTIMIZED(models["onnx"], config, str(place), file_suffix="mine")
    assert added(place, "onnx") == ["model_mine.onnx", "model_optimized.onnx"]


# -- quantised by onnxruntime ------------------------------------------------------------------------------------------


def zero_points(path):
    """Return the zero points of the weights of the layers, as far as they are stated."""
    found = onnx.load(path).graph.initializer
    return [onnx.numpy_helper.to_array(one) for one in found if one.name.endswith("_zero_point") and one.dims]


@pytest.mark.parametrize("name", NAMED)
def test_every_kind_of_dynamic_quantisation(models, original, place, name):
    QUANTIZED(models["onnx"], name, str(place))
    file = f"model_{NAMED[name]}.onnx"
    assert added(place, "onnx") == [file]
    path = place / "onnx" / file
    assert operators(path)["MatMulInteger"] == 6
    assert ("INT8" if NAMED[name].startswith("qint8") else "UINT8") in weights(path)
    points = zero_points(path)
    assert any(len(point) > 1 for point in points), "a scale for each output"
    assert any(point.any() for point in points) == (name != "arm64"), "symmetric ones are around zero"
    got = load(place, "onnx", file_name=file).encode(TEXTS)
    assert cosine(got, original.encode(TEXTS)) > 0.98


def test_a_dynamic_quantisation_of_ones_own(models, place):
    theirs = SimpleNamespace(
        weights_dtype=SimpleNamespace(name="QUInt8"), weights_symmetric=False, per_channel=False, reduce_range=True,
        operators_to_quantize=["MatMul"],
    )  # fmt: skip
    QUANTIZED(models["onnx"], theirs, str(place))
    QUANTIZED(models["onnx"], DynamicQuantization("QInt8", operators=["Gather"]), str(place))
    QUANTIZED(models["onnx"], "avx2", str(place), file_suffix="mine")
    assert added(place, "onnx") == ["model_mine.onnx", "model_qint8_quantized.onnx", "model_quint8_quantized.onnx"]
    assert operators(place / "onnx" / "model_quint8_quantized.onnx")["MatMulInteger"] == 6
    assert not any(len(point) > 1 for point in zero_points(place / "onnx" / "model_quint8_quantized.onnx"))
    assert operators(place / "onnx" / "model_qint8_quantized.onnx")["MatMulInteger"] == 0


# -- quantised by OpenVINO ---------------------------------------------------------------------------------------------


def test_static_quantisation_without_a_data_set_takes_texts_of_our_own(models, original, place, caplog, capsys):
    STATIC(models["openvino"], None, str(place))
    assert capsys.readouterr().out == ""
    assert added(place, "openvino") == [f"openvino_model_qint8_quantized.{end}" for end in ("bin", "xml")]
    assert "nyu-mll/glue" in caplog.text
    got = load(place, "openvino", file_name="openvino_model_qint8_quantized.xml").encode(TEXTS)
    assert cosine(got, original.encode(TEXTS)) > 0.98
    assert 'element_type="i8"' in (place / "openvino" / "openvino_model_qint8_quantized.xml").read_text()


@pytest.fixture
def calibrated(monkeypatch):
    """What a quantisation would run on, as texts, and its configuration."""
    seen = []

    def quantize(source, target, feeds, config):
        seen.append(([feed["input_ids"][0].tolist() for feed in feeds], config))
        target.touch()
        target.with_suffix(".bin").touch()

    monkeypatch.setattr("fourfold.exporting.quantize.quantize_static", quantize)
    return seen


@pytest.fixture
def data_set(monkeypatch):
    """A data set in the place of the hub's, and how it was asked for."""
    import datasets

    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((*args, kwargs, datasets.is_caching_enabled()))
        return datasets.Dataset.from_dict({"sentence": [f"text {i}" for i in range(9)], "label": [0] * 9})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return asked


def test_the_usual_data_set(models, place, calibrated, data_set):
    import datasets

    caching = datasets.is_caching_enabled()
    STATIC(models["openvino"], {"num_samples": 4}, str(place))
    assert data_set == [("nyu-mll/glue", "sst2", {"split": "train"}, False)]
    assert datasets.is_caching_enabled() == caching
    texts, config = calibrated[0]
    assert len(texts) == len(set(map(tuple, texts))) == 4
    assert set(map(tuple, texts)) <= {tuple(models["openvino"].tokenizer(f"text {i}")["input_ids"]) for i in range(9)}
    assert config["num_samples"] == 4


def test_a_data_set_of_ones_own(models, place, calibrated, data_set):
    given = {"dataset_name": "me/texts", "dataset_config_name": "x", "dataset_split": "test", "column_name": "sentence"}
    STATIC(models["openvino"], None, str(place), **given, file_suffix="mine")
    assert data_set[0][:3] == ("me/texts", "x", {"split": "test"})
    assert len(calibrated[0][0]) == 9
    assert added(place, "openvino") == ["openvino_model_mine.bin", "openvino_model_mine.xml"]
    with pytest.raises(InputError, match="has the columns sentence, label, not 'text'"):
        STATIC(models["openvino"], None, str(place), **{**given, "column_name": "text"})


def test_configurations_as_dictionaries_and_objects(models, place, calibrated, data_set):
    for config in ({"num_samples": 2, "sym": True, "bits": 8}, SimpleNamespace(num_samples=2, sym=True, dataset=None)):
        STATIC(models["openvino"], config, str(place))
    assert [(len(texts), config["sym"], config["bits"]) for texts, config in calibrated] == [(2, True, 8)] * 2


def test_long_texts_are_cut_to_what_the_model_takes(models, place, calibrated, monkeypatch):
    monkeypatch.setattr("fourfold.exporting.calibration.texts", lambda given: ["the world " * 400])
    STATIC(models["openvino"], None, str(place))
    assert [len(text) for text in calibrated[0][0]] == [128]


def test_every_setting_of_a_quantisation_is_taken(models, original, place, monkeypatch):
    monkeypatch.setattr("fourfold.exporting.calibration.texts", lambda given: TEXTS)
    config = {
        "num_samples": 3, "sym": True, "fast_bias_correction": True, "smooth_quant_alpha": 0.5,
        "overflow_fix": "disable", "ignored_scope": {"types": ["MatMul", "Gather"], "validate": False},
    }  # fmt: skip
    STATIC(models["openvino"], config, str(place))
    got = load(place, "openvino", file_name="openvino_model_qint8_quantized.xml").encode(TEXTS)
    # neither products nor look-ups are left to quantise
    np.testing.assert_allclose(got, original.encode(TEXTS), atol=PACKED)
    assert 'element_type="i8"' not in (place / "openvino" / "openvino_model_qint8_quantized.xml").read_text()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "config", "wanted", "other"),
    [
        (OPTIMIZED, "O1", "onnx", "openvino"),
        (QUANTIZED, "avx2", "onnx", "openvino"),
        (STATIC, None, "openvino", "onnx"),
    ],
)
def test_a_model_on_another_backend(models, original, place, function, config, wanted, other):
    for model, have in ((models[other], other), (original, "torch"), (tiny("dense", "static"), "torch")):
        with pytest.raises(ValueError, match=rf'needs a model loaded with backend="{wanted}", got \'{have}\''):
            function(model, config, str(place))
    assert not (place / wanted).exists()


@pytest.mark.parametrize(
    ("function", "kind", "config", "said"),
    [
        (OPTIMIZED, "onnx", "O5", "must be one of O1, O2, O3, O4"),
        (OPTIMIZED, "onnx", "O33", "got 'O33'. Did you mean 'O3'"),
        (OPTIMIZED, "onnx", SimpleNamespace(fp16=True), "must be one of O1, O2, O3, O4, or an object"),
        (QUANTIZED, "onnx", "avx51", "must be one of arm64, avx2, avx512, avx512_vnni"),
        (QUANTIZED, "onnx", "avx512vnni", "Did you mean 'avx512_vnni'"),
        (QUANTIZED, "onnx", SimpleNamespace(weights_dtype=None), "or an object"),
        (STATIC, "openvino", {"num_sample": 3}, "unknown key 'num_sample'.*Did you mean 'num_samples'"),
        (STATIC, "openvino", {"bits": 4}, "bits must be 8, got 4"),
    ],
    ids=lambda value: value.__name__ if callable(value) else named(value),
)
def test_configurations_that_are_unknown(models, place, function, kind, config, said):
    with pytest.raises(InputError, match=said):
        function(models[kind], config, str(place))
    assert not (place / kind).exists()


@pytest.mark.parametrize("given", [{"dataset_name": "x"}, {"column_name": "x", "dataset_split": "train"}], ids=str)
def test_a_data_set_that_is_half_named(models, place, given):
    with pytest.raises(ValueError, match="must be given together, or none of them"):
        STATIC(models["openvino"], None, str(place), **given)


def test_a_named_data_set_that_cannot_be_had(models, place, monkeypatch):
    given = {"dataset_name": "me/texts", "dataset_config_name": "x", "dataset_split": "test", "column_name": "sentence"}

    def unreachable(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(InputError, match="'me/texts' cannot be loaded: no network"):
        STATIC(models["openvino"], None, str(place), **given)


@pytest.mark.parametrize(
    ("function", "kind", "config", "package"),
    [
        (OPTIMIZED, "onnx", "O1", "onnxscript"),
        (QUANTIZED, "onnx", "avx2", "onnx"),
        (STATIC, "openvino", None, "nncf"),
        (STATIC, "openvino", None, "datasets"),
    ],
)
def test_packages_that_are_missing(models, place, monkeypatch, function, kind, config, package):
    monkeypatch.setattr("fourfold.errors.installed", lambda name: name != package)
    with pytest.raises(MissingExtraError, match=rf"needs the package {package}\."):
        function(models[kind], config, str(place))


# -- uploads -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def uploads(monkeypatch):
    seen = []

    def upload_folder(self, **kwargs):
        seen.append({**kwargs, "files": sorted(content(Path(kwargs["folder_path"])))})
        return SimpleNamespace(pr_url=None, commit_url="http://hub/commit")

    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    return seen


@pytest.mark.parametrize(
    ("function", "kind", "config", "files"),
    [
        (OPTIMIZED, "onnx", "O1", ["onnx/model_O1.onnx"]),
        (QUANTIZED, "onnx", "avx512_vnni", ["onnx/model_qint8_avx512_vnni.onnx"]),
        (STATIC, "openvino", None, [f"openvino/openvino_model_qint8_quantized.{end}" for end in ("bin", "xml")]),
    ],
)
@pytest.mark.usefixtures("calibrated")
def test_an_upload_holds_the_graph_alone(models, uploads, tmp_path, monkeypatch, function, kind, config, files):
    monkeypatch.chdir(tmp_path)
    assert function(models[kind], config, "me/model", push_to_hub=True) is None
    (sent,) = uploads
    assert (sent["repo_id"], sent["files"], bool(sent["create_pr"])) == ("me/model", files, False)
    assert kind in sent["commit_message"]
    assert files[-1] in sent["commit_message"]
    assert list(tmp_path.iterdir()) == []


def test_a_pull_request_tells_how_the_graph_was_made_and_how_to_try_it(models, uploads):
    OPTIMIZED(models["onnx"], "O3", "me/model", push_to_hub=True, create_pr=True, file_suffix="mine")
    (sent,) = uploads
    assert sent["create_pr"]
    said = sent["commit_description"]
    assert "export_optimized_onnx_model" in said
    assert str(OWN_OPTIMIZATION) in said
    snippet = re.search(r"```python\n(.*?)```", said, re.DOTALL)[1]
    call = snippet[snippet.index("SentenceTransformer(") :]
    given = eval(call.replace("SentenceTransformer", "(lambda *a, **k: (a, k))"))
    assert given == (
        ("me/model",),
        {"revision": "refs/pr/2", "backend": "onnx", "model_kwargs": {"file_name": "onnx/model_mine.onnx"}},
    )


# -- helpers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_with_the_face_of_a_transformers_model(folder, original, tmp_path, kind):
    loader = {"onnx": backend.load_onnx_model, "openvino": backend.load_openvino_model}[kind]
    exact = EXACT[kind].get("model_kwargs", {})
    model = loader(str(folder), original[0].config, "feature-extraction", **exact)
    features = {name: value for name, value in original.preprocess(TEXTS[:1]).items() if hasattr(value, "shape")}
    names = ("input_ids", "attention_mask", "token_type_ids")
    given = {name: features[name] for name in names if name in features}
    found = model(**given)
    wanted = original[0].model(**given).last_hidden_state.detach()
    np.testing.assert_allclose(found.last_hidden_state, wanted, atol=PACKED)
    assert (found[0] is found["last_hidden_state"], "logits" in found) == (True, False)
    with pytest.raises(AttributeError):
        found.logits  # noqa: B018
    model.save_pretrained(tmp_path)
    assert (tmp_path / kind / KINDS[kind].file).is_file()
    with pytest.raises(ValueError, match=r"Unsupported task 'retrieval'.*text-generation"):
        loader(str(folder), original[0].config, "retrieval")
    with pytest.raises(ValueError, match="needs logits"):
        loader(str(folder), original[0].config, "fill-mask")
    with pytest.raises(MissingFileError, match=r"nothing\.onnx is missing" if kind == "onnx" else "is missing"):
        loader(str(folder), original[0].config, "feature-extraction", file_name="nothing.onnx", export=False)


def test_whether_a_graph_has_to_be_exported(folder, original, tmp_path, caplog):
    def asked(place, **given):
        return backend.backend_should_export(str(place), True, given, "model.onnx", "*.onnx", "ONNX")

    assert asked(folder) == (False, {"file_name": "model.onnx", "subfolder": "onnx"})
    assert asked(folder, export=True, provider="x") == (True, {"provider": "x"})
    assert asked(tmp_path) == (True, {})
    found = backend.backend_should_export(str(folder), True, {}, "openvino_model.xml", "openvino*.xml", "OpenVINO")
    assert found == (False, {"file_name": "openvino_model.xml", "subfolder": "openvino"})


def test_the_advice_to_save(caplog):
    backend.backend_warn_to_save("a/folder", True, "onnx")
    backend.backend_warn_to_save("me/model", False, "openvino")
    assert "model.save_pretrained('a/folder')" in caplog.messages[0]
    assert "model.push_to_hub('me/model', create_pr=True)" in caplog.messages[1]


def test_a_folder_of_its_own_for_a_graph(tmp_path):
    seen = []
    save = backend._save_pretrained_wrapper(lambda place, **kwargs: seen.append((str(place), kwargs)) or 3, "onnx")
    assert save(str(tmp_path / "a"), x=1) == 3
    assert seen == [(str(tmp_path / "a" / "onnx"), {"x": 1})]
    assert (tmp_path / "a" / "onnx").is_dir()


def writer(*names):
    """Return a function that writes files of these names, each holding its own."""
    return lambda place: [Path(place, name).write_text(name) for name in names]


@pytest.mark.parametrize(
    ("kind", "names", "options", "wanted"),
    [
        ("onnx", ["model.onnx"], {}, {"model_optimized.onnx": "model.onnx"}),
        ("onnx", ["other.onnx"], {"file_suffix": "O9"}, {"model_O9.onnx": "other.onnx"}),
        ("openvino", ["openvino_model.xml", "openvino_model.bin"], {"file_suffix": "x"},
         {"openvino_model_x.xml": "openvino_model.xml", "openvino_model_x.bin": "openvino_model.bin"}),
        ("openvino", ["openvino_model.xml", "openvino_model.bin"], {},
         {"openvino_model_quantized.xml": "openvino_model.xml", "openvino_model_quantized.bin": "openvino_model.bin"}),
    ],
)  # fmt: skip
def test_what_a_function_exports_gets_the_name_of_its_suffix(tmp_path, kind, names, options, wanted):
    backend.save_or_push_to_hub_model(writer(*names), "f", {}, str(tmp_path), backend=kind, **options)
    assert {path.name: path.read_text() for path in (tmp_path / kind).iterdir()} == wanted


def test_external_data_comes_along(folder, original, place):
    def split(target):
        how = {"save_as_external_data": True, "location": "model.onnx_data", "size_threshold": 1000}
        onnx.save(onnx.load(folder / "onnx" / "model.onnx"), Path(target, "model.onnx"), **how)

    backend.save_or_push_to_hub_model(split, "split", {}, str(place), file_suffix="split")
    assert added(place, "onnx") == ["model_split.onnx", "model_split.onnx_data"]
    got = load(place, "onnx", file_name="model_split.onnx")
    np.testing.assert_allclose(got.encode(TEXTS), original.encode(TEXTS), atol=PACKED)
    got.save(str(place / "saved"))
    np.testing.assert_allclose(load(place / "saved", "onnx").encode(TEXTS), original.encode(TEXTS), atol=PACKED)


@pytest.mark.parametrize(("function", "config"), [(OPTIMIZED, "O1"), (OPTIMIZED, "O4"), (QUANTIZED, "avx2")])
def test_large_weights_lie_beside_the_graph(models, original, place, monkeypatch, function, config):
    monkeypatch.setattr("fourfold.runtimes.export.LARGEST", 1000)
    function(models["onnx"], config, str(place), file_suffix="x")
    assert added(place, "onnx") == ["model_x.onnx", "model_x.onnx_data"]
    got = load(place, "onnx", file_name="model_x.onnx").encode(TEXTS)
    assert cosine(got, original.encode(TEXTS)) > 0.98


@pytest.mark.parametrize("names", [[], ["a.onnx", "b.onnx"], ["model.xml"]])
def test_a_function_must_export_one_graph(tmp_path, names):
    with pytest.raises(FolderError, match="f must write one onnx file, it wrote"):
        backend.save_or_push_to_hub_model(writer(*names), "f", {}, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_a_function_exports_can_be_uploaded(uploads):
    made = json.dumps({"level": 9})
    backend.save_or_push_to_hub_model(writer("model.onnx"), "f", made, "me/model", push_to_hub=True, create_pr=True)
    assert uploads[0]["files"] == ["onnx/model_optimized.onnx"]
    assert made in uploads[0]["commit_description"]
    assert '"onnx/model_optimized.onnx"' in uploads[0]["commit_description"]
