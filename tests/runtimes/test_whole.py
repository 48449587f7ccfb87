"""What a folder says of its whole graphs: written, read back, damaged, and asked for a graph."""

import json

import pytest

from fourfold.errors import FolderError, InputError
from fourfold.runtimes.whole import DESCRIPTION_FILE, WholeGraph, Wholes
from fourfold.store.source import Source

PORTS = {
    "inputs": [{"name": "input_ids", "dtype": "int64", "axes": ["batch_size", "sequence_length"]}],
    "outputs": [{"name": "sentence_embedding", "dtype": "float32", "axes": ["batch_size", 8]}],
    "width": 8,
}
ONE = WholeGraph("whole.onnx", **PORTS)
QUERY = WholeGraph("whole_query.onnx", "query", tokenizer="query_0_Table", special_tokens=False, pad_id=3, **PORTS)
DOCUMENT = WholeGraph(
    "whole_document.onnx", "document", "int8", tokenizer="document_0_Transformer", max_length=128, padding_side="left",
    truncation_side="left", widest=900, **PORTS,
)  # fmt: skip
SMALL = WholeGraph("whole_document_int8.onnx", "document", "int8", tokenizer="document_0_Transformer", **PORTS)
ROUTED = Wholes("SparseEncoder", "onnx", [QUERY, DOCUMENT, SMALL], "document")


@pytest.mark.parametrize("wholes", [Wholes("CrossEncoder", "openvino", [ONE]), ROUTED], ids=["one", "routed"])
def test_a_description_comes_back_as_it_was(tmp_path, wholes):
    source = Source(str(tmp_path)).at("model")
    wholes.write(source)
    assert Wholes.read(source, wholes.kind) == wholes
    assert (tmp_path / "model" / wholes.kind / DESCRIPTION_FILE).is_file()


def test_a_folder_without_one(tmp_path):
    ROUTED.write(Source(str(tmp_path)))
    assert Wholes.read(Source(str(tmp_path)), "openvino") is None
    assert Wholes.read(Source(str(tmp_path / "onnx")), "onnx") is None


def damaged(folder, change):
    ROUTED.write(Source(str(folder)))
    file = folder / "onnx" / DESCRIPTION_FILE
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))
    return Source(str(folder))


@pytest.mark.parametrize("content", ["{", "[]", '"text"', '{"version": 1}'])
def test_a_file_that_is_no_description_is_named(tmp_path, content):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / DESCRIPTION_FILE).write_text(content)
    with pytest.raises(FolderError, match=r"onnx/whole\.json"):
        Wholes.read(Source(str(tmp_path)), "onnx")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("version", 2, "version must be 1, got 2; export the model again"),
        ("version", None, "version must be 1"),
        ("model_type", None, "'model_type'"),
        ("graphs", [], "non-empty list 'graphs'"),
        ("graphs", {"file": "whole.onnx"}, "non-empty list 'graphs'"),
        ("graphs", ["whole.onnx"], "must be an object with a 'file'"),
        ("graphs", [{"route": "query"}], "must be an object with a 'file'"),
        ("default_route", "nothing", "default_route must be one of query, document, got 'nothing'"),
        ("default_route", 3, "default_route must be one of"),
    ],
)
def test_a_damaged_description_is_named(tmp_path, key, value, said):
    source = damaged(tmp_path, lambda whole: whole.update({key: value}))
    with pytest.raises(FolderError, match=rf"onnx/whole\.json.*{said}"):
        Wholes.read(source, "onnx")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 0), ("width", "8"), ("width", True), ("inputs", []), ("inputs", "input_ids"), ("inputs", [1]),
        ("outputs", []), ("outputs", [{"dtype": "float32"}]), ("outputs", None), ("route", 3), ("precision", None),
        ("tokenizer", None), ("tokenizer", 5), ("special_tokens", "no"), ("max_length", 0), ("max_length", "all"),
        ("max_length", -1), ("truncation_side", "middle"), ("padding_side", ["left"]), ("padding_side", None),
        ("pad_id", -1), ("pad_id", None), ("pad_id", 0.5), ("widest", 0), ("widest", "wide"),
    ],
)  # fmt: skip
def test_a_damaged_graph_is_named(tmp_path, key, value):
    source = damaged(tmp_path, lambda whole: whole["graphs"][1].update({key: value}))
    with pytest.raises(FolderError, match=rf"onnx/whole\.json: '{key}' of 'whole_document\.onnx' is unusable"):
        Wholes.read(source, "onnx")


@pytest.mark.parametrize("value", ["../whole.onnx", "/etc/passwd", "C:\\whole.onnx"])
@pytest.mark.parametrize("key", ["file", "tokenizer"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, key, value):
    source = damaged(tmp_path, lambda whole: whole["graphs"][0].update({key: value}))
    with pytest.raises(FolderError, match=r"onnx/whole\.json: path .* must be a relative path inside"):
        Wholes.read(source, "onnx")


def test_keys_of_a_later_version_are_left_out(tmp_path):
    source = damaged(tmp_path, lambda whole: [graph.update(later=1) for graph in whole["graphs"]])
    assert Wholes.read(source, "onnx") == ROUTED


@pytest.mark.parametrize(
    ("route", "file_name", "wanted"),
    [
        (None, None, DOCUMENT),
        ("query", None, QUERY),
        ("document", None, DOCUMENT),
        ("document", "whole_document_int8.onnx", SMALL),
        (None, "onnx/whole_document_int8.onnx", SMALL),
        ("query", "whole_query.onnx", QUERY),
    ],
)
def test_the_graph_of_a_route_and_a_file(route, file_name, wanted):
    assert ROUTED.routes == ["query", "document"]
    assert ROUTED.graph(route, file_name) == wanted


def test_routes_and_files_that_are_not_there():
    with pytest.raises(InputError, match="task must be one of query, document, got 'answer'"):
        ROUTED.graph("answer")
    with pytest.raises(InputError, match=r"whole_query\.onnx; got 'whole_document\.onnx'"):
        ROUTED.graph("query", "whole_document.onnx")
    with pytest.raises(InputError, match=r"Did you mean 'whole_document_int8\.onnx'"):
        ROUTED.graph("document", "onnx/whole_document_int.onnx")


def test_a_model_without_routes_takes_any():
    wholes = Wholes("SentenceTransformer", "onnx", [ONE])
    assert wholes.routes == []
    assert wholes.graph("query") == wholes.graph() == ONE


def test_without_a_default_the_first_route_is_taken():
    assert Wholes("SentenceTransformer", "onnx", [QUERY, DOCUMENT]).graph() == QUERY
