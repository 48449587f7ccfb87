"""Run trainings by both libraries, a process each, and write what they reached, how long they took and what they held.

python -m recipes.trainings.run --data ../shared/data --output recipes/trainings/results.md
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

NAMES = ("stsb", "pairs", "asymmetric", "splade", "reranker")
LIBRARIES = ("fourfold", "sentence_transformers")

# What is shown of all that evaluators say.
SHOWN = ("spearman", "ndcg@10", "_map", "document_active_dims", "corpus_active_dims")


def status(name: str) -> float:
    """Return a number of this process's memory in MB, where Linux tells it."""
    file = Path("/proc/self/status")
    lines = file.read_text().splitlines() if file.exists() else []
    return int(next((line for line in lines if line.startswith(name)), "x 0").split()[1]) / 1024


def one(name: str, library: str, data: Path) -> None:
    """Run one training here and print what came of it."""
    from recipes.trainings._library import Library

    warnings.simplefilter("ignore")
    recipe = importlib.import_module(f"recipes.trainings.{name}")
    with tempfile.TemporaryDirectory() as output:
        before, after, trainer = recipe.train(Library(library), data, output)
    history = trainer.state.log_history
    print(json.dumps({
        "before": before, "after": after, "seconds": history[-1]["train_runtime"], "steps": trainer.state.global_step,
        "peak": status("VmHWM"), "losses": [row["loss"] for row in history if "loss" in row],
    }))  # fmt: skip


def child(name: str, library: str, data: Path) -> dict[str, Any]:
    """Run one training in a process of its own."""
    command = [sys.executable, "-m", "recipes.trainings.run", "--data", str(data), "--one", library, name]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name} by {library} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def section(name: str, found: dict[str, dict[str, Any]]) -> str:
    """Return what a training came to, as Markdown."""
    recipe = importlib.import_module(f"recipes.trainings.{name}")
    lines = [f"## {name}", " ".join((recipe.__doc__ or "").split()), ""]
    lines += ["| measured | before | fourfold | sentence-transformers |", "| --- | --- | --- | --- |"]
    ours, theirs = (found[library] for library in LIBRARIES)
    for key, value in ours["before"].items():
        if any(part in key for part in SHOWN):
            row = [key, f"{value:.4f}", f"{ours['after'][key]:.4f}", f"{theirs['after'].get(key, float('nan')):.4f}"]
            lines.append(f"| {' | '.join(row)} |")
    for label, number in (
        ("seconds a step", lambda run: f"{run['seconds'] / run['steps']:.2f}"),
        ("peak memory, MB", lambda run: f"{run['peak']:,.0f}"),
        ("first and last logged loss", lambda run: f"{run['losses'][0]:.4f}, {run['losses'][-1]:.4f}"),
    ):
        lines.append(f"| {label} | | {number(ours)} | {number(theirs)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is named, or all, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", choices=LIBRARIES, help="run in this process, by this library alone")
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.names[0], arguments.one, arguments.data)
        return
    import torch

    sections = [
        "# Trainings",
        (
            f"By `python -m recipes.trainings.run {' '.join(arguments.names)}`, each in a process of its own, torch "
            f"{torch.__version__}, {torch.get_num_threads()} threads. Dropout draws differ "
            "between the libraries, and with them the last digits of what is reached."
        ),
    ]
    for name in arguments.names:
        found = {library: child(name, library, arguments.data) for library in LIBRARIES}
        sections.append(section(name, found))
        print(sections[-1], flush=True)
        if arguments.output:
            arguments.output.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
