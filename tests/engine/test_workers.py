"""Processes that run packed plans: order, errors, deaths, and what is left behind. The models here are small functions,
so that a process starts in a fraction of a second."""

import contextlib
import gc
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourfold.containers import Items
from fourfold.engine import plan as planning
from fourfold.engine import run as running
from fourfold.engine.collect import ListSink, RowSink, numpy_rows
from fourfold.engine.plan import Budget
from fourfold.engine.run import LocalRunner, run, stream
from fourfold.engine.shared import SharedArray, SharedRowSink
from fourfold.engine.workers import PoolRunner, WorkerPool
from fourfold.errors import InputError, WorkerError

ROOT = Path(__file__).parents[2]


class Fake:
    """Turns a number into ``[number, process, where it lies]``; some numbers do harm."""

    packed = True
    best_tokens = 64

    def prepare(self, items):
        return Items(list(items), np.array([abs(hash(item)) % 17 + 1 for item in items], dtype=np.int64))

    def run(self, batch):
        for value in batch.values:
            if isinstance(value, Harm):
                value.strike()
        return np.array([[float(value), os.getpid()] for value in batch.values])

    def out_of_memory(self, error):
        return isinstance(error, MemoryError)


class Harm(int):
    """A number that does something when it is run."""

    def __new__(cls, value, kind, path=""):
        made = super().__new__(cls, value)
        made.kind, made.path = kind, path
        return made

    def __reduce__(self):
        return Harm, (int(self), self.kind, self.path)

    def strike(self):
        if self.kind == "value":
            raise ValueError(f"number {int(self)} is bad")
        if self.kind == "own":
            raise OwnError(3, where="here")
        if self.kind == "unsendable":
            raise UnsendableError(threading.Lock())
        if self.kind == "slow":
            time.sleep(0.3)
        if self.kind == "very slow":
            time.sleep(60)
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "exit":
            os._exit(3)
        if self.kind == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.kind == "kill once":
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)


class OwnError(Exception):
    """Pickles, but cannot be made again: its arguments are not those of its constructor."""

    def __init__(self, number, *, where):
        super().__init__(f"{number} {where}")


class UnsendableError(Exception):
    pass


class UnpicklableOverThere:
    def __init__(self):
        raise ImportError("no such module over there")

    def __reduce__(self):
        return UnpicklableOverThere, ()


def work(model, budget=Budget(64)):  # noqa: B008 - frozen
    return LocalRunner(model, budget)


def work_of_objects(model):
    return LocalRunner(model, Budget(64), lambda output, batch: [f"{row[0]:.0f}" for row in output])


def work_that_fails(model):
    raise LookupError("this call cannot begin")


def work_with_little_memory(model):
    class Small(Fake):
        def run(self, batch):
            if len(batch) > 2:
                raise MemoryError
            return super().run(batch)

    return LocalRunner(Small(), Budget(1000))


def nothing(model):
    pass


def broken_setup(model):
    raise OSError("this device is not there")


def slow_setup(model):
    time.sleep(1.5)


def die(model):
    os._exit(7)


@pytest.fixture(scope="module")
def pool():
    made = WorkerPool(Fake(), [nothing, nothing])
    yield made
    made.stop()


@pytest.fixture
def own_pool(request):
    """A pool that a test may hurt."""
    made = WorkerPool(Fake(), [nothing] * getattr(request, "param", 2))
    yield made
    made.stop()


def encode(items, pool, job=work, chunk_size=None, budget=Budget(64), sink=None):  # noqa: B008
    sink = SharedRowSink(len(items)) if sink is None else sink
    run(items, Fake(), sink, PoolRunner(pool, job, budget, chunk_size))
    return sink


def rows(items, pool, **options):
    return encode(items, pool, **options).result()


def numbers(count):
    return np.random.default_rng(0).permutation(count).tolist()


# -- results -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 9, 100, 3000])
def test_rows_come_back_in_the_order_of_the_input(pool, count):
    items = numbers(count)
    got = rows(items, pool)
    np.testing.assert_array_equal(got[:, 0], items)
    assert os.getpid() not in got[:, 1]


@settings(max_examples=25)
@given(
    items=st.lists(st.integers(0, 10**6), min_size=1, max_size=200),
    chunk_size=st.none() | st.integers(1, 50),
    tokens=st.integers(1, 500),
    padded=st.booleans(),
)
def test_any_plan_gives_every_row_once(pool, items, chunk_size, tokens, padded):
    got = rows(items, pool, chunk_size=chunk_size, budget=Budget(tokens, padded=padded))
    np.testing.assert_array_equal(got[:, 0], items)


def test_all_workers_get_a_part_of_few_inputs(pool):
    rows(numbers(10), pool)  # both have started
    got = rows([Harm(i, "slow") for i in range(4)], pool)
    assert len(set(got[:, 1])) == 2


def test_many_windows(pool, monkeypatch):
    monkeypatch.setattr(running, "windows", lambda count: planning.windows(count, 8, 32))
    np.testing.assert_array_equal(rows(numbers(500), pool)[:, 0], numbers(500))


def test_chunk_size_bounds_what_a_worker_is_handed(pool, monkeypatch):
    seen = []
    send = type(pool.workers[0]).send

    def spy(self, message):
        seen.append(len(getattr(message, "rows", [])))
        return send(self, message)

    monkeypatch.setattr(type(pool.workers[0]), "send", spy)
    rows(numbers(100), pool, chunk_size=3)
    assert max(seen) == 3
    assert sum(seen) == 100


def test_objects_come_back_by_the_pipe(pool):
    items = numbers(100)
    assert encode(items, pool, work_of_objects, sink=ListSink(100)).items == [str(i) for i in items]


def test_large_messages_in_both_directions_do_not_block(pool):
    items = ["9" * 300_000 for _ in range(20)]
    got = encode(items, pool, work_that_echoes, sink=ListSink(20)).items
    assert got == items


class Echo(Fake):
    def run(self, batch):
        return list(batch.values)


def work_that_echoes(model):
    return LocalRunner(Echo(), Budget(2**62, rows=1))


def test_a_worker_halves_batches_that_do_not_fit(pool):
    np.testing.assert_array_equal(rows(numbers(50), pool, job=work_with_little_memory)[:, 0], numbers(50))


def test_streams_come_in_order(pool):
    items = numbers(300)
    runner = PoolRunner(pool, work, Budget(64))
    parts = stream(iter(items), Fake(), runner, lambda count: RowSink(count, numpy_rows), window=16)
    np.testing.assert_array_equal(np.concatenate([part.result() for part in parts])[:, 0], items)


def test_a_stream_reads_no_further_than_two_windows_ahead(pool):
    read = []

    def source():
        for i in range(1000):
            read.append(i)
            yield i

    runner = PoolRunner(pool, work, Budget(64))
    parts = stream(source(), Fake(), runner, lambda count: RowSink(count, numpy_rows), window=10)
    for i in range(1, 30):
        next(parts)
        assert len(read) <= (i + 3) * 10
    parts.close()


def test_a_stream_left_open_is_named_where_it_blocks_its_own_thread(pool):
    parts = stream(range(100), Fake(), PoolRunner(pool, work, Budget(64)), lambda n: RowSink(n, numpy_rows), window=10)
    next(parts)
    with pytest.raises(InputError, match="busy with a stream"):
        rows([1, 2], pool)
    parts.close()
    assert len(rows([1, 2], pool)) == 2


def test_threads_take_turns(pool):
    results = {}

    def one(i):
        results[i] = rows(list(range(i, i + 50)), pool)[:, 0]

    threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i in range(4):
        np.testing.assert_array_equal(results[i], range(i, i + 50))


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 50, 99])
def test_an_exception_has_its_own_type_and_the_pool_survives(pool, at):
    items: list = list(range(100))
    items[at] = Harm(at, "value")
    with pytest.raises(ValueError, match=f"number {at} is bad") as caught:
        rows(items, pool)
    assert "in strike" in str(caught.value.__cause__)  # the worker's traceback
    np.testing.assert_array_equal(rows(range(100), pool)[:, 0], range(100))


@pytest.mark.parametrize(("kind", "name"), [("own", "OwnError"), ("unsendable", "UnsendableError")])
def test_an_exception_that_cannot_be_sent_is_a_runtime_error_with_its_traceback(pool, kind, name):
    with pytest.raises(RuntimeError, match=f"(?s)cannot be sent.*Traceback.*{name}"):
        rows([Harm(0, kind)], pool)
    assert len(rows([1], pool)) == 1


def test_a_call_that_cannot_begin_is_an_error(pool):
    with pytest.raises(LookupError, match="cannot begin"):
        rows([1], pool, job=work_that_fails)
    assert len(rows([1], pool)) == 1


def test_inputs_that_cannot_be_unpickled_over_there(pool):
    with pytest.raises(ImportError, match="over there"):
        rows([object.__new__(UnpicklableOverThere)], pool)
    assert len(rows([1], pool)) == 1


def test_inputs_that_cannot_be_pickled_here(pool):
    with pytest.raises(TypeError, match="pickle"):
        rows([threading.Lock()], pool)
    assert len(rows([1], pool)) == 1
    assert len(pool["processes"]) == 2


def test_a_device_that_is_not_there():
    with contextlib.closing(closing(WorkerPool(Fake(), [broken_setup]))) as made:
        with pytest.raises(OSError, match="this device is not there"):
            rows([1], made.pool)
        with pytest.raises(WorkerError, match="no living worker"):
            rows([1], made.pool)


class closing:
    def __init__(self, pool):
        self.pool, self.close = pool, pool.stop


def test_an_interrupt_leaves_the_pool_usable(pool):
    class Interrupted(SharedRowSink):
        def put(self, *args):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(numbers(1000), pool, sink=Interrupted(1000))
    np.testing.assert_array_equal(rows(numbers(1000), pool)[:, 0], numbers(1000))
    assert len(pool["processes"]) == 2


# -- deaths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, 2000])
def test_the_work_of_a_killed_worker_is_done_by_another(own_pool, tmp_path, caplog, count):
    items: list = numbers(count)
    items[3] = Harm(items[3], "kill once", str(tmp_path / "struck"))
    pids = [process.pid for process in own_pool["processes"]]
    with caplog.at_level(logging.WARNING):
        got = rows(items, own_pool)
    np.testing.assert_array_equal(got[:, 0], items)
    (warning,) = [record.getMessage() for record in caplog.records]
    (dead,) = [pid for pid in pids if f"worker {pid} (exit code -9, SIGKILL) died" in warning]
    assert [process.pid for process in own_pool["processes"]] == [pid for pid in pids if pid != dead]
    np.testing.assert_array_equal(rows(items[4:], own_pool)[:, 0], items[4:])


def test_a_worker_killed_from_outside_while_it_runs(own_pool, caplog):
    items = [Harm(i, "slow") for i in range(8)]
    rows([1, 2], own_pool)
    victim = own_pool["processes"][0].pid
    threading.Timer(0.4, os.kill, (victim, signal.SIGKILL)).start()
    with caplog.at_level(logging.WARNING):
        got = rows(items, own_pool, chunk_size=1)
    np.testing.assert_array_equal(got[:, 0], items)
    assert str(victim) in caplog.text


def test_a_worker_killed_between_calls(own_pool, caplog):
    rows([1, 2], own_pool)
    victim = own_pool["processes"][0]
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(rows(numbers(100), own_pool)[:, 0], numbers(100))
    assert str(victim.pid) in caplog.text


@pytest.mark.parametrize("own_pool", [3], indirect=True)
@pytest.mark.parametrize(("kind", "code"), [("kill", "-9, SIGKILL"), ("segfault", "-11, SIGSEGV"), ("exit", "3")])
def test_a_batch_that_ends_two_workers_is_an_error(own_pool, kind, code):
    pids = [process.pid for process in own_pool["processes"]]
    with pytest.raises(RuntimeError, match=rf"ended two workers, \d+ \(exit code {code}\) and \d+") as caught:
        rows([*range(50), Harm(7, kind)], own_pool)
    assert sum(str(pid) in str(caught.value) for pid in pids) == 2
    assert len(own_pool["processes"]) == 1
    np.testing.assert_array_equal(rows(numbers(50), own_pool)[:, 0], numbers(50))


@pytest.mark.parametrize("own_pool", [1], indirect=True)
def test_no_worker_left_is_an_error(own_pool):
    pid = own_pool["processes"][0].pid
    for _ in range(2):
        with pytest.raises(RuntimeError, match=rf"no living worker; the last, {pid} \(exit code -9, SIGKILL\), died"):
            rows([1, Harm(2, "kill")], own_pool)


def test_workers_that_die_while_they_start():
    made = WorkerPool(Fake(), [die, die])
    with pytest.raises(RuntimeError, match=r"no living worker; the last, \d+ \(exit code 7\), died"):
        rows([1], made)
    made.stop()


def test_a_late_worker_joins(tmp_path):
    made = WorkerPool(Fake(), [nothing, slow_setup])
    got = rows([Harm(i, "slow") for i in range(16)], made, chunk_size=1)
    assert len(set(got[:, 1])) == 2
    made.stop()


# -- what is left behind -----------------------------------------------------------------------------------------------


def test_a_stopped_pool_is_empty_and_says_so():
    made = WorkerPool(Fake(), [nothing])
    pid = made["processes"][0].pid
    assert isinstance(made, dict)
    assert set(made) == {"input", "output", "processes"}
    made.stop()
    made.stop()
    assert not Path("/proc", str(pid)).exists()
    with pytest.raises(WorkerError, match="it was stopped"):
        rows([1], made)


def test_stopping_does_not_wait_for_what_runs(own_pool):
    source = (Harm(i, "very slow" if i > 4 else "quiet") for i in range(400))
    runner = PoolRunner(own_pool, work, Budget(64))
    parts = stream(source, Fake(), runner, lambda count: RowSink(count, numpy_rows), window=4)
    next(parts)
    started = time.monotonic()
    parts.close()
    own_pool.stop()
    assert time.monotonic() - started < 15


SCRIPT = """
import os, signal, sys, time
from tests.engine.test_workers import *

if __name__ == "__main__":
    pool = WorkerPool(Fake(), [nothing, nothing])
    rows([1, 2], pool)
    print(*(process.pid for process in pool["processes"]), flush=True)
    result = rows(list(range(100)), pool)
    pool = None
    print(result.sum(), flush=True)
    if sys.argv[1] == "slow":
        rows([Harm(i, "slow") for i in range(1000)], pool or WorkerPool(Fake(), [nothing]))
"""


def script(tmp_path, mode):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    return subprocess.Popen(
        [sys.executable, "-W", "error", path, mode], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip


def gone(pids, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(Path("/proc", pid).exists() for pid in pids):
        time.sleep(0.05)
    return not any(Path("/proc", pid).exists() for pid in pids)


def test_a_program_that_forgets_its_pool_ends_without_a_word(tmp_path):
    program = script(tmp_path, "quick")
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0
    assert err == ""
    assert gone(out.split("\n")[0].split())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_is_killed_leaves_no_orphan(tmp_path, how):
    program = script(tmp_path, "slow")
    pids = program.stdout.readline().split()
    program.stdout.readline()
    program.send_signal(how)
    program.communicate(timeout=120)
    assert gone(pids)


def test_no_file_stays_open():
    made = WorkerPool(Fake(), [nothing])
    rows(numbers(100), made)
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    results = [rows(numbers(100), made) for _ in range(20)]
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 20  # the kept results may hold their memory's file
    results.clear()
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    made.stop()


# -- shared arrays -----------------------------------------------------------------------------------------------------

ATTACH = """
import pickle, sys
array = pickle.loads(sys.stdin.buffer.read()).attach()
array[1:] += 1
"""


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (2,), (5, 0)])
def test_another_process_writes_in_place(shape):
    shared = SharedArray(shape, np.float16)
    assert not shared.array.any()
    shared.array[:] = 2
    subprocess.run([sys.executable, "-c", ATTACH], input=pickle.dumps(shared.handle()), check=True)
    assert (shared.array[:1] == 2).all()
    assert (shared.array[1:] == 3).all()


def test_the_array_outlives_its_owner():
    shared = SharedArray((1000,), np.int64)
    array = shared.array
    shared.close()
    del shared
    gc.collect()
    array[:] = 7
    assert array.sum() == 7000


def test_memory_that_is_no_longer_offered_is_not_mistaken_for_another(tmp_path):
    shared = SharedArray((10,), np.int64)
    handle = shared.handle()
    shared.close()
    with (tmp_path / "other").open("w+b") as other:  # takes the number of the closed file
        other.write(bytes(80))
        with pytest.raises(OSError):
            handle.attach()


def test_without_memory_files_a_deleted_file_is_used(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    test_another_process_writes_in_place((3, 4))


def test_workers_that_may_not_map_the_memory_send_their_rows(pool, monkeypatch):
    from fourfold.engine.shared import Handle

    monkeypatch.setattr(SharedArray, "handle", lambda self: Handle(self.array.shape, self.array.dtype.str, "/nowhere"))
    np.testing.assert_array_equal(rows(numbers(500), pool)[:, 0], numbers(500))
