"""THE encode loop. It asks a backend to tokenise and to run, and never which family it serves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fourfold.backends import Backend, Batch
from fourfold.engine.collect import Sink
from fourfold.engine.plan import Budget, plan, windows


def run(
    items: Sequence[Any],
    backend: Backend,
    sink: Sink[Any],
    budget: Budget,
    *,
    finish: Callable[[Any, Batch], Any] | None = None,
    progress: bool = False,
) -> None:
    """Encode ``items`` batch by batch into ``sink``.

    A window of the input is tokenised in a thread while the one before runs. Within a window the longest texts run
    first. A batch that does not fit into memory is run again in halves, and the halved budget stays for the rest.

    Args:
        items: The inputs.
        backend: Tokenises and runs them.
        sink: Takes the outputs with their rows.
        budget: What one batch may hold.
        finish: Turns a batch's output into what the sink takes, e.g. truncates and normalises; None changes nothing.
        progress: Whether to show a bar that counts inputs.
    """
    with (
        _bar(len(items), progress) as done,
        contextlib.closing(_prepared(items, backend)) as prepared,
    ):
        for start, window in prepared:
            pending = plan(window.lengths, budget)[::-1]
            while pending:
                rows = pending.pop()
                batch = window.take(rows)
                try:
                    output = backend.run(batch)
                    output = output if finish is None else finish(output, batch)
                except Exception as error:
                    if len(rows) == 1 or not backend.out_of_memory(error):
                        raise
                    smaller, budget = plan(window.lengths[rows], _within(budget, batch).halved()), budget.halved()
                    pending.extend(rows[part] for part in reversed(smaller))
                    continue
                sink.put(rows + start, output)
                done(len(rows))


@contextlib.contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[int], object]]:
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


def _prepared(items: Sequence[Any], backend: Backend) -> Generator[tuple[int, Batch]]:
    """Yield each window's first row and its prepared inputs; all but the first are prepared in a thread, one ahead."""
    ranges = list(windows(len(items)))
    if len(ranges) == 1:
        yield 0, backend.prepare(items)
        return
    # Leaving this block waits for the one window under way, so that neither an error nor Ctrl-C leaves a thread behind.
    with ThreadPoolExecutor(1, thread_name_prefix="fourfold-tokenise") as ahead:
        pending = [ahead.submit(backend.prepare, items[r.start : r.stop]) for r in ranges[:1]]
        for i, here in enumerate(ranges):
            window = pending.pop().result()
            if i + 1 < len(ranges):
                following = ranges[i + 1]
                pending.append(ahead.submit(backend.prepare, items[following.start : following.stop]))
            yield here.start, window
