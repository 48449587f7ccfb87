"""Encode with fourfold and with sentence-transformers, on the same texts, in turn, and print ratios.

    python benchmarks/encode.py --data ../shared/data --output benchmarks/results/encode.md

Both run all-MiniLM-L6-v2 in float32 on the CPU. Three profiles are drawn from ``texts/mixed_20k.txt.gz``: short (up to
64 tokens), mixed (as they come) and long (128 tokens and more; the model cuts at 256).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parent))

import _common as common

BATCH_SIZES = (8, 16, 64, 128)

MEMORY = """
import json, sys
library, model, path, count = sys.argv[1:]

def peak():  # the kernel's own mark of this program; getrusage would still know the process that started it
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

texts = open(path, encoding="utf-8").read().split("\\n")[: int(count)]
SentenceTransformer = __import__(library).SentenceTransformer
model = SentenceTransformer(model, device="cpu")
model.encode(texts[:8])
before = peak()
model.encode(texts)
print(json.dumps({"loaded": before, "peak": peak()}))
"""
START = """
import json, sys, time
library, model = sys.argv[1:]
start = time.perf_counter()
module = __import__(library)
imported = time.perf_counter()
model = module.SentenceTransformer(model, device="cpu")
loaded = time.perf_counter()
model.encode("a first text")
print(json.dumps({"import": imported - start, "load": loaded - start, "first": time.perf_counter() - start}))
"""


def profiles(texts: list[str], tokenizer, count: int) -> dict[str, tuple[list[str], list[int]]]:
    """Return the texts of each profile and their token counts as the model sees them."""
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=256)["input_ids"]]
    rows = range(len(texts))
    chosen = {
        "short": [i for i in rows if lengths[i] <= 64],
        "mixed": list(rows),
        "long": [i for i in rows if lengths[i] >= 128],
    }
    return {
        name: ([texts[i] for i in rows[:count]], [lengths[i] for i in rows[:count]]) for name, rows in chosen.items()
    }


def flops(config, lengths: list[int]) -> float:
    """Return the floating-point operations that the matrix products of these texts need, padding not counted."""
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    per_token = 2 * (4 * width * width + 2 * width * inner)
    return layers * sum(length * per_token + 4 * length * length * width for length in lengths)


def throughput(ours, fastest, theirs, chosen, rounds: int, limit: float) -> list[list[str]]:
    """Return a row for each profile and contender."""
    rows = []
    for name, (texts, lengths) in chosen.items():
        best = best_batch_size(theirs, texts)
        contenders = {
            "sentence-transformers, default": lambda texts=texts: theirs.encode(texts),
            f"sentence-transformers, batch_size={best}": lambda texts=texts, best=best: theirs.encode(
                texts, batch_size=best
            ),
            "fourfold": lambda texts=texts: ours.encode(texts),
            f'fourfold, dtype="fastest" ({str(fastest.dtype).removeprefix("torch.")})': lambda texts=texts: (
                fastest.encode(texts)
            ),
        }
        seconds, results = common.alternate(contenders, rounds)
        default, reference = next(iter(seconds.values())), next(iter(results.values()))
        work = flops(ours.config, lengths)
        for contender, taken in seconds.items():
            vectors = results[contender]
            middle = statistics.median(taken)
            rows.append([
                name, contender, f"{len(texts) / middle:.0f}", f"{common.ratio(default, taken):.2f}",
                f"{work / middle / 1e9 / limit:.0%}", f"{abs(vectors - reference).max():.1e}",
                f"{least_cosine(vectors, reference):.5f}",
            ])  # fmt: skip
            print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def least_cosine(vectors, reference) -> float:
    """Return the smallest cosine between two results for the same text."""
    import numpy as np

    return float(
        ((vectors * reference).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(reference, axis=1)).min()
    )


def best_batch_size(model, texts: list[str]) -> int:
    """Return the batch size at which sentence-transformers is fastest on a part of the texts."""
    part = texts[: max(200, len(texts) // 4)]
    seconds, _ = common.alternate(
        {str(size): lambda size=size: model.encode(part, batch_size=size) for size in BATCH_SIZES}, 1
    )
    return int(min(seconds, key=lambda size: min(seconds[size])))


def latency(ours, theirs) -> list[list[str]]:
    """Return the milliseconds of a single text."""
    rows = []
    for name, text in (
        ("8 words", "how do I cancel my order today"),
        ("200 words", "the weather in the north is cold " * 29),
    ):
        seconds, _ = common.alternate(
            {
                "sentence-transformers": lambda text=text: theirs.encode(text),
                "fourfold": lambda text=text: ours.encode(text),
            },
            100,
        )
        slow, fast = seconds.values()
        rows.append([name, f"{1e3 * statistics.median(slow):.2f}", f"{1e3 * statistics.median(fast):.2f}",
                     f"{common.ratio(slow, fast):.2f}"])  # fmt: skip
    return rows


def scaling(ours, texts: list[str], sizes: list[int]) -> list[list[str]]:
    """Return fourfold's texts a second for growing numbers of texts, all drawn from the same ones."""
    rows = []
    for size in sizes:
        many = (texts * (size // len(texts) + 1))[:size]
        start = time.perf_counter()
        ours.encode(many)
        rows.append([f"{size:,}", f"{size / (time.perf_counter() - start):.0f}"])
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def start_up(model: Path, repeats: int) -> list[list[str]]:
    """Return the seconds until the library is imported, the model loaded, and the first text encoded."""
    rows = []
    for library in ("sentence_transformers", "fourfold"):
        runs = [common.child(START, library, str(model)) for _ in range(repeats)]
        rows.append(
            [library.replace("_", "-"), *(f"{statistics.median(run[key] for run in runs):.2f}" for key in runs[0])]
        )
    return rows


def memory(model: Path, texts: list[str], count: int, scratch: Path) -> list[list[str]]:
    """Return the peak memory of a process that encodes the texts."""
    path = scratch / "texts.txt"
    path.write_text("\n".join(text.replace("\n", " ") for text in texts[:count]), encoding="utf-8")
    rows = []
    for library in ("sentence_transformers", "fourfold"):
        seen = common.child(MEMORY, library, str(model), str(path), str(count))
        rows.append([library.replace("_", "-"), f"{seen['loaded']:.0f}", f"{seen['peak']:.0f}"])
    return rows


def main() -> None:
    """Measure and print."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared" / "data")
    parser.add_argument("--texts", type=int, default=600, help="texts a profile")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=int, nargs="*", default=[1000, 10000, 100000])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    import transformers
    from sentence_transformers import SentenceTransformer as Theirs

    from fourfold import SentenceTransformer as Ours

    transformers.logging.disable_progress_bar()
    folder = common.minilm()
    ours, theirs = Ours(str(folder), device="cpu"), Theirs(str(folder), device="cpu")
    fastest = Ours(str(folder), device="cpu", dtype="fastest")
    texts = common.read_lines(arguments.data / "texts" / "mixed_20k.txt.gz")
    chosen = profiles(texts, theirs.tokenizer, arguments.texts)
    limits = common.gemm_limits()
    rows = throughput(ours, fastest, theirs, chosen, arguments.rounds, max(limits.values()))
    columns = "profile | contender | texts/s | times faster | of the GEMM limit | largest difference | least cosine"
    made_by = (
        f"Made by `python {' '.join(sys.argv)}`: both in turn in one process, medians of {arguments.rounds} rounds."
    )
    with tempfile.TemporaryDirectory() as scratch:
        parts = [
            "# Encoding: fourfold beside sentence-transformers",
            f"{made_by} all-MiniLM-L6-v2 on the CPU.",
            "\n".join(f"- {key}: {value}" for key, value in common.machine().items()),
            "\n".join(f"- float32 products, {name}: {rate:.0f} GFLOP/s" for name, rate in limits.items()),
            f"## Throughput ({arguments.texts} texts a profile)",
            common.table(columns.split(" | "), rows),
            "## One text (milliseconds, median of 100)",
            common.table(["text", "sentence-transformers", "fourfold", "times faster"], latency(ours, theirs)),
            "## Start (seconds, median of fresh processes)",
            common.table(["library", "import", "model loaded", "first vector"], start_up(folder, 3)),
            "## Peak memory (MB; encoding 2,000 mixed texts)",
            common.table(["library", "model loaded", "peak"], memory(folder, texts, 2000, Path(scratch))),
            "## From few texts to many (fourfold, short texts)",
            common.table(["texts", "texts/s"], scaling(ours, chosen["short"][0], arguments.scale)),
        ]
    common.report(parts, arguments.output)


if __name__ == "__main__":
    main()
