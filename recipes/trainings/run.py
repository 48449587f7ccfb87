"""Run trainings by both libraries, a process each, and write what they reached, how long they took and what they held.

python -m recipes.trainings.run --data ../shared/data --output recipes/trainings/results.md

What a training came to is kept beside the page, in a JSON file of the same name, as soon as its process ends: a run
that was stopped goes on with what is missing. Trainings that are named run again.
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

from benchmarks._common import machine, table

from fourfold.store.files import write_json

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


def section(name: str, found: dict[str, Any]) -> str:
    """Return what a training came to, as Markdown."""
    recipe = importlib.import_module(f"recipes.trainings.{name}")
    ours, theirs = (found[library] for library in LIBRARIES)
    rows = [
        [key, f"{value:.4f}", f"{ours['after'][key]:.4f}", f"{theirs['after'].get(key, float('nan')):.4f}"]
        for key, value in ours["before"].items()
        if any(part in key for part in SHOWN)
    ]
    for label, number in (
        ("steps", lambda run: f"{run['steps']:,}"),
        ("seconds a step", lambda run: f"{run['seconds'] / run['steps']:.2f}"),
        ("peak memory, MB", lambda run: f"{run['peak']:,.0f}"),
        ("first and last logged loss", lambda run: f"{run['losses'][0]:.4f}, {run['losses'][-1]:.4f}"),
    ):
        rows.append([label, "", number(ours), number(theirs)])
    return "\n\n".join([
        f"## {name}",
        " ".join((recipe.__doc__ or "").split()),
        table(["measured", "before", "fourfold", "sentence-transformers"], rows),
        "On: " + ", ".join(f"{key} {value}" for key, value in found["machine"].items()) + ".",
    ])  # fmt: skip


def page(records: dict[str, Any]) -> str:
    """Return the page of all trainings that both libraries have run."""
    whole = [name for name in NAMES if all(library in records.get(name, {}) for library in LIBRARIES)]
    missing = [name for name in NAMES if name not in whole]
    parts = [
        "# Trainings",
        (
            "By `python -m recipes.trainings.run --output recipes/trainings/results.md`: each training by both "
            "libraries in turn, a process each. Dropout draws differ between the libraries, and with them the last "
            "digits of what is reached. Seconds are those of the training, without the measurements before and after."
        ),
        *(section(name, records[name]) for name in whole),
    ]
    if missing:
        parts.append(f"Not recorded yet: {', '.join(f'`{name}`' for name in missing)}.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run what is named, or what is missing, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], default=[], metavar="training", help=", ".join(NAMES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, help="a page of Markdown; its records lie beside it, as .json")
    parser.add_argument("--one", choices=LIBRARIES, help="run in this process, by this library alone")
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.names[0], arguments.one, arguments.data)
        return
    store = arguments.output.with_suffix(".json") if arguments.output else None
    records: dict[str, Any] = json.loads(store.read_text()) if store and store.exists() else {}
    for name in arguments.names:
        records.pop(name, None)
    for name in arguments.names or NAMES:
        for library in LIBRARIES:
            record = records.setdefault(name, {})
            if library in record:
                continue
            record[library] = child(name, library, arguments.data)
            record["machine"] = machine()
            if store:
                write_json(store, records, indent=1)
                arguments.output.write_text(page(records), encoding="utf-8")
        print(section(name, records[name]), flush=True)


if __name__ == "__main__":
    main()
