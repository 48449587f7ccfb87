"""Read the only real text the shipped weights may be fitted to.

MedQuAD (CC BY 4.0), BANKING77 (CC BY 4.0), CLINC150 (CC BY 3.0) and the labelled part of PubMedQA (MIT). Every other
set of the data folder is for measuring and is never opened from here.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

SENTENCE_END = re.compile(r"(?<=[.?!])\s+(?=[A-Z(])")


def read_jsonl(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a gzipped JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a gzipped CSV file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def pairs(data: Path) -> list[tuple[str, str]]:
    """Return the permitted (question, passage) pairs in file order."""
    rows = [row for name in ("medquad", "pubmedqa") for row in read_jsonl(data / "pairs" / f"{name}.jsonl.gz")]
    return [(row["anchor"], row["positive"]) for row in rows]


def short_texts(data: Path) -> list[str]:
    """Return the distinct questions and commands, each one sentence long."""
    texts = [question for question, _ in pairs(data)]
    for name in ("banking77_train", "banking77_test", "clinc150"):
        texts += [row["text"] for row in read_csv(data / "classification" / f"{name}.csv.gz")]
    return list(dict.fromkeys(texts))


def passages(data: Path) -> list[str]:
    """Return the distinct answers and abstracts."""
    return list(dict.fromkeys(passage for _, passage in pairs(data)))


def sentences(data: Path) -> list[str]:
    """Return the distinct sentences of the passages; templates repeat thousands of times, so each counts once."""
    found = (sentence for passage in passages(data) for sentence in SENTENCE_END.split(passage))
    return list(dict.fromkeys(sentence for sentence in found if len(sentence) > 15))
