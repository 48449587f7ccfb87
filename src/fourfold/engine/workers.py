"""Run batches in other processes: packed batches go to whichever is idle, results are written where they belong.

Each worker has a pipe of its own in either direction, so that one which dies, at whatever moment, leaves nothing locked
that others need. Its unfinished work is done by another. The engine does not know what the model is: it is any object
that can be pickled, and the work of a call is a function of it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from fourfold.backends import Batch
from fourfold.engine import _worker
from fourfold.engine._worker import Begin, Done, End, Failed, Ready, Target, Task, Work
from fourfold.engine.collect import Sink
from fourfold.engine.plan import Budget, plan
from fourfold.engine.run import Windows
from fourfold.errors import InputError, WorkerError

logger = logging.getLogger(__name__)

# A task should take about this long: long against the tenth of a millisecond that handing it over takes, short against
# the run, so that all workers end together.
_SECONDS = 0.05
_MOST_BATCHES = 64
# A worker holds a second task ready unless tasks are so long that the others would wait for it at the end.
_LONG_TASK = 0.5
_PATIENCE = 5.0

_jobs = itertools.count(1)


class _Worker:
    """One process, seen from the one that made it."""

    def __init__(self, model: Any, setup: Callable[[Any], None]) -> None:
        context = multiprocessing.get_context("spawn")
        theirs, self.inbox = context.Pipe(duplex=False)
        self.outbox, answers = context.Pipe(duplex=False)
        self.process = context.Process(target=_worker.serve, args=(model, setup, theirs, answers), daemon=True)
        self.process.start()
        # Only the worker may hold these ends: their closing is how either side learns that the other is gone.
        theirs.close()
        answers.close()
        self.ready = False
        self.broken = False
        self.gone = False
        self.open: deque[Task] = deque()
        self.target: Any = None  # the memory that it has been told to write into

    def send(self, message: Any) -> bool:
        """Send a message; False if the process is gone."""
        data = _worker.packed(message)
        try:
            with self._whole():
                self.inbox.send_bytes(data)
        except OSError:
            return False
        return True

    def answers(self) -> list[Any]:
        """Return the answers that have come; the process may be gone after them."""
        answers = []
        try:
            while self.outbox.poll():
                with self._whole():
                    answers.append(_worker.receive(self.outbox))
        except (EOFError, OSError):
            self.gone = True
        return answers

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Remember when an interrupt, such as Ctrl-C, leaves half a message in the pipe."""
        try:
            yield
        except OSError:
            raise
        except BaseException:
            self.broken = True
            raise

    def end(self) -> int | None:
        """Wait for the process to end, make it end if it does not, and return its exit code."""
        self.inbox.close()
        self.outbox.close()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return self.process.exitcode


class WorkerPool(dict[str, Any]):
    """Processes that hold a model, until :meth:`stop`.

    It is a dictionary of ``processes``, the pipes to them (``input``) and from them (``output``), those that have died
    left out.

    Args:
        model: Handed to every worker; tensors in shared memory are not copied.
        setups: One a worker: called there once with the model, e.g. to move it to a device.
        devices: Names of the workers' devices, for the caller's own use.
    """

    def __init__(self, model: Any, setups: Sequence[Callable[[Any], None]], devices: Sequence[str] = ()) -> None:
        super().__init__(input=[], output=[], processes=[])
        self.devices = list(devices)
        self.workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._last = ""
        try:
            for setup in setups:
                self.workers.append(_Worker(model, setup))
        except BaseException:
            self.stop()
            raise
        self["input"] = [worker.inbox for worker in self.workers]
        self["output"] = [worker.outbox for worker in self.workers]
        self["processes"] = [worker.process for worker in self.workers]

    def stop(self) -> None:
        """End all processes. What a call still has open ends with an error."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.end()
            worker.process.close()
        self.workers = []
        for part in self.values():
            part.clear()
        self._last = "; it was stopped"

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Have the pool for one call; other threads wait for their turn.

        Raises:
            InputError: If this very thread has a call open, such as a stream that is not read to its end.
        """
        me = threading.get_ident()
        if self._owner == me:
            raise InputError("the pool is busy with a stream of this thread; read it to its end or close it first")
        with self._lock:
            self._owner = me
            try:
                yield
            finally:
                self._owner = None

    def bury(self, worker: _Worker) -> str:
        """Take a dead worker out and return its description: process id and exit code."""
        pid = worker.process.pid
        code = worker.end()
        self.workers.remove(worker)
        for name, part in (("input", worker.inbox), ("output", worker.outbox), ("processes", worker.process)):
            self[name] = [one for one in self[name] if one is not part]
        self._last = f"; the last, {_described(pid, code)}, died"
        return _described(pid, code)

    def check(self) -> None:
        """Raise :class:`~fourfold.errors.WorkerError` if no worker is left."""
        if not self.workers:
            raise WorkerError(f"the pool has no living worker{self._last}; start a new one")


class PoolRunner:
    """Runs windows of inputs in the workers of a pool.

    Args:
        pool: The workers.
        work: Makes, in each worker, what runs the batches.
        budget: What one batch may hold; each worker keeps within its own besides.
        chunk_size: Most inputs handed to a worker at a time; None leaves that to the measured speed.

    Raises:
        WorkerError: From :meth:`fill`, if no worker is left or a batch has ended two of them.
    """

    def __init__(self, pool: WorkerPool, work: Work, budget: Budget, chunk_size: int | None = None) -> None:
        self._pool = pool
        self._work = work
        self._budget = budget if chunk_size is None else _at_most(budget, chunk_size)
        self._chunk_size = chunk_size
        self._job = 0
        self._again: deque[Task] = deque()
        self._deaths: dict[int, str] = {}
        self._tasks: Iterator[Task | None] = iter(())
        self._seconds: float | None = None  # of one batch

    def fill(self, prepared: Windows, sink: Sink) -> Generator[int, None, None]:
        """Put the outputs of all windows into the sink; yield the number of inputs done after each task.

        An exception of a worker is raised here with its own type, and leaves the pool usable.
        """
        with self._pool.taken():
            self._job = next(_jobs)
            self._tasks = self._cut(prepared, sink)
            try:
                for worker in list(self._pool.workers):
                    if worker.ready:
                        self._begin(worker)
                while self._hand_out(sink):
                    yield from self._collect(sink)
            finally:
                self._end(sink)

    # -- giving ------------------------------------------------------------------------------------------------------

    def _cut(self, prepared: Windows, sink: Sink) -> Iterator[Task | None]:
        """Yield tasks, or None while the sink must first be emptied.

        A task is as many consecutive batches as take about :data:`_SECONDS`.
        """
        number = itertools.count()
        for start, window in prepared:
            batches = deque(plan(window.lengths, self._shared_out(window), window.prefixes))
            while batches:
                some = [batches.popleft()]
                while batches and len(some) < self._group() and self._fits(some, batches[0]):
                    some.append(batches.popleft())
                rows = np.concatenate(some)
                yield Task(self._job, next(number), rows + start, window.take(rows), len(some))
            while sink.full:
                yield None

    def _shared_out(self, window: Batch) -> Budget:
        """Return the budget for a window: a small one is cut so that every worker gets a part."""
        share = -(-int(np.maximum(window.lengths, 1).sum()) // max(1, len(self._pool.workers)))
        return Budget(min(self._budget.tokens, max(1, share)), self._budget.rows, self._budget.padded)

    def _group(self) -> int:
        if self._seconds is None:
            return 1
        return max(1, min(_MOST_BATCHES, int(_SECONDS / max(self._seconds, 1e-6))))

    def _fits(self, some: list[Any], more: Any) -> bool:
        return self._chunk_size is None or sum(map(len, some)) + len(more) <= self._chunk_size

    def _hand_out(self, sink: Sink) -> bool:
        """Give tasks to workers that have too few; return whether there is anything to wait for."""
        self._pool.check()
        long = self._seconds is None or self._seconds * self._group() > _LONG_TASK
        for depth in (1,) if long else (1, 2):
            for worker in list(self._pool.workers):
                while worker.ready and len(worker.open) < depth and worker in self._pool.workers:
                    task = self._again.popleft() if self._again else next(self._tasks, None)
                    if task is None:
                        return any(worker.open for worker in self._pool.workers)
                    self._give(worker, task, sink)
        # Workers that are still starting have no tasks; if none has, somebody must start.
        return True

    def _give(self, worker: _Worker, task: Task, sink: Sink) -> None:
        worker.open.append(task)
        alive = True
        if sink.shared is not None and worker.target is not sink.shared:
            worker.target = sink.shared
            alive = worker.send(Target(self._job, sink.shared.handle()))
        if not (alive and worker.send(task)):
            self._bury(worker)

    def _begin(self, worker: _Worker) -> None:
        if not worker.send(Begin(self._job, self._work)):
            self._bury(worker)

    # -- taking ------------------------------------------------------------------------------------------------------

    def _collect(self, sink: Sink) -> Iterator[int]:
        """Wait until a worker answers or dies, and take what has come; yield the number of inputs done."""
        signs: dict[Any, _Worker] = {}
        for worker in self._pool.workers:
            signs[worker.outbox] = signs[worker.process.sentinel] = worker
        for worker in {id(signs[sign]): signs[sign] for sign in wait(list(signs))}.values():
            worker.gone = not worker.process.is_alive()  # asked first: what a dead one has still said is not lost
            for answer in worker.answers():
                yield self._take(worker, answer, sink)
            if worker.gone:
                self._bury(worker)

    def _take(self, worker: _Worker, answer: Ready | Done | Failed, sink: Sink) -> int:
        """Act on an answer and return the number of inputs that it completes."""
        if isinstance(answer, Ready):
            worker.ready = True
            self._begin(worker)
            return 0
        if isinstance(answer, Failed) and answer.job == 0:  # it could not start, and ends by itself
            self._pool.bury(worker)
        if answer.job not in (0, self._job):
            return 0  # of a call that was broken off
        if isinstance(answer, Failed):
            raise _error(answer)
        task = worker.open.popleft()
        if task.number != answer.number:
            raise RuntimeError(f"a worker answered task {answer.number} instead of {task.number}. This is a bug.")
        seconds = answer.seconds / task.batches
        self._seconds = seconds if self._seconds is None else 0.7 * self._seconds + 0.3 * seconds
        for rows, output in answer.parts:
            sink.put(rows, output)
        return len(task.rows)

    def _bury(self, worker: _Worker) -> None:
        """Take a dead worker out, and put its tasks back.

        Raises:
            WorkerError: If the task that it was running has ended another worker before, or no worker is left.
        """
        if worker not in self._pool.workers:
            return
        who = self._pool.bury(worker)
        left = sum(len(task.rows) for task in worker.open)
        logger.warning("worker %s died; its %d unfinished inputs go to %d others", who, left, len(self._pool.workers))
        if worker.open:
            task = worker.open[0]
            before = self._deaths.get(task.number)
            if before is not None:
                raise WorkerError(
                    f"a batch of {len(task.rows)} inputs ended two workers, {before} and {who}. If memory was short, "
                    "a smaller batch_size needs less"
                )
            self._deaths[task.number] = who
            self._again.extendleft(reversed(worker.open))
            worker.open.clear()
        self._pool.check()

    def _end(self, sink: Sink) -> None:
        """Tell the workers that the call is over; one that an interrupt left with half a message is ended."""
        for worker in list(self._pool.workers):
            worker.open.clear()
            worker.target = None
            if worker.broken:
                worker.process.kill()
            if worker.broken or not worker.send(End(self._job)):
                who = self._pool.bury(worker)
                logger.warning("worker %s is gone", who)
        if sink.shared is not None:
            sink.shared.close()


def _at_most(budget: Budget, rows: int) -> Budget:
    return Budget(budget.tokens, rows if budget.rows is None else min(rows, budget.rows), budget.padded)


def _described(pid: int | None, code: int | None) -> str:
    name = ""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            name = f", {signal.Signals(-code).name}"
    return f"{pid} (exit code {code}{name})"


class _WorkerTraceback(Exception):
    """The text of a worker's traceback, shown as the cause of its error."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def _error(failed: Failed) -> Exception:
    """Return a worker's exception with its own type, or a WorkerError with its traceback if it could not be sent."""
    error: Any = None
    if failed.error is not None:
        with contextlib.suppress(Exception):
            error = pickle.loads(failed.error)
    if not isinstance(error, Exception):
        return WorkerError(f"a worker raised an error that cannot be sent between processes:\n{failed.text}")
    error.__cause__ = _WorkerTraceback(failed.text)
    return error
