"""What runs inside a worker process, and the messages between it and the process that made it."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.backends import Batch
from fourfold.engine.run import LocalRunner
from fourfold.engine.shared import Handle

Work = Callable[[Any], LocalRunner]
"""Makes, from the model, what runs the batches of one call; it is pickled and sent to every worker."""


@dataclass(frozen=True)
class Begin:
    """A call begins: the next tasks are run by ``work``."""

    job: int
    work: Work


@dataclass(frozen=True)
class Target:
    """The outputs of this call go into an array, at the rows of each task; where it cannot be mapped, they are sent."""

    job: int
    handle: Handle


@dataclass(frozen=True)
class Task:
    """Inputs to run: ``rows`` are their numbers in the whole input, in the order of ``batch``."""

    job: int
    number: int
    rows: NDArray[np.int64]
    batch: Batch
    batches: int = 1


@dataclass(frozen=True)
class End:
    """A call is over; tasks of it that have not begun are dropped."""

    job: int


@dataclass(frozen=True)
class Ready:
    """The worker has its model in place."""


@dataclass(frozen=True)
class Done:
    """A task is done. ``parts`` holds rows and outputs where they are not in the target."""

    job: int
    number: int
    seconds: float
    parts: list[tuple[NDArray[np.int64], Any]]


@dataclass(frozen=True)
class Failed:
    """An exception ended a task, or the start of a call or of the worker (``job`` 0).

    ``error`` is the pickled exception, or None if it cannot be pickled; ``text`` its traceback.
    """

    job: int
    error: bytes | None
    text: str

    @classmethod
    def of(cls, job: int, error: Exception) -> Failed:
        """Return the message for an exception."""
        return cls(job, _pickled(error), "".join(traceback.format_exception(type(error), error, error.__traceback__)))


def packed(message: Any) -> bytes:
    """Return a message as bytes, with the number of its call before it, which arrives even if the rest is unreadable.

    Plain pickling copies tensors; multiprocessing's own would pass each by a file descriptor, of which there are few.
    """
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return pickle.dumps((getattr(message, "job", 0), data), pickle.HIGHEST_PROTOCOL)


def send(connection: Connection, message: Any) -> None:
    """Send a message."""
    connection.send_bytes(packed(message))


def receive(connection: Connection) -> Any:
    """Wait for a message and return it; EOFError or OSError if the other end is gone."""
    return pickle.loads(pickle.loads(connection.recv_bytes())[1])


def serve(model: Any, setup: Callable[[Any], None], inbox: Connection, outbox: Connection) -> None:
    """Run tasks until the other process closes the connection or ends.

    Args:
        model: What :class:`Begin`'s work is given.
        setup: Called once with the model, e.g. to move it to a device.
        inbox: Messages from the process that made this one.
        outbox: Messages to it.
    """
    # Ctrl-C reaches the whole group of processes; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    worker = _Worker(model, outbox)
    threading.Thread(target=_listen, args=(inbox, messages, worker), daemon=True).start()
    try:
        try:
            setup(model)
        except Exception as error:
            send(outbox, Failed.of(0, error))
            return
        send(outbox, Ready())
        while True:
            worker.take(messages.get())
    except OSError:  # nobody reads our answers any more
        return


class _Worker:
    """The state of a worker between messages."""

    def __init__(self, model: Any, outbox: Connection) -> None:
        self._model = model
        self._outbox = outbox
        self.job = 0  # of the latest message that has arrived, which may be ahead of the one being worked on
        self._runner: LocalRunner | None = None
        self._target: NDArray[Any] | None = None

    def take(self, message: Any) -> None:
        """Do what a message asks for, unless its call is over."""
        if isinstance(message, Failed):
            send(self._outbox, message)
        elif message.job != self.job:
            self._runner = self._target = None
        else:
            try:
                self._do(message)
            except Exception as error:
                send(self._outbox, Failed.of(message.job, error))

    def _do(self, message: Begin | Target | Task) -> None:
        if isinstance(message, Begin):
            self._runner, self._target = message.work(self._model), None
        elif isinstance(message, Target):
            with contextlib.suppress(OSError):
                self._target = message.handle.attach()
        elif self._runner is not None:
            started = time.perf_counter()
            parts = []
            for rows, output in self._runner.outputs(message.batch):
                if self._target is None:
                    parts.append((message.rows[rows], output))
                else:
                    self._target[message.rows[rows]] = output
            send(self._outbox, Done(message.job, message.number, time.perf_counter() - started, parts))


def _listen(inbox: Connection, messages: queue.SimpleQueue[Any], worker: _Worker) -> None:
    """Take messages as they come: the parent, which may be waiting to send one, must never wait for this process."""
    while True:
        try:
            job, data = pickle.loads(inbox.recv_bytes())
        except (EOFError, OSError):  # the parent has closed the pool, or is gone
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        try:
            message = pickle.loads(data)
        except Exception as error:
            message = Failed.of(job, error)
        worker.job = 0 if isinstance(message, End) else job
        messages.put(message)


def _pickled(error: Exception) -> bytes | None:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        return None
    return data
