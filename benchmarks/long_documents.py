"""What cutting long documents does to retrieval: whole texts, chunks each alone, late chunks.

    python benchmarks/long_documents.py --data ../shared/data [--output benchmarks/results/long_documents.md]

Documents are made by joining paragraphs whose questions are known: in XQuAD (English) five neighbours from one article,
of which each may need the others to be understood; in MedQuAD five answers drawn at random, which have nothing to do
with each other; of each set the first 240. A document counts as found by its best chunk. The passage is the chunk that
shares most characters with the paragraph that answers.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fourfold
from _common import machine, minilm, report, table

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TOGETHER = 5
MOST = 240
JOINT = "\n\n"


@dataclass
class Task:
    """Long documents, and questions with the span that answers each.

    Attributes:
        documents: The texts.
        paragraphs: Spans of each document's paragraphs.
        questions: The questions.
        answers: Document and start and stop of the paragraph that answers each question.
    """

    documents: list[str]
    paragraphs: list[list[tuple[int, int]]]
    questions: list[str]
    answers: list[tuple[int, int, int]]


def lines_of(path: Path) -> list[dict[str, str]]:
    """Return the objects of a gzipped JSON Lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def task(folder: Path, language: str = "", shuffle: bool = False) -> Task:
    """Join the paragraphs of a retrieval set into documents."""
    corpus = lines_of(folder / f"corpus{language}.jsonl.gz")
    if shuffle:
        random.Random(0).shuffle(corpus)
    corpus = corpus[:MOST]
    texts = {row["_id"]: row["text"] for row in lines_of(folder / f"queries{language}.jsonl.gz")}
    documents, paragraphs, where = [], [], {}
    for at in range(0, len(corpus), TOGETHER):
        document, spans = "", []
        for row in corpus[at : at + TOGETHER]:
            start = len(document)
            document += row["text"] + JOINT
            spans.append((start, start + len(row["text"])))
            where[row["_id"]] = (len(documents), *spans[-1])
        documents.append(document.removesuffix(JOINT))
        paragraphs.append(spans)
    questions, answers = [], []
    with (folder / "qrels.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["corpus-id"] in where:
                questions.append(texts[row["query-id"]])
                answers.append(where[row["corpus-id"]])
    return Task(documents, paragraphs, questions, answers)


def shared(a: tuple[int, int], b: tuple[int, int]) -> int:
    """Return how many characters two spans share."""
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def scores(found: list[Any], asked: np.ndarray, work: Task) -> list[float]:
    """Return how often document and passage come first, and the passage among the first five, in percent.

    Args:
        found: A ``ChunkedText`` a document.
        asked: float32 ``[questions, width]``.
        work: The task.
    """
    owner = np.repeat(np.arange(len(found)), [len(chunks) for chunks in found])
    spans = np.concatenate([chunks.offsets for chunks in found])
    ranking = np.argsort(-(asked @ np.concatenate([chunks.vectors for chunks in found]).T), axis=1, kind="stable")
    document = passage = among = 0
    for row, (right, start, stop) in zip(ranking, work.answers, strict=True):
        rows = np.flatnonzero(owner == right)
        overlap = [shared((start, stop), tuple(spans[i])) for i in rows]
        best = rows[int(np.argmax(overlap))]
        document += owner[row[0]] == right
        passage += row[0] == best
        among += best in row[:5]
    return [100 * count / len(asked) for count in (document, passage, among)]


def whole(encoder: Any, documents: list[str]) -> list[Any]:
    """Return each document as one chunk, cut where the model cuts it."""
    return encoder.encode_chunks(documents, spans=[[(0, len(text))] for text in documents], normalize_embeddings=True)


def measure(encoder: Any, work: Task, can_be_late: bool) -> list[list[str]]:
    """Return a row of the table for each way of cutting."""
    asked = encoder.encode(work.questions, normalize_embeddings=True)
    ways: dict[str, dict[str, Any]] = {}
    for how in ({}, {"late": True}) if can_be_late else ({},):
        kind = "late" if how else "alone"
        for size in (64, 128):
            ways[f"{size} tokens, {kind}"] = {"size": size, **how}
        if not how:
            ways["128 tokens, overlap 32, alone"] = {"size": 128, "overlap": 32}
        ways[f"paragraphs, {kind}"] = {"spans": work.paragraphs, **how}
    rows = []
    for name, how in {"whole text": None, **ways}.items():
        if how is None:
            found = whole(encoder, work.documents)
        else:
            found = encoder.encode_chunks(work.documents, normalize_embeddings=True, **how)
        document, passage, among = scores(found, asked, work)
        cells = ["-", "-"] if how is None else [f"{passage:.1f}", f"{among:.1f}"]
        print(f"{name}: {document:.1f}", flush=True)
        rows.append([name, str(sum(map(len, found))), f"{document:.1f}", *cells])
    return rows


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    works = {
        "XQuAD, five paragraphs of an article": task(arguments.data / "xquad", ".en"),
        "MedQuAD, five answers at random": task(arguments.data / "medquad_dev", shuffle=True),
    }
    encoders = {
        "built-in model": (fourfold.load(), False),
        "all-MiniLM-L6-v2": (fourfold.load(str(minilm()), backend="torch", device="cpu"), True),
    }
    parts = ["# Long documents", "`python benchmarks/long_documents.py --data ../shared/data`"]
    parts.append(table(["machine", ""], [[name, value] for name, value in machine().items()]))
    header = ["chunks", "number", "document first", "passage first", "passage among 5"]
    for title, work in works.items():
        words = sum(len(text.split()) for text in work.documents) // len(work.documents)
        parts.append(
            f"## {title}\n\n{len(work.documents)} documents, {words} words each; {len(work.questions)} questions."
        )
        for name, (encoder, can_be_late) in encoders.items():
            parts.append(f"### {name}\n\n" + table(header, measure(encoder, work, can_be_late)))
    report(parts, arguments.output)


if __name__ == "__main__":
    main()
