import json

import pytest
import torch

from fourfold.backends import tuning
from fourfold.testing import tiny


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def measured(monkeypatch, seconds):
    calls = []

    def measure(model, device):
        calls.append(model)
        return seconds

    monkeypatch.setattr(tuning, "_measure", measure)
    return calls


def test_the_clear_winner_is_taken_and_remembered(monkeypatch):
    calls = measured(monkeypatch, {torch.float32: 1.0, torch.bfloat16: 0.5})
    model = tiny()
    assert tuning.fastest_dtype(model) == torch.bfloat16
    assert tuning.fastest_dtype(model) == torch.bfloat16
    assert len(calls) == 1
    assert list(json.loads(tuning.cache_file().read_text()).values()) == ["bfloat16"]


@pytest.mark.parametrize("other", [0.95, 1.0, 3.0])
def test_float32_stays_unless_another_type_clearly_wins(monkeypatch, other):
    measured(monkeypatch, {torch.float32: 1.0, torch.bfloat16: other})
    assert tuning.fastest_dtype(tiny()) == torch.float32


@pytest.mark.parametrize("damage", ["{", "[1]", '{"key": "int3"}'])
def test_a_damaged_memory_is_measured_anew(monkeypatch, damage):
    calls = measured(monkeypatch, {torch.float32: 1.0, torch.bfloat16: 0.5})
    tuning.cache_file().parent.mkdir(parents=True)
    tuning.cache_file().write_text(damage)
    assert tuning.fastest_dtype(tiny()) == torch.bfloat16
    assert len(calls) == 1


def test_another_architecture_is_another_question(monkeypatch):
    calls = measured(monkeypatch, {torch.float32: 1.0, torch.bfloat16: 0.5})
    tuning.fastest_dtype(tiny("dense", "bert"))
    tuning.fastest_dtype(tiny("dense", "qwen3"))
    assert len(calls) == 2


def test_a_home_that_cannot_be_written_only_means_no_memory(monkeypatch, home):
    (home / "fourfold").write_text("a file where the folder should be")
    measured(monkeypatch, {torch.float32: 1.0, torch.bfloat16: 0.5})
    assert tuning.fastest_dtype(tiny()) == torch.bfloat16


@pytest.mark.parametrize("architecture", ["bert", "gemma3", "mpnet", "t5"])
def test_the_trial_runs_every_candidate_on_a_model_of_two_layers(architecture):
    seconds = tuning._measure(
        tuning._proxy(tiny("dense", architecture).transformers_model, torch.device("cpu")), torch.device("cpu")
    )
    assert set(seconds) == {torch.float32, torch.bfloat16}
    assert all(value > 0 for value in seconds.values())


def test_a_model_without_a_transformer_keeps_its_type():
    assert tuning.fastest_dtype(tiny("dense", "static")) == torch.float32


def test_the_constructor_casts_the_model(monkeypatch):
    from fourfold import SentenceTransformer
    from fourfold.testing import tiny_folder

    measured(monkeypatch, {torch.float32: 1.0, torch.bfloat16: 0.5})
    assert SentenceTransformer(str(tiny_folder()), device="cpu", dtype="fastest").dtype == torch.bfloat16
