"""An index survives a kill at any moment, and two processes at once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from fourfold.errors import SearchIndexError
from fourfold.search import Index, update
from fourfold.search.lock import locked

RUN = """
import importlib.util, sys
from fourfold.search import Index, update, vectors
spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
# Many small commits, so that a kill meets every kind of moment.
update._COMMIT_SECONDS = 0.0
vectors._CHUNK = 16
index = Index.open(sys.argv[2], model=helpers.HashingEncoder())
print("ready", flush=True)
index.update()
"""


def start(conftest, root):
    command = [sys.executable, "-c", RUN, conftest, root]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fill(root, first, last):
    root.mkdir(exist_ok=True)
    for number in range(first, last):
        (root / f"f{number:03d}.txt").write_text("\n\n".join(f"file{number} part{i} iron" for i in range(4)))


def same_as_fresh(root, encoder, tmp_path):
    index = Index.open(root, model=encoder)
    index.update()
    fresh = Index(root, model=encoder, folder=tmp_path / "fresh")
    fresh.update()
    for mode in ("lexical", "hybrid"):
        assert index.search("iron file7 part2", top_k=500, mode=mode) == fresh.search(
            "iron file7 part2", top_k=500, mode=mode
        )
    assert not list(index.folder.glob("*.tmp"))
    assert not list(index.folder.glob("*.part"))


def test_killed_at_random_moments(tmp_path, encoder, request):
    conftest, root, chance = str(request.path.with_name("conftest.py")), tmp_path / "data", random.Random(5)
    for attempt in range(6):
        fill(root, attempt * 12, attempt * 12 + 12)
        process = start(conftest, str(root))
        with process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0, 0.25))
            process.kill()
        # Whatever was written, a reader can open it.
        index = Index.open(root, model=encoder)
        index.search("iron", mode="lexical")
    same_as_fresh(root, encoder, tmp_path)


def test_two_processes_at_once_lose_nothing(tmp_path, encoder, request):
    conftest, root = str(request.path.with_name("conftest.py")), tmp_path / "data"
    fill(root, 0, 40)
    processes = [start(conftest, str(root)) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    index = Index.open(root, model=encoder)
    assert not index.update()
    assert len({hit.path for hit in index.search("iron", top_k=500, mode="lexical")}) == 40
    same_as_fresh(root, encoder, tmp_path)


def test_two_threads_put_different_texts(tmp_path):
    def put(name):
        Index(tmp_path).put(name, [f"text of {name}"], vectors=False)

    threads = [threading.Thread(target=put, args=(f"name{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Index(tmp_path)) == 8


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")
def test_interrupt_leaves_a_usable_index_and_goes_on(tmp_path, encoder, monkeypatch):
    root = tmp_path / "data"
    fill(root, 0, 10)
    real, count = update.digest, iter(range(100))

    def digest(path):
        if next(count) == 5:
            signal.raise_signal(signal.SIGINT)
        return real(path)

    monkeypatch.setattr(update, "digest", digest)
    index = Index.open(root, model=encoder)
    with pytest.raises(KeyboardInterrupt):
        index.update()
    again = Index.open(root, model=encoder)
    assert len({hit.path for hit in again.search("iron", top_k=99, mode="lexical")}) == 5
    assert again.update().added == 5
    same_as_fresh(root, encoder, tmp_path)


def test_waiting_for_another_writer(tmp_path, encoder):
    fill(tmp_path / "data", 0, 1)
    index = Index(tmp_path / "data", model=encoder, timeout=0.1)
    told = []
    index.waiting = lambda: told.append(1)
    index.folder.mkdir()
    with locked(index.folder, 1), pytest.raises(SearchIndexError, match="another process has been writing"):
        index.update()
    assert told == [1]
    assert index.update().added == 1
