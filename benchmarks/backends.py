"""One model on every backend, beside sentence-transformers and fastembed, in turn, each in a process of its own.

    python benchmarks/backends.py --data ../shared/data --output benchmarks/results/backends.md

all-MiniLM-L6-v2 on the CPU. Graphs are exported first: whole for fourfold, and in the published layout for fastembed,
which with ``--rival PYTHON`` is run by another environment's interpreter, as is the OpenVINO backend of
sentence-transformers, whose packages do not install beside transformers 5.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np

import _common as common
from encode import least_cosine, profiles

ONE = {"8 words": "how do I cancel my order today", "200 words": "the weather in the north is cold " * 29}
STARTS = 3
REFERENCE = "sentence-transformers, torch float32"


class Contender:
    """A process that holds one model."""

    def __init__(self, library: str, folder: str, options: dict[str, Any], texts: Path, python: str) -> None:
        self._request = {"library": library, "folder": folder, "options": options, "texts": str(texts)}
        self._python = python
        self._process, self.start = self._started()

    def _started(self) -> tuple[Any, float]:
        script = Path(__file__).with_name("_contender.py")
        process = subprocess.Popen(
            [self._python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        return process, self._ask(process, self._request)["start"]

    @staticmethod
    def _ask(process: Any, request: dict[str, Any]) -> dict[str, float]:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("a contender ended before it answered")
        return json.loads(line)

    def ask(self, **request: Any) -> dict[str, float]:
        """Return the answer to a request."""
        return self._ask(self._process, request)

    def starts(self, times: int) -> float:
        """Return the median seconds of fresh processes until the first vector, this one's included."""
        found = [self.start]
        for _ in range(times - 1):
            process, seconds = self._started()
            process.stdin.close()
            process.wait()
            found.append(seconds)
        return statistics.median(found)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def exported(model: str, scratch: Path, texts: list[str]) -> None:
    """Write the graphs that contenders run."""
    import fourfold

    loaded = fourfold.SentenceTransformer(model, device="cpu")
    fourfold.export(loaded, scratch / "published", "onnx")
    for kind in ("onnx", "openvino"):
        for precision in ("float32", "int8"):
            fourfold.export(
                loaded, scratch / f"{kind}-{precision}", kind, whole=True, precision=precision, texts=texts
            )  # fmt: skip
    from fourfold.runtimes.export import convert

    convert(scratch / "published" / "onnx" / "model.onnx", scratch / "published" / "openvino" / "openvino_model.xml")
    # fastembed cuts texts where this file says, the others where the model does.
    file = scratch / "published" / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**settings, "max_length": loaded.max_seq_length}), encoding="utf-8")


def contenders(model: str, scratch: Path, rival: str | None) -> dict[str, tuple[str, str, dict[str, Any], str]]:
    """Return library, folder, options and interpreter of each contender, the reference first."""
    here = sys.executable
    hint = "INFERENCE_PRECISION_HINT"

    def graph(kind: str, precision: str, **ov_config: str) -> tuple[str, str, dict[str, Any], str]:
        options: dict[str, Any] = {"backend": kind}
        if ov_config:
            options["model_kwargs"] = {"ov_config": ov_config}
        return "fourfold.load", str(scratch / f"{kind}-{precision}"), options, here

    found: dict[str, tuple[str, str, dict[str, Any], str]] = {
        REFERENCE: ("sentence_transformers", model, {}, here),
        "fourfold, torch float32": ("fourfold.load", model, {"backend": "torch"}, here),
        "fourfold, torch bfloat16": ("fourfold.load", model, {"backend": "torch", "dtype": "bfloat16"}, here),
        "fourfold, onnx float32": graph("onnx", "float32"),
        "fourfold, onnx int8": graph("onnx", "int8"),
        "fourfold, openvino float32": graph("openvino", "float32", **{hint: "f32"}),
        "fourfold, openvino bfloat16": graph("openvino", "float32", **{hint: "bf16"}),
        "fourfold, openvino int8": graph("openvino", "int8"),
    }
    if rival is not None:
        published = str(scratch / "published")
        found["sentence-transformers, openvino"] = ("sentence_transformers", published, {"backend": "openvino"}, rival)
        found["fastembed, onnx float32"] = ("fastembed", published, {}, rival)
    return found


def measured(running: dict[str, Contender], names: list[str], rounds: int, scratch: Path) -> dict[str, Any]:
    """Return the seconds of each contender and profile, in turn, and where its vectors are."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for profile in names:
        for number in range(rounds + 1):
            for label, contender in running.items():
                save = str(scratch / f"{abs(hash(label))}-{profile}.npy") if not number else None
                taken = contender.ask(what="encode", profile=profile, save=save)["seconds"]
                if number:
                    seconds.setdefault((label, profile), []).append(taken)
                print(profile, number, label, f"{taken:.2f}", file=sys.stderr, flush=True)
    return seconds


def similarity(label: str, running: dict[str, Contender], data: list[tuple[str, str, float]], scratch: Path) -> float:
    """Return the Spearman correlation of cosines with people's scores, of pairs that are one profile."""
    from fourfold.metrics.correlation import spearman

    path = scratch / "sts.npy"
    running[label].ask(what="encode", profile="sts", save=str(path))
    vectors = np.load(path).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = vectors[: len(data)], vectors[len(data) :]
    return spearman((first * second).sum(1), np.array([score for _, _, score in data]))


def sts(folder: Path) -> list[tuple[str, str, float]]:
    """Return the pairs of STS-B's test part with their scores."""
    import csv
    import gzip

    with gzip.open(folder / "test.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return [(row["sentence1"], row["sentence2"], float(row["score"])) for row in csv.DictReader(file)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared" / "data")
    parser.add_argument("--texts", type=int, default=200, help="texts a profile")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="contenders beside the first, by a part of their names; default: all")
    parser.add_argument("--rival", help="interpreter of an environment with optimum-intel and fastembed")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    from tokenizers import Tokenizer

    model = str(common.minilm())
    texts = common.read_lines(arguments.data / "texts" / "mixed_20k.txt.gz")
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_padding()

    def ids(rows: list[str], **options: Any) -> dict[str, list[list[int]]]:
        tokenizer.enable_truncation(options["max_length"])
        return {"input_ids": [encoding.ids for encoding in tokenizer.encode_batch(rows)]}

    chosen = {name: rows for name, (rows, _) in profiles(texts, ids, arguments.texts).items()}
    pairs = sts(arguments.data / "stsb")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        exported(model, scratch, texts[-100:])
        file = scratch / "texts.json"
        sentences = [first for first, _, _ in pairs] + [second for _, second, _ in pairs]
        file.write_text(json.dumps({**chosen, "sts": sentences}), encoding="utf-8")
        running = {
            label: Contender(library, place, options, file, python)
            for label, (library, place, options, python) in contenders(model, scratch, arguments.rival).items()
            if arguments.only is None or label == REFERENCE or any(part in label for part in arguments.only)
        }
        parts = measure(running, list(chosen), arguments.rounds, pairs, scratch)
        for contender in running.values():
            contender.close()
    import onnxruntime
    import openvino

    versions = {"onnxruntime": onnxruntime.__version__, "openvino": openvino.__version__.partition("-")[0]}
    limits = common.gemm_limits()
    common.report([
        "# Backends: one model on torch, ONNX and OpenVINO",
        (
            f"Made by `python {' '.join(sys.argv)}`: each contender in a process of its own, in turn, medians of "
            f"{arguments.rounds} rounds of {arguments.texts} texts a profile. all-MiniLM-L6-v2 on the CPU; int8 of "
            "OpenVINO is calibrated with 100 other texts of the same file. Ratios are to the first row."
        ),
        "\n".join(f"- {key}: {value}" for key, value in {**common.machine(), **versions}.items()),
        "\n".join(f"- float32 products, {name}: {rate:.0f} GFLOP/s" for name, rate in limits.items()),
        *parts,
    ], arguments.output)  # fmt: skip


def measure(
    running: dict[str, Contender], names: list[str], rounds: int, pairs: list[tuple[str, str, float]], scratch: Path
) -> list[str]:
    """Return the report's tables."""
    seconds = measured(running, names, rounds, scratch)
    rows = []
    for profile in names:
        slow = seconds[REFERENCE, profile]
        base = np.load(scratch / f"{abs(hash(REFERENCE))}-{profile}.npy")
        for label in running:
            fast = seconds[label, profile]
            vectors = np.load(scratch / f"{abs(hash(label))}-{profile}.npy").astype(np.float32)
            lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(base, axis=1)
            mean = float(((vectors * base).sum(1) / lengths).mean())
            rows.append([
                profile, label, f"{len(vectors) / statistics.median(fast):.0f}", f"{common.ratio(slow, fast):.2f}",
                f"{least_cosine(vectors, base):.4f}", f"{mean:.4f}",
            ])  # fmt: skip
    singles = []
    for label, contender in running.items():
        taken = [contender.ask(what="one", text=text, times=50)["seconds"] for text in ONE.values()]
        singles.append((label, taken))
    one = [
        [label, *(f"{1e3 * value:.2f} ({base / value:.2f}x)" for value, base in zip(taken, singles[0][1], strict=True))]
        for label, taken in singles
    ]  # fmt: skip
    rest = [
        [label, f"{contender.ask(what='memory')['memory']:.0f}", f"{contender.starts(STARTS):.2f}",
         f"{similarity(label, running, pairs, scratch):.4f}"]
        for label, contender in running.items()
    ]  # fmt: skip
    columns = ["profile", "contender", "texts/s", "times faster", "least cosine", "mean cosine"]
    return [
        "## Throughput", common.table(columns, rows),
        "## One text (milliseconds, median of 50)", common.table(["contender", *ONE], one),
        "## Memory, start and quality",
        common.table(["contender", "peak MB above the empty process", "s to the first vector", "STS-B Spearman"], rest),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
