"""``fourfold export`` and ``fourfold tune``: from a folder to a graph that runs, and to the one that runs fastest."""

import json

import numpy as np
import pytest

import fourfold
from fourfold.cli.main import main
from fourfold.errors import InputError
from fourfold.exporting import tune as tuning
from fourfold.store import choices
from fourfold.store.source import Source
from fourfold.testing import tiny, tiny_folder

TEXTS = ["a query", "the text of a short document", "world"]


@pytest.fixture(scope="module")
def model():
    return str(tiny_folder("dense", "static"))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_folder_becomes_a_whole_graph_that_runs(model, tmp_path, capsys):
    assert main(["export", model, str(tmp_path / "made"), "--format", "openvino", "--whole"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'made'}\n"
    encoder = fourfold.load(tmp_path / "made", backend="openvino")
    assert np.allclose(encoder.encode(TEXTS), tiny("dense", "static").encode(TEXTS), atol=1e-6)
    assert json.loads((tmp_path / "made" / "openvino" / "whole.json").read_text())["graphs"][0]["width"] == 32


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--int8", "--float16"], "exclude each other"),
        (["--calibrate", "texts.txt"], "give both"),
        ([], "export it with whole=True"),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_written(model, tmp_path, capsys, more, said):
    assert main(["export", model, str(tmp_path / "made"), *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.fixture
def two_ways(monkeypatch):
    """Only two of the ways are tried, for each starts a process."""
    found = [one for one in tuning.candidates(Source(str(tiny_folder()))) if (one.backend, one.precision) in
             (("torch", "float32"), ("onnx", "float32"))]  # fmt: skip
    monkeypatch.setattr(tuning, "candidates", lambda source: found)


@pytest.mark.usefixtures("own_cache", "two_ways")
def test_what_is_fastest_is_remembered_and_taken(model, tmp_path, capsys, monkeypatch):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    assert main(["tune", model, "--texts", str(tmp_path / "texts.txt"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [trial["candidate"]["backend"] for trial in said["trials"]] == ["torch", "onnx"]
    for trial in said["trials"]:
        assert not trial["failed"]
        assert trial["least"] == pytest.approx(1, abs=1e-5)
        assert trial["speed"] > 0
    fastest = max(said["trials"], key=lambda trial: trial["speed"])
    assert said["choice"]["backend"] == fastest["candidate"]["backend"]
    encoder = fourfold.load(model)
    assert encoder.backend == said["choice"]["backend"]
    assert encoder.name == model
    assert encoder.fingerprint == fourfold.load(model, backend="static").fingerprint
    assert fourfold.load(model, backend="static").backend == "static"


@pytest.mark.usefixtures("own_cache")
def test_a_choice_of_graphs_is_taken_until_they_are_gone(model, tmp_path):
    fourfold.export(tiny("dense", "static"), tmp_path / "graphs", "onnx", whole=True)
    choice = choices.Choice("onnx", str(tmp_path / "graphs"), {"model_kwargs": {"best_tokens": 64}})
    choices.remember(Source(model), choice)
    assert choices.recall(Source(model)) == choice
    encoder = fourfold.load(model)
    assert (encoder.backend, encoder.name) == ("onnx", model)
    assert np.allclose(encoder.encode(TEXTS), tiny("dense", "static").encode(TEXTS), atol=1e-6)
    (tmp_path / "graphs").rename(tmp_path / "moved")
    assert fourfold.load(model).backend == "static"


def test_a_static_model_is_tried_on_numpy_too(model):
    assert "static" in [one.backend for one in tuning.candidates(Source(model))]
    assert "static" not in [one.backend for one in tuning.candidates(Source(str(tiny_folder())))]


@pytest.mark.usefixtures("own_cache")
def test_another_content_has_another_choice(tmp_path):
    folder = tmp_path / "model"
    tiny("dense", "static").save(folder)
    choices.remember(Source(str(folder)), choices.Choice("torch"))
    assert choices.recall(Source(str(folder))) == choices.Choice("torch")
    tiny("dense", "static", seed=1).save(folder)
    assert choices.recall(Source(str(folder))) is None


@pytest.mark.usefixtures("own_cache", "two_ways")
def test_a_way_that_fails_is_named_and_not_taken(model, monkeypatch, capsys):
    def failing(*arguments, **options):
        raise InputError("no such operator")

    monkeypatch.setattr(tuning, "export", failing)
    assert main(["tune", model]) == 0
    said = capsys.readouterr().out
    assert "cannot: no such operator" in said
    assert "runs on torch from now on" in said


def test_agreement_must_be_a_share(model, capsys):
    assert main(["tune", model, "--least", "2"]) == 2
    assert "--least must be from 0 to 1" in capsys.readouterr().err
