"""Which file of a folder or a repository is loaded as a graph, and when one has to be exported."""

import pytest

from fourfold.errors import FolderError, MissingFileError
from fourfold.runtimes import KINDS, files
from fourfold.store.source import Source

ONNX, XML = "model.onnx", "openvino_model.xml"
WEIGHTS = ["modules.json", "config.json", "model.safetensors"]


@pytest.fixture
def folder(tmp_path):
    """Return a function that makes a folder of empty files."""

    def make(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        return Source(str(tmp_path))

    return make


@pytest.mark.parametrize(
    ("kind", "paths", "file_name", "found"),
    [
        ("onnx", [ONNX], None, ONNX),
        ("onnx", ["onnx/model.onnx"], None, "onnx/model.onnx"),
        ("onnx", [ONNX, "onnx/model.onnx"], None, ONNX),
        ("onnx", ["onnx/model.onnx", "onnx/model_O3.onnx"], "model_O3.onnx", "onnx/model_O3.onnx"),
        ("onnx", ["onnx/model.onnx", "onnx/model_O3.onnx"], "onnx/model_O3.onnx", "onnx/model_O3.onnx"),
        ("onnx", ["a/b/model.onnx"], "a/b/model.onnx", "a/b/model.onnx"),
        ("onnx", ["onnx/a/model.onnx"], "a/model.onnx", "onnx/a/model.onnx"),
        ("onnx", ["a/model.onnx"], None, None),
        ("onnx", ["a/onnx/model.onnx"], None, None),
        ("onnx", ["openvino/model.onnx"], None, None),
        ("onnx", [".git/onnx/model.onnx", "onnx/model.onnx.part"], None, None),
        ("onnx", WEIGHTS, None, None),
        ("openvino", [XML], None, XML),
        ("openvino", ["openvino/openvino_model.xml"], None, "openvino/openvino_model.xml"),
        ("openvino", ["onnx/model.onnx"], None, None),
        ("openvino", ["openvino/model.xml"], "model.xml", None),
        ("openvino", ["a/openvino_q.xml", "a/openvino_q.bin"], "a/openvino_q.xml", "a/openvino_q.xml"),
    ],
)
def test_where_a_graph_is_found(folder, kind, paths, file_name, found):
    assert files.find(folder(*paths), kind, file_name) == found


def test_several_graphs_and_none_named(folder, caplog):
    source = folder("onnx/model.onnx", "onnx/model_O3.onnx", "onnx/model_qint8_arm64.onnx")
    assert files.find(source, "onnx") == "onnx/model.onnx"
    (said,) = caplog.messages
    assert "onnx/model.onnx, onnx/model_O3.onnx, onnx/model_qint8_arm64.onnx" in said
    assert "'onnx/model.onnx' is taken" in said
    caplog.clear()
    files.find(source, "onnx", "model_O3.onnx")
    files.find(source, "onnx", warn=False)
    files.find(source, "openvino")
    files.find(folder("openvino/openvino_model.xml", "openvino/openvino_model.bin"), "openvino")
    assert caplog.messages == []


def test_a_wrong_name_gets_the_right_one_as_advice(folder, caplog):
    source = folder("onnx/model_O3.onnx", "onnx/model_O4.onnx")
    assert files.find(source, "onnx", "model_03.onnx") is None
    assert "'model_03.onnx'" in caplog.messages[0]
    assert 'model_kwargs={"file_name": "onnx/model_O3.onnx"}' in caplog.messages[0]
    assert files.find(source, "onnx") is None
    assert len(caplog.messages) == 2
    assert files.find(source, "onnx", warn=False) is None
    assert len(caplog.messages) == 2


O3 = ["onnx/model.onnx", "onnx/model_O3.onnx"]


@pytest.mark.parametrize(
    ("paths", "given", "export", "wanted"),
    [
        ([ONNX], {}, False, {"file_name": ONNX}),
        (["onnx/model.onnx"], {}, False, {"file_name": ONNX, "subfolder": "onnx"}),
        (["onnx/model.onnx"], {"export": False}, False, {"file_name": ONNX, "subfolder": "onnx"}),
        (["onnx/model.onnx"], {"export": None}, False, {"file_name": ONNX, "subfolder": "onnx"}),
        (O3, {"export": True, "file_name": "onnx/model_O3.onnx", "provider": "x"}, True, {"provider": "x"}),
        (O3, {"file_name": "model_O3.onnx"}, False, {"file_name": "model_O3.onnx", "subfolder": "onnx"}),
        (O3, {"file_name": "onnx/model_O3.onnx"}, False, {"file_name": "model_O3.onnx", "subfolder": "onnx"}),
        (O3, {"file_name": "model_O9.onnx"}, True, {}),
        (O3, {"file_name": "model_O9.onnx", "export": False}, False, {"file_name": "model_O9.onnx"}),
        (WEIGHTS, {}, True, {}),
        (WEIGHTS, {"export": False}, False, {"file_name": ONNX}),
        (["a/model.onnx"], {"subfolder": "a"}, False, {"file_name": ONNX, "subfolder": "a"}),
        (["a/onnx/model.onnx"], {"subfolder": "a"}, False, {"file_name": ONNX, "subfolder": "a/onnx"}),
        (["a/b/c.onnx"], {"subfolder": "a", "file_name": "b/c.onnx"}, False,
         {"file_name": "c.onnx", "subfolder": "a/b"}),
        ([ONNX, "onnx/model.onnx"], {"subfolder": "a"}, True, {"subfolder": "a"}),
    ],
)  # fmt: skip
def test_when_a_graph_is_exported(folder, paths, given, export, wanted):
    before = dict(given)
    assert files.should_export(folder(*paths), "onnx", given, file_name=ONNX) == (export, wanted)
    assert given == before


def test_an_export_that_is_asked_for_searches_nothing(folder, caplog):
    source = folder(*O3)
    assert files.should_export(source, "onnx", {"export": True}, file_name=ONNX)[0]
    assert caplog.messages == []


@pytest.mark.parametrize("given", [{"file_name": "../model.onnx"}, {"file_name": "/model.onnx"}, {"subfolder": "../a"}])
def test_what_leaves_the_folder_is_refused(folder, given):
    with pytest.raises(FolderError, match="must be a relative path inside"):
        files.should_export(folder(ONNX), "onnx", given, file_name=ONNX)


@pytest.mark.parametrize(
    ("paths", "graph", "wanted"),
    [
        (["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1"], "onnx/model.onnx",
         ["onnx/model.onnx_data", "onnx/model.onnx_data_1"]),
        (["onnx/model.onnx", "onnx/model.onnx.data"], "onnx/model.onnx", ["onnx/model.onnx.data"]),
        (["onnx/model.onnx", "onnx/model.data"], "onnx/model.onnx", ["onnx/model.data"]),
        (["onnx/model.onnx", "onnx/model_O3.onnx", "onnx/model_O3.onnx_data"], "onnx/model.onnx", []),
        (["openvino/openvino_model.xml"], "openvino/openvino_model.xml", ["openvino/openvino_model.bin"]),
    ],
)  # fmt: skip
def test_what_belongs_to_a_graph(folder, paths, graph, wanted):
    assert files.companions(folder(*paths), graph) == wanted


def test_a_graph_that_is_absent_is_named(folder):
    with pytest.raises(MissingFileError, match=r"onnx/model\.onnx is missing"):
        files.fetch(folder(*WEIGHTS), "onnx/model.onnx")


@pytest.mark.parametrize(("flags", "warns"), [({"avx2"}, True), ({"avx512f", "avx512_vnni"}, False)])
def test_a_graph_for_another_processor_is_loaded_with_a_warning(folder, monkeypatch, caplog, flags, warns):
    monkeypatch.setattr("fourfold.runtimes.processor.processor", lambda: ("a processor", frozenset(flags)))
    name = "onnx/model_qint8_avx512_vnni.onnx"
    assert files.fetch(folder(name), name).is_file()
    assert any("quantised for AVX-512 VNNI" in message for message in caplog.messages) == warns


def test_the_names_of_other_precisions():
    assert KINDS["onnx"].named("O3") == "model_O3.onnx"
    assert KINDS["openvino"].named("qint8_quantized") == "openvino_model_qint8_quantized.xml"
    assert KINDS["onnx"].named("") == ONNX


# -- hub ---------------------------------------------------------------------------------------------------------------

PUBLISHED = [ONNX, "onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_O3.onnx", "openvino/openvino_model.xml",
             "openvino/openvino_model.bin", "config.json"]  # fmt: skip


def test_a_repository_on_the_hub(hub, caplog):
    hub.add("me/model", dict.fromkeys(PUBLISHED, b"x"))
    source = Source("me/model").pinned()
    assert files.candidates(source, "onnx") == ["onnx/model.onnx", "onnx/model_O3.onnx"]
    assert files.should_export(source, "onnx", {}, file_name=ONNX) == (False, {"file_name": ONNX, "subfolder": "onnx"})
    assert "several onnx files: onnx/model.onnx, onnx/model_O3.onnx" in caplog.text
    local = files.fetch(source, "onnx/model.onnx")
    assert sorted(path.name for path in local.parent.iterdir()) == ["model.onnx", "model.onnx_data"]
    weights = files.fetch(source, "openvino/openvino_model.xml").with_suffix(".bin")
    assert weights.read_bytes() == b"x"


def test_a_graph_in_the_root_of_a_repository_does_not_count(hub):
    hub.add("me/model", {ONNX: b"x", "config.json": b"{}"})
    assert files.should_export(Source("me/model").pinned(), "onnx", {}, file_name=ONNX) == (True, {})


def test_a_graph_in_the_folder_of_a_module(hub):
    hub.add("me/model", {f"0_Transformer/{ONNX}": b"x"})
    source = Source("me/model").pinned()
    for place, given in ((source, {"subfolder": "0_Transformer"}), (source.at("0_Transformer"), {})):
        assert files.should_export(place, "onnx", given, file_name=ONNX) == (False, {**given, "file_name": ONNX})
