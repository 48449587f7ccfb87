import contextlib
import io
import threading

import numpy as np
import pytest

from fourfold.containers import Items
from fourfold.engine import plan as planning
from fourfold.engine import run as running
from fourfold.engine.collect import ListSink, RowSink, numpy_rows
from fourfold.engine.plan import Budget
from fourfold.engine.run import LocalRunner, run


class Fake:
    """Turns a number into the vector ``[number, its length]``; tells what it ran."""

    packed = True
    best_tokens = 64

    def __init__(self, largest=None, broken=None, fail_preparing_at=None):
        self.largest, self.broken, self.fail_preparing_at = largest, broken, fail_preparing_at
        self.batches, self.freed, self.threads = [], 0, set()

    def prepare(self, items):
        self.threads.add(threading.current_thread().name)
        if self.fail_preparing_at in items:
            raise KeyError("this text cannot be prepared")
        return Items(list(items), np.array([item % 17 + 1 for item in items], dtype=np.int64))

    def run(self, batch):
        if self.largest is not None and int(batch.lengths.sum()) > self.largest:
            raise MemoryError("too large")
        if self.broken in batch.values:
            raise ZeroDivisionError("this text cannot be run")
        self.batches.append(list(batch.values))
        return np.array([[value, length] for value, length in zip(batch.values, batch.lengths, strict=True)], float)

    def out_of_memory(self, error):
        self.freed += isinstance(error, MemoryError)
        return isinstance(error, MemoryError)


def encode(items, backend, budget=None, finish=None, **options):
    sink = RowSink(len(items), numpy_rows)
    run(items, backend, sink, LocalRunner(backend, budget or Budget(64), finish), **options)
    return sink.result()


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(running, "windows", lambda count: planning.windows(count, 8, 32))


@pytest.fixture(autouse=True)
def _no_thread_left():
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.name.startswith("fourfold")]
    assert not left


def expected(items):
    return np.array([[item, item % 17 + 1] for item in items], float)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 40, 300])
def test_rows_come_back_in_the_order_of_the_input(count, small_windows):
    items = np.random.default_rng(0).permutation(count).tolist()
    np.testing.assert_array_equal(encode(items, Fake()), expected(items))


def test_windows_after_the_first_are_prepared_in_a_thread(small_windows):
    backend = Fake()
    encode(list(range(100)), backend)
    assert any(name.startswith("fourfold-tokenise") for name in backend.threads)


def test_one_window_needs_no_thread():
    backend = Fake()
    encode(list(range(100)), backend)
    assert backend.threads == {threading.main_thread().name}


def test_finish_sees_each_output_with_its_batch():
    result = encode([3, 1, 2], Fake(), finish=lambda output, batch: output[:, :1] * len(batch))
    np.testing.assert_array_equal(result, [[9], [3], [6]])


def test_a_batch_that_does_not_fit_runs_in_halves(small_windows):
    backend = Fake(largest=40)
    items = list(range(200))
    np.testing.assert_array_equal(encode(items, backend, Budget(1000)), expected(items))
    assert backend.freed > 0


def test_the_halved_budget_stays_for_the_rest(small_windows):
    backend = Fake(largest=40)
    encode(list(range(400)), backend, Budget(1000))
    # 1000 is halved until batches fit; without memory of that every window would fail again.
    assert backend.freed <= 6


def test_rows_limits_halve_too():
    backend = Fake(largest=60)
    items = [0] * 128  # one token each
    np.testing.assert_array_equal(encode(items, backend, Budget(2**62, rows=128)), expected(items))
    assert max(map(len, backend.batches)) <= 60


def test_a_single_text_that_does_not_fit_raises():
    with pytest.raises(MemoryError, match="too large"):
        encode([1, 16, 2], Fake(largest=5))


def test_memory_that_ends_in_finish_counts_too():
    def finish(output, batch):
        if len(batch) > 2:
            raise MemoryError
        return output

    np.testing.assert_array_equal(encode([1, 2, 3, 4, 5], Fake(), finish=finish), expected([1, 2, 3, 4, 5]))


def test_an_error_of_one_text_is_raised(small_windows):
    with pytest.raises(ZeroDivisionError, match="cannot be run"):
        encode(list(range(100)), Fake(broken=77))


@pytest.mark.parametrize("position", [0, 7, 9, 50, 99])
def test_an_error_while_preparing_is_raised(position, small_windows):
    with pytest.raises(KeyError, match="cannot be prepared"):
        encode(list(range(100)), Fake(fail_preparing_at=position))


@pytest.mark.parametrize("at", [3, 60])
def test_an_interrupt_stops_the_run(at, small_windows):
    class Interrupted(Fake):
        def run(self, batch):
            if at in batch.values:
                raise KeyboardInterrupt
            return super().run(batch)

    backend = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        encode(list(range(100)), backend)
    assert sum(map(len, backend.batches)) < 100


def test_progress_counts_texts(small_windows):
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        encode(list(range(100)), Fake(), progress=True)
    assert "100/100" in shown.getvalue()
    assert "text/s" in shown.getvalue()


def test_no_progress_is_silent(small_windows):
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        encode(list(range(100)), Fake())
    assert shown.getvalue() == ""


def test_objects_are_collected_one_a_row(small_windows):
    items = list(range(50))
    sink = ListSink(50)
    backend = Fake()
    run(items, backend, sink, LocalRunner(backend, Budget(20), lambda output, batch: [str(v) for v in batch.values]))
    assert sink.items == [str(i) for i in items]
