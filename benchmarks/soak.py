"""Encode tens of thousands of times, in ever new shapes, and print the memory of the process as it goes.

    python benchmarks/soak.py --output benchmarks/results/soak.md

A call takes one to eight texts of one to sixty words, drawn anew each time, so that few calls share a shape.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parent))

import _common as common

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "harbour",
]


def resident() -> float:
    """Return the megabytes of memory that this process holds now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def soak(name: str, model, calls: int, marks: int) -> list[list[str]]:
    """Return a row a mark: calls made, memory, and what was added since the first tenth of the calls."""
    rng = random.Random(0)
    rows, warm, start = [], 0.0, time.perf_counter()
    for call in range(1, calls + 1):
        model.encode([" ".join(rng.choices(WORDS, k=rng.randint(1, 60))) for _ in range(rng.randint(1, 8))])
        if call == calls // 10:
            warm = resident()
        if call % (calls // marks) == 0:
            now = resident()
            rows.append([name, f"{call:,}", f"{now:.0f}", f"{now - warm:+.1f}"])
            print(*rows[-1], f"{time.perf_counter() - start:.0f} s", sep="  ", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50_000, help="calls of a tiny model")
    parser.add_argument("--real-calls", type=int, default=2000, help="calls of all-MiniLM-L6-v2")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    from fourfold import SentenceTransformer
    from fourfold.testing import tiny

    rows = soak("tiny", tiny("dense"), arguments.calls, 10)
    rows += soak("all-MiniLM-L6-v2", SentenceTransformer(str(common.minilm()), device="cpu"), arguments.real_calls, 5)
    parts = [
        "# Memory over many calls",
        f"Made by `python {' '.join(sys.argv)}`: 1 to 8 texts of 1 to 60 words a call.",
        "\n".join(f"- {key}: {value}" for key, value in common.machine().items()),
        common.table(["model", "calls", "MB", "since the first tenth"], rows),
    ]
    common.report(parts, arguments.output)


if __name__ == "__main__":
    main()
