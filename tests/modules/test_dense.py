import json
import logging

import pytest
import torch
from torch import nn

from fourfold.errors import FolderError, WeightsError
from fourfold.modules import Dense


def run(dense, vectors):
    return dense({"sentence_embedding": vectors})["sentence_embedding"]


VECTORS = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU(), nn.Identity(), None])
@pytest.mark.parametrize("bias", [True, False])
def test_the_formula(activation, bias):
    dense = Dense(8, 4, bias=bias, activation_function=activation)
    want = VECTORS @ dense.linear.weight.T + (dense.linear.bias if bias else 0)
    assert torch.allclose(run(dense, VECTORS), want if activation is None else activation(want), atol=1e-6)
    assert dense.get_embedding_dimension() == 4


def test_tanh_is_the_default():
    assert isinstance(Dense(8, 4).activation_function, nn.Tanh)


@pytest.mark.parametrize("width", [8, 4])
def test_a_residual(width):
    dense = Dense(8, width, use_residual=True)
    plain = torch.tanh(dense.linear(VECTORS))
    added = VECTORS if width == 8 else VECTORS @ dense.residual.weight.T
    assert torch.allclose(run(dense, VECTORS), plain + added, atol=1e-6)
    assert ("residual.weight" in dense.state_dict()) is (width == 4)
    assert "residual.bias" not in dense.state_dict()


@pytest.mark.parametrize(("residual", "width"), [(False, 4), (True, 4), (True, 8)])
def test_save_and_load(tmp_path, residual, width):
    dense = Dense(8, width, activation_function=nn.GELU(), use_residual=residual, module_output_name="other")
    dense.save(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["activation_function"] == "torch.nn.modules.activation.GELU"
    assert config.get("use_residual", False) is residual
    again = Dense.load(str(tmp_path))
    got, want = (module({"sentence_embedding": VECTORS})["other"] for module in (again, dense))
    assert torch.equal(got, want)


def test_first_values_can_be_given():
    weight, bias = torch.ones(4, 8), torch.arange(4.0)
    dense = Dense(8, 4, activation_function=None, init_weight=weight, init_bias=bias)
    assert torch.equal(run(dense, torch.zeros(1, 8))[0], bias)
    assert dense.linear.weight.requires_grad


def folder(tmp_path, **changes):
    Dense(8, 4).save(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    return str(tmp_path)


def test_an_older_folder_has_no_names(tmp_path):
    path = folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if not k.startswith("module_")}))
    dense = Dense.load(path)
    assert dense.module_input_name == dense.module_output_name == "sentence_embedding"


@pytest.mark.parametrize(
    "path", ["torch.nn.functional.relu", "torch.nope.Nope", "torch.nn.Nope", "torch.Tensor", "torch."]
)
def test_a_torch_path_must_name_a_module(tmp_path, path):
    with pytest.raises(FolderError, match=r"config\.json: activation_function '.*' names no torch\.nn\.Module"):
        Dense.load(folder(tmp_path, activation_function=path))


def test_code_outside_torch_is_not_imported_without_trust(tmp_path, monkeypatch, caplog):
    (tmp_path / "evil_activation.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with caplog.at_level(logging.WARNING):
        dense = Dense.load(folder(tmp_path, activation_function="evil_activation.X"))
    assert isinstance(dense.activation_function, nn.Tanh)
    assert "evil_activation.X" in caplog.text


def test_code_outside_torch_runs_with_trust(tmp_path, monkeypatch):
    code = "from torch import nn\nclass Half(nn.Module):\n    def forward(self, x):\n        return x / 2\n"
    (tmp_path / "my_activation.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    dense = Dense.load(folder(tmp_path, activation_function="my_activation.Half"), trust_remote_code=True)
    assert type(dense.activation_function).__name__ == "Half"


def test_weights_of_another_shape_name_file_and_key(tmp_path):
    with pytest.raises(
        WeightsError, match=r"'linear\.weight' has shape \(4, 8\), config\.json asks for \(5, 8\)"
    ) as caught:
        Dense.load(folder(tmp_path, out_features=5))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("value", ["8", None, -3, 2.5])
def test_widths_that_are_no_numbers_are_folder_errors(tmp_path, value):
    with pytest.raises(FolderError, match=r"config\.json"):
        Dense.load(folder(tmp_path, in_features=value))
