"""THE encode loop. It asks a backend to tokenise and to run, and never which family it serves.

Inputs are read and tokenised in windows, one ahead of the one that runs; a runner turns each window into batches and
puts their outputs into a sink. :class:`LocalRunner` runs them here, ``engine.workers.PoolRunner`` in other processes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fourfold.backends import Backend, Batch
from fourfold.engine.collect import Part, Sink, WindowSink
from fourfold.engine.plan import Budget, plan, window_sizes, windows

Windows = Generator[tuple[int, Batch], None, None]
"""The first row of each window with its prepared inputs, in order."""

Finish = Callable[[Any, Batch], Any]
"""Turns a batch's output into what the sink takes, e.g. truncates and normalises."""


class Runner(Protocol):
    """Runs windows of inputs."""

    def fill(self, prepared: Windows, sink: Sink) -> Generator[int, None, None]:
        """Put the outputs of all windows into the sink; yield the number of inputs done, whenever some are."""


class LocalRunner:
    """Runs batches one after another in this thread.

    A batch that does not fit into memory is run again in halves, and the halved budget stays for the rest.

    Args:
        backend: Runs the batches.
        budget: What one batch may hold.
        finish: Applied to the output of each; None changes nothing.
    """

    def __init__(self, backend: Backend, budget: Budget, finish: Finish | None = None) -> None:
        self.backend = backend
        self.budget = budget
        self._finish = finish

    def outputs(self, window: Batch) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """Yield the rows of each batch of a window with their output, longest texts first."""
        pending = plan(window.lengths, self.budget, window.prefixes)[::-1]
        while pending:
            rows = pending.pop()
            batch = window.take(rows)
            try:
                output = self.backend.run(batch)
                output = output if self._finish is None else self._finish(output, batch)
            except Exception as error:
                if len(rows) == 1 or not self.backend.out_of_memory(error):
                    raise
                smaller = plan(batch.lengths, _within(self.budget, batch).halved(), batch.prefixes)
                self.budget = self.budget.halved()
                pending.extend(rows[part] for part in reversed(smaller))
                continue
            yield rows, output

    def fill(self, prepared: Windows, sink: Sink) -> Generator[int, None, None]:
        """Put the outputs of all windows into the sink; yield the number of inputs done after each batch."""
        for start, window in prepared:
            for rows, output in self.outputs(window):
                sink.put(rows + start, output)
                yield len(rows)


def run(items: Sequence[Any], backend: Backend, sink: Sink, runner: Runner, *, progress: bool = False) -> None:
    """Encode ``items`` into ``sink``.

    Args:
        items: The inputs.
        backend: Tokenises them.
        sink: Takes the outputs with their rows.
        runner: Runs the batches.
        progress: Whether to show a bar that counts inputs.
    """
    parts = (items[part.start : part.stop] for part in windows(len(items)))
    with (
        _bar(len(items), progress) as done,
        contextlib.closing(_prepared(parts, backend)) as prepared,
        contextlib.closing(runner.fill(prepared, sink)) as filled,
    ):
        for count in filled:
            done(count)


def stream(
    items: Iterable[Any],
    backend: Backend,
    runner: Runner,
    open_part: Callable[[int], Part],
    *,
    window: int,
    progress: bool = False,
) -> Generator[Part, None, None]:
    """Encode an iterable of any length; yield a full sink for each window, in order.

    The iterable is read in the caller's thread, at most two windows ahead of what has been yielded. An error that it
    raises is raised here after the rows before it. Closing this generator ends all work.

    Args:
        items: The inputs.
        backend: Tokenises them.
        runner: Runs the batches.
        open_part: Makes the sink of a window from its number of rows.
        window: Most inputs a window; the first windows are smaller.
        progress: Whether to show a bar that counts inputs.
    """
    sink = WindowSink(open_part)

    def announced() -> Windows:
        for start, batch in prepared:
            sink.begin(start, len(batch))
            yield start, batch

    with (
        _bar(None, progress) as done,
        contextlib.closing(_prepared(read_windows(items, window), backend)) as prepared,
        contextlib.closing(runner.fill(announced(), sink)) as filled,
    ):
        for count in filled:
            done(count)
            yield from sink.finished()


@contextlib.contextmanager
def _bar(total: int | None, shown: bool) -> Iterator[Callable[[int], object]]:
    """Yield a function that counts inputs on a bar, or nowhere; tqdm is imported only for a bar, to start sooner."""
    if not shown:
        yield lambda count: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="Encoding", unit="text") as bar:
        yield bar.update


def _within(budget: Budget, batch: Batch) -> Budget:
    """Return the budget that this batch just fills, so that half of it splits the batch."""
    tokens = max(1, int(np.maximum(batch.lengths, 1).sum()))
    return Budget(min(budget.tokens, tokens), min(len(batch), budget.rows or len(batch)), budget.padded)


def read_windows(items: Iterable[Any], window: int) -> Iterator[list[Any]]:
    """Yield the items in lists up to that size; what was read before the iterable failed comes before its error."""
    source = iter(items)
    for size in window_sizes(window):
        part: list[Any] = []
        try:
            # Not extend(): what an interrupted extend has read is not promised to be kept.
            for item in itertools.islice(source, size):
                part.append(item)
        except Exception:
            if part:
                yield part
            raise
        if not part:
            return
        yield part


def _prepared(parts: Iterator[Sequence[Any]], backend: Backend) -> Windows:
    """Yield each part's first row and its prepared inputs.

    A single part is prepared here; of several each is prepared in a thread while the one before runs.
    """
    part, error = _next(parts)
    if error is not None:
        raise error
    if part is None:
        return
    following, error = _next(parts)
    if following is None and error is None:
        yield 0, backend.prepare(part)
        return
    # Leaving this block waits for the one part under way, so that neither an error nor Ctrl-C leaves a thread behind.
    with ThreadPoolExecutor(1, thread_name_prefix="fourfold-tokenise") as ahead:
        start, pending = 0, ahead.submit(backend.prepare, part)
        while True:
            window = pending.result()
            if following is not None:
                pending = ahead.submit(backend.prepare, following)
            yield start, window
            if following is None:
                if error is not None:
                    raise error
                return
            start += len(window)
            following, error = _next(parts)


def _next(parts: Iterator[Sequence[Any]]) -> tuple[Sequence[Any] | None, Exception | None]:
    """Return the next part, or the error that reading it raised: its time comes after the parts before it."""
    try:
        return next(parts, None), None
    except Exception as error:
        return None, error
