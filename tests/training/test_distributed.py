"""Trainings by two real processes over gloo, beside the older library's two."""

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fourfold.testing import tiny, tiny_folder
from fourfold.training import _distributed

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("distributed_run.py")
TIMEOUT = 240
CASES = {
    "gathered": ("MultipleNegativesRankingLoss", {"loss_options": {"gather_across_devices": True}}),
    "cached": ("CachedMultipleNegativesRankingLoss", {"loss_options": {"mini_batch_size": 3}, "matryoshka": True}),
    "accumulated": ("CoSENTLoss", {"arguments": {"gradient_accumulation_steps": 2}}),
}  # fmt: skip
# What the older library cannot do: an evaluation before the training, and weights that FSDP shares out.
EVALUATED = {"evaluated": (CASES["gathered"][0], {**CASES["gathered"][1], "evaluated": True})}
SHARED_OUT = ["gathered", "cached"] if os.environ.get("FOURFOLD_THOROUGH") else ["gathered"]
SHARDED = {f"sharded {name}": (CASES[name][0], {**CASES[name][1], "sharded": True}) for name in SHARED_OUT}


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def run(folder, library, cases, processes=2):
    """Return what each process found in each case."""
    folder.mkdir(parents=True)
    port = free_port()
    started = []
    for rank in range(processes):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_PORT": port}
        environment = {
            **os.environ,
            **place,
            "MASTER_ADDR": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
            "ACCELERATE_USE_CPU": "1",
        }
        command = [sys.executable, SCRIPT, library, tiny_folder("dense", "bert"), folder, json.dumps(cases)]
        with (folder / f"log{rank}.txt").open("w") as log:
            started.append(subprocess.Popen(
                list(map(str, command)), cwd=ROOT, env=environment, stdout=log, stderr=log
            ))  # fmt: skip
    try:
        codes = [process.wait(timeout=TIMEOUT) for process in started]
    finally:
        for process in started:
            process.kill()
    assert codes == [0] * processes, (folder / "log0.txt").read_text()[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return run(tmp_path_factory.mktemp("two") / "ours", "ours", CASES | EVALUATED | SHARDED)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    pytest.importorskip("sentence_transformers")
    return run(tmp_path_factory.mktemp("two") / "theirs", "theirs", CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_older_library_has_the_same_losses(ours, theirs, name):
    for key in ("losses", "scores"):
        assert ours[0][name][key] == pytest.approx(theirs[0][name][key], abs=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_both_processes_have_the_same_model(ours, name):
    first, second = (process[name] for process in ours)
    assert first["weights"] == second["weights"]
    assert first["scores"] == second["scores"]


@pytest.mark.parametrize("name", CASES)
def test_encoding_by_both_is_encoding_by_one(ours, name):
    assert ours[0][name]["scores"][-1] == pytest.approx(ours[1][name]["alone"], abs=1e-5)


def test_an_evaluation_before_the_training_leaves_processes_together(ours):
    assert ours[0]["evaluated"]["weights"] == ours[1]["evaluated"]["weights"]
    assert ours[0]["evaluated"]["losses"] == ours[0]["gathered"]["losses"]


@pytest.mark.parametrize("name", SHARED_OUT)
def test_weights_that_are_shared_out_train_the_same(ours, name):
    for plain, sharded in ((process[name], process[f"sharded {name}"]) for process in ours):
        assert sharded["losses"] == pytest.approx(plain["losses"], abs=1e-5)
        # The first score is from before the training.
        assert sharded["scores"][1:] == pytest.approx(plain["scores"], abs=1e-5)
        assert sharded["resumed"] == pytest.approx(plain["losses"], abs=1e-5)


@pytest.mark.parametrize("name", SHARED_OUT)
def test_weights_that_are_shared_out_are_saved_whole(ours, name):
    for plain, sharded in ((process[name], process[f"sharded {name}"]) for process in ours):
        second, last = sharded["folders"]
        assert last == pytest.approx(plain["weights"], rel=1e-6)
        # What is left in the end is the best of the two checkpoints.
        best = second if sharded["scores"][1] > sharded["scores"][2] else last
        assert sharded["weights"] == pytest.approx(best, rel=1e-6)
        assert second != last
        assert sharded["final"] in (pytest.approx(second, rel=1e-6), pytest.approx(last, rel=1e-6))


def test_gathered_rows(ours, theirs):
    for rank in range(2):
        assert ours[rank]["rows"] == theirs[rank]["rows"]


def test_what_is_shared_among_processes(monkeypatch):
    monkeypatch.setattr(_distributed, "get_world_size", lambda: 2)
    model, pairs = tiny("dense"), tiny("cross")
    assert [pickle.loads(part) for part in _distributed._parts(model, ["a", "b", "c"])] == [["a", "b"], ["c"]]
    assert [len(pickle.loads(part)) for part in _distributed._parts(model, np.array(["a", "b", "c"]))] == [2, 1]
    for alone in ("a text", ["a"], ("a", "b"), [lambda: 1, lambda: 2], [{"role": "user", "content": "x"}] * 2):
        assert _distributed._parts(model, alone) is None
    assert _distributed._parts(pairs, ["a question", "its answer"]) is None
    assert len(_distributed._parts(pairs, [["a", "b"], ["c", "d"]])) == 2
