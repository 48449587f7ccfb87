"""Models of this machine load without the network: in a process of its own, where every socket is refused."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tests.support import COMMIT, TEXTS, hub_cache, load

from fourfold.testing import tiny_folder

PRELUDE = """
import socket, time
attempts = []

def refuse(*args, **kwargs):
    attempts.append(args)
    raise OSError("the network is down")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
start = time.monotonic()
"""


def run(code, **environment):
    """Run code where no socket opens and nothing says that the machine is offline; return what it prints as JSON."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    env |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONWARNINGS": "ignore", **environment}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


LOAD = """
import json
from fourfold import SentenceTransformer
loading = time.monotonic()
model = SentenceTransformer({name!r}, device="cpu", **{options!r})
print(json.dumps([list(model.encode(["a", "b"]).shape), len(attempts), time.monotonic() - loading]))
"""


@pytest.mark.parametrize("architecture", ["bert", "static"])
def test_a_local_folder_asks_nobody(tmp_path, architecture):
    shape, attempts, _ = run(
        LOAD.format(name=str(tiny_folder("dense", architecture)), options={}), HF_HOME=str(tmp_path)
    )
    assert shape == [2, 32]
    assert attempts == 0


@pytest.mark.parametrize(("architecture", "options"), [("bert", {}), ("static", {"revision": COMMIT})])
def test_a_cached_model_asks_nobody_if_told_so(tmp_path, architecture, options):
    cache = hub_cache(tmp_path, "sentence-transformers/tiny", tiny_folder("dense", architecture))
    code = LOAD.format(name="tiny", options={**options, "cache_folder": cache, "local_files_only": True})
    shape, attempts, _ = run(code, HF_HOME=str(tmp_path / "home"))
    assert shape == [2, 32]
    assert attempts == 0


@pytest.mark.parametrize(("architecture", "options"), [("bert", {}), ("bert", {"revision": COMMIT}), ("static", {})])
def test_a_cached_model_loads_at_once_when_the_network_is_away(tmp_path, architecture, options):
    cache = hub_cache(tmp_path, "sentence-transformers/tiny", tiny_folder("dense", architecture))
    code = LOAD.format(name="tiny", options={**options, "cache_folder": cache})
    shape, attempts, seconds = run(code, HF_HOME=str(tmp_path / "home"))
    assert shape == [2, 32]
    assert attempts <= 2, "more than one request"  # the hub client looks for something of its own before its first
    assert seconds < 60


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_asks_nobody(tmp_path, variable):
    cache = hub_cache(tmp_path, "sentence-transformers/tiny", tiny_folder("dense", "static"))
    code = LOAD.format(name="tiny", options={"cache_folder": cache})
    shape, attempts, _ = run(code, HF_HOME=str(tmp_path / "home"), **{variable: "1"})
    assert shape == [2, 32]
    assert attempts == 0


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "SENTENCE_TRANSFORMERS_HOME"])
def test_the_cache_is_where_the_environment_says(tmp_path, variable):
    cache = hub_cache(tmp_path, "sentence-transformers/tiny", tiny_folder("dense", "static"))
    code = LOAD.format(name="tiny", options={"local_files_only": True})
    shape, attempts, _ = run(code, **{variable: cache})
    assert shape == [2, 32]
    assert attempts == 0


def test_a_model_that_is_nowhere_is_an_error_of_the_system(tmp_path):
    code = """
    import json
    from fourfold import SentenceTransformer
    try:
        SentenceTransformer("somebody/some-model", device="cpu")
    except OSError as error:
        print(json.dumps([type(error).__name__, str(error)]))
    """
    _, message = run(code, HF_HOME=str(tmp_path))
    assert "somebody/some-model" in message


def test_the_encoder_without_torch_asks_nobody_either(tmp_path):
    code = """
    import json
    from fourfold import load
    print(json.dumps([list(load({name!r}).encode(["a"]).shape), len(attempts)]))
    """
    assert run(textwrap.dedent(code).format(name=str(tiny_folder("dense", "static")))) == [[1, 32], 0]


def test_a_model_from_the_cache_keeps_its_name(tmp_path):
    cache = hub_cache(tmp_path, "sentence-transformers/tiny", tiny_folder())
    model = load("tiny", cache_folder=cache, local_files_only=True)
    assert model.config._name_or_path == model.transformers_model.name_or_path == "sentence-transformers/tiny"
    assert model.tokenizer.name_or_path == "sentence-transformers/tiny"
    np.testing.assert_array_equal(model.encode(TEXTS), load(tiny_folder()).encode(TEXTS))
    model.save(tmp_path / "m")
    for file in (tmp_path / "m").rglob("*.json"):
        assert "snapshots" not in file.read_text(), file
