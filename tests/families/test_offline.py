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
import json, sys
from fourfold import SentenceTransformer

found = []
for name, options in json.loads({cases!r}):
    attempts.clear()
    loading = time.monotonic()
    try:
        model = SentenceTransformer(name, device="cpu", **options)
        found.append([list(model.encode(["a", "b"]).shape), len(attempts), time.monotonic() - loading])
    except OSError as error:
        found.append(str(error))
print(json.dumps(found))
"""


def loaded(cases, **environment):
    """Return the shape of two vectors, the number of requests and the seconds of each load, or its error."""
    return run(LOAD.format(cases=json.dumps(cases)), **environment)


# Models of a cache, by whether nobody may be asked.
CACHED = {
    True: [("bert", {}), ("static", {"revision": COMMIT})],
    False: [("bert", {}), ("bert", {"revision": COMMIT}), ("static", {})],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What one process makes of all models that need nothing of its environment."""
    home = tmp_path_factory.mktemp("offline")
    cases = {("folder", name): (str(tiny_folder("dense", name)), {}) for name in ("bert", "static")}
    for only in (True, False):
        for place, (name, options) in enumerate(CACHED[only]):
            cache = hub_cache(home / f"{only}-{place}", "sentence-transformers/tiny", tiny_folder("dense", name))
            cases[only, place] = ("tiny", {**options, "cache_folder": str(cache), "local_files_only": only})
    cases["nowhere"] = ("somebody/some-model", {})
    found = loaded(list(cases.values()), HF_HOME=str(home / "home"))
    return dict(zip(cases, found, strict=True))


@pytest.mark.parametrize("architecture", ["bert", "static"])
def test_a_local_folder_asks_nobody(results, architecture):
    shape, attempts, _ = results["folder", architecture]
    assert shape == [2, 32]
    assert attempts == 0


@pytest.mark.parametrize("place", range(2))
def test_a_cached_model_asks_nobody_if_told_so(results, place):
    shape, attempts, _ = results[True, place]
    assert shape == [2, 32]
    assert attempts == 0


@pytest.mark.parametrize("place", range(3))
def test_a_cached_model_loads_at_once_when_the_network_is_away(results, place):
    shape, attempts, seconds = results[False, place]
    assert shape == [2, 32]
    assert attempts <= 2, "more than one request"  # the hub client looks for something of its own before its first
    assert seconds < 60


def test_a_model_that_is_nowhere_is_an_error_of_the_system(results):
    assert "somebody/some-model" in results["nowhere"]


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_asks_nobody(tmp_path, variable):
    cache = hub_cache(tmp_path, "sentence-transformers/tiny", tiny_folder("dense", "static"))
    cases = [("tiny", {"cache_folder": str(cache)})]
    ((shape, attempts, _),) = loaded(cases, HF_HOME=str(tmp_path / "home"), **{variable: "1"})
    assert shape == [2, 32]
    assert attempts == 0


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "SENTENCE_TRANSFORMERS_HOME"])
def test_the_cache_is_where_the_environment_says(tmp_path, variable):
    cache = hub_cache(tmp_path, "sentence-transformers/tiny", tiny_folder("dense", "static"))
    ((shape, attempts, _),) = loaded([("tiny", {"local_files_only": True})], **{variable: str(cache)})
    assert shape == [2, 32]
    assert attempts == 0


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
