"""`make demo`: search two folders and draw how alike a few sentences are, with the core of fourfold alone.

It uses no torch, no network and no model but the one inside the package, and touches nothing outside ./demo.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from pydoc_data.topics import topics

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
FOURFOLD = [sys.executable, "-m", "fourfold.cli.main"]

QUESTIONS = [
    "which statement jumps to the next round of a loop?",
    "print a number with two decimals",
    "how does fourfold avoid computing on padding?",
]
SENTENCES = [
    "A cat is asleep on the sofa.",
    "Two kittens are napping on the couch.",
    "The parliament votes on the new budget.",
    "Lawmakers will decide about public spending.",
    "How do I read a file line by line?",
    "Iterating over the lines of a text file",
]


def main() -> None:
    """Lay out texts, search them, draw a picture."""
    shutil.rmtree(DEMO, ignore_errors=True)
    lay_out()
    say(f"1. Texts: {len(topics)} chapters of Python's language reference and fourfold's own docs are now in ./demo")
    say("2. Three questions. The first search also reads every file and builds the index; the others find it there.")
    for question in QUESTIONS:
        run("search", question, "demo/python", "demo/fourfold", "-k", "2")
    say("3. How alike are six sentences? The numbers, and a picture.")
    sentences = DEMO / "sentences.txt"
    sentences.write_text("".join(f"{sentence}\n" for sentence in SENTENCES), encoding="utf-8")
    run("similarity", "demo/sentences.txt", "--png", "demo/similarity.png")
    say("Done. Look at demo/similarity.png, and ask something yourself:")
    say('   .venv-demo/bin/fourfold search "what is a generator?" demo/python')
    has_torch = importlib.util.find_spec("torch") is not None
    say("torch is installed here but was not used." if has_torch else "All of this ran without torch.")


def lay_out() -> None:
    """Write the chapters of ``pydoc_data.topics`` as text files, and copy the docs beside them."""
    python, own = DEMO / "python", DEMO / "fourfold"
    python.mkdir(parents=True)
    own.mkdir()
    for name, text in topics.items():
        (python / f"{name}.txt").write_text(text, encoding="utf-8")
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        shutil.copy(page, own / page.name)


def run(*arguments: str) -> None:
    """Run a fourfold command as a person would, showing it and how long it took."""
    shown = " ".join(f'"{part}"' if " " in part else part for part in arguments)
    say(f"\n$ fourfold {shown}")
    started = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*FOURFOLD, *arguments], cwd=ROOT, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    say(f"  ({time.perf_counter() - started:.2f} s)")


def say(text: str) -> None:
    """Narrate."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
