"""Encode with two worker processes, beside one process and beside the pool of sentence-transformers.

    python benchmarks/processes.py --data ../shared/data --output benchmarks/results/processes.md

All four encode the same texts with all-MiniLM-L6-v2 in float32 on the CPU, in turn; pools are started before. A worker
of ours takes its share of the cores; those of sentence-transformers each take all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parent))

import _common as common


def measure(texts: list[str], workers: int, rounds: int) -> list[list[str]]:
    """Return a row a contender: texts a second, and times faster than sentence-transformers in one process."""
    from sentence_transformers import SentenceTransformer as Theirs

    from fourfold import SentenceTransformer as Ours

    folder = str(common.minilm())
    ours, theirs = Ours(folder, device="cpu"), Theirs(folder, device="cpu")
    pools = [model.start_multi_process_pool(["cpu"] * workers) for model in (ours, theirs)]
    contenders = {
        "sentence-transformers, one process": lambda: theirs.encode(texts),
        f"sentence-transformers, {workers} workers": lambda: theirs.encode(texts, pool=pools[1]),
        "fourfold, one process": lambda: ours.encode(texts),
        f"fourfold, {workers} workers": lambda: ours.encode(texts, pool=pools[0]),
    }
    try:
        seconds, results = common.alternate(contenders, rounds)
    finally:
        for model, pool in zip((ours, theirs), pools, strict=True):
            model.stop_multi_process_pool(pool)
    base, reference = next(iter(seconds.values())), next(iter(results.values()))
    return [
        [name, f"{len(texts) / statistics.median(taken):.0f}", f"{common.ratio(base, taken):.2f}",
         f"{abs(results[name] - reference).max():.1e}"]
        for name, taken in seconds.items()
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared" / "data")
    parser.add_argument("--texts", type=int, default=1500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    texts = common.read_lines(arguments.data / "texts" / "mixed_20k.txt.gz")
    rows = {
        "mixed lengths": measure(texts[: arguments.texts], arguments.workers, arguments.rounds),
        "short texts, up to 12 words": measure(
            [text for text in texts if len(text.split()) <= 12][: arguments.texts], arguments.workers, arguments.rounds
        ),
    }
    header = ["contender", "texts/s", "times faster", "largest difference"]
    parts = [
        "# Worker processes",
        f"Made by `python {' '.join(sys.argv)}`: all-MiniLM-L6-v2, in turn, medians of {arguments.rounds} rounds.",
        "\n".join(f"- {key}: {value}" for key, value in common.machine().items()),
    ]
    for name, table in rows.items():
        parts += [f"## {arguments.texts} texts: {name}", common.table(header, table)]
    common.report(parts, arguments.output)


if __name__ == "__main__":
    main()
