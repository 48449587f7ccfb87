"""One way of running a model, tried in a process of its own, which reads as JSON what to try."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# A short model is asked as often as this takes, a large one once.
_SECONDS = 2.0
_MOST_ROUNDS = 20
_SINGLE = 15


def main() -> None:
    """Try what standard input says; print what was measured as the last line, and save the output."""
    request = json.load(sys.stdin)
    before = _memory("VmRSS")
    start = time.perf_counter()
    run, tune = opened(request)
    loaded = time.perf_counter() - start
    texts = request["texts"]
    output = run(texts)
    speeds = {}
    for tokens in request["tokens"] or [None]:
        if tokens is not None:
            tune(tokens)
        speeds[tokens] = len(texts) / _seconds(lambda: run(texts), _MOST_ROUNDS)
    best = max(speeds, key=lambda tokens: speeds[tokens])
    if best is not None:
        tune(best)
    latency = _seconds(lambda: run(texts[:1]), _SINGLE)
    np.save(request["output"], output)
    peak = _memory("VmHWM")
    print(json.dumps({  # noqa: T201 - this is what the process is for
        "speed": speeds[best], "tokens": best, "latency": latency, "load": loaded,
        "memory": None if peak is None or before is None else peak - before,
    }))  # fmt: skip


def opened(request: dict[str, Any]) -> tuple[Callable[[list[str]], Any], Callable[[int], None]]:
    """Return what runs texts, each row of the result a text's, and what sets the tokens of a batch."""
    import fourfold

    model = fourfold.load(
        request["folder"], family=request["family"], backend=request["backend"], local_files_only=True,
        **request["options"],
    )  # fmt: skip

    def tune(tokens: int) -> None:
        model._graphs.best_tokens = tokens

    if request["family"] == "cross":
        return (lambda texts: model.predict([(text, texts[place - 1]) for place, text in enumerate(texts)])), tune
    if request["family"] == "sparse":
        return (lambda texts: model.encode(texts).dense()), tune
    return model.encode, tune


def _seconds(call: Callable[[], Any], most: int) -> float:
    """Return the median time of some calls."""
    found: list[float] = []
    while len(found) < most and (len(found) < 2 or sum(found) < _SECONDS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def _memory(name: str) -> float | None:
    """Return a number of this process's memory in MB, where Linux tells it."""
    file = Path("/proc/self/status")
    lines = file.read_text().splitlines() if file.exists() else []
    line = next((line for line in lines if line.startswith(name)), None)
    return None if line is None else int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
