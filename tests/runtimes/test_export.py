"""A module of torch becomes a file of either runtime: whole, with its weights beside it, or not at all."""

import logging

import numpy as np
import onnx
import pytest
import torch
from tests.tolerances import FORMULA_LARGE
from torch import nn

from fourfold.errors import InputError, MissingExtraError
from fourfold.runtimes import KINDS, export, open_graph


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.layer = nn.Linear(8, 4)

    def forward(self, input_ids, scale):
        hidden = self.layer(self.table(input_ids)) * scale
        return hidden, hidden.sum(1)


FEEDS = {"input_ids": torch.arange(6).reshape(2, 3), "scale": torch.tensor(2)}
OUTPUTS = ["hidden", "sums"]


@pytest.fixture(scope="module")
def layer():
    torch.manual_seed(0)
    return Layer().eval()


@pytest.fixture(scope="module")
def files(layer, tmp_path_factory):
    """The same module as a file of each runtime; the ONNX file's weights count as too large for it."""
    root = tmp_path_factory.mktemp("files")
    export.export("openvino", layer, FEEDS, OUTPUTS, root / "openvino" / "openvino_model.xml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "LARGEST", 100)
        export.export("onnx", layer, FEEDS, OUTPUTS, root / "onnx" / "model.onnx")
    return root


def check(path, layer):
    ids, scale = torch.arange(20).reshape(4, 5), torch.tensor(3)
    kind = "onnx" if path.suffix == ".onnx" else "openvino"
    graph = open_graph(kind, path, "the graph", {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}})
    assert graph.inputs == {"input_ids": (None, None), "scale": ()}
    found = graph.run({"input_ids": ids.numpy(), "scale": scale.numpy()})
    with torch.inference_mode():
        for name, wanted in zip(OUTPUTS, layer(ids, scale), strict=True):
            np.testing.assert_allclose(found[name], wanted, atol=FORMULA_LARGE)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_tokens_may_be_of_any_number(files, layer, kind):
    check(files / kind / KINDS[kind].file, layer)


def test_what_lies_beside_the_files(files):
    assert {path.name for path in (files / "openvino").iterdir()} == {"openvino_model.xml", "openvino_model.bin"}
    assert {path.name for path in (files / "onnx").iterdir()} == {"model.onnx", "model.onnx_data"}
    tensors = onnx.load(files / "onnx" / "model.onnx", load_external_data=False).graph.initializer
    assert onnx.TensorProto.EXTERNAL in {tensor.data_location for tensor in tensors}
    assert export.is_large(files / "onnx" / "model.onnx") is False


def test_a_converted_file_keeps_its_precision(files, layer, tmp_path):
    export.convert(files / "onnx" / "model.onnx", tmp_path / "made" / "openvino_model.xml")
    check(tmp_path / "made" / "openvino_model.xml", layer)
    assert 'element_type="f16"' not in (tmp_path / "made" / "openvino_model.xml").read_text()


class Branch(nn.Module):
    def forward(self, input_ids):
        return input_ids if int(input_ids.sum()) > 3 else -input_ids


def test_what_cannot_be_traced_says_why_and_writes_nothing(tmp_path):
    before = {name: logging.getLogger(name).level for name in export._TALKATIVE}
    with pytest.raises(InputError, match="the model cannot be exported: "):
        export.export("openvino", Branch(), {"input_ids": FEEDS["input_ids"]}, ["ids"], tmp_path / "model.xml")
    assert list(tmp_path.iterdir()) == []
    assert {name: logging.getLogger(name).level for name in export._TALKATIVE} == before


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [("onnx", "onnx", "onnx"), ("onnx", "onnxscript", "onnx"), ("openvino", "openvino", "openvino"),
     ("openvino", "onnx", "onnx")],
)  # fmt: skip
def test_packages_that_are_missing(layer, tmp_path, monkeypatch, kind, package, extra):
    monkeypatch.setattr("fourfold.errors.installed", lambda name: name != package)
    with pytest.raises(MissingExtraError, match=rf'{package}\. Install it with: pip install "fourfold\[{extra}\]"'):
        export.export(kind, layer, FEEDS, OUTPUTS, tmp_path / "model.x")
