"""Measure the shipped weights: nDCG@10 of words, meaning and both on five retrieval sets, and three sanity checks.

    python -m recipes.evaluate --data ../shared/data --model src/fourfold/builtin

A document is its title and text, a query its text; every relevant document has gain 1. "bm25" is Lucene's BM25 without
the prior, "lexical" with it. The teacher's numbers are those of the 256-token transformer, computed with `--teacher`
(minutes) or else the recorded ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from recipes import permitted
from recipes.search import Dense, Lexical, feedback, fuse

SETS = ("scifact", "cranfield", "cacm", "cisi", "medquad_dev", "xquad")
MEAN_OVER = 5  # xquad is left out: the teacher was trained on its source
RECORDED = {"scifact": 64.51, "cranfield": 50.90, "cacm": 41.01, "cisi": 42.07, "medquad_dev": 78.29, "xquad": 94.33}
COLUMNS = ("bm25", "lexical", "dense", "hybrid", "feedback", "teacher")


def load_set(data: Path, name: str) -> tuple[list[str], list[str], list[set[int]]]:
    """Return documents, judged queries, and the relevant documents of each query by position."""
    folder, language = data / name, ".en" if name == "xquad" else ""
    documents = list(permitted.read_jsonl(folder / f"corpus{language}.jsonl.gz"))
    position = {row["_id"]: number for number, row in enumerate(documents)}
    relevant: dict[str, set[int]] = {}
    judgements = folder / ("qrels.test.tsv" if name == "scifact" else "qrels.tsv")
    for line in judgements.read_text(encoding="utf-8").splitlines()[1:]:
        query, document, _ = line.split("\t")
        relevant.setdefault(query, set()).add(position[document])
    queries = [r for r in permitted.read_jsonl(folder / f"queries{language}.jsonl.gz") if r["_id"] in relevant]
    texts = [(row.get("title", "") + " " + row["text"]).strip() for row in documents]
    return texts, [row["text"] for row in queries], [relevant[row["_id"]] for row in queries]


def ndcg(scores: NDArray[np.float32], relevant: list[set[int]], cut: int = 10) -> float:
    """Return the mean nDCG of the best `cut` documents, times 100."""
    discount = 1 / np.log2(np.arange(2, cut + 2))
    values = []
    for row, wanted in zip(scores, relevant, strict=True):
        gains = [number in wanted for number in np.argsort(-row, kind="stable")[:cut].tolist()]
        values.append((gains * discount[: len(gains)]).sum() / discount[: min(cut, len(wanted))].sum())
    return 100 * float(np.mean(values))


def teacher_scores(documents: list[str], queries: list[str]) -> NDArray[np.float32]:
    """Return the cosines of the transformer itself."""
    from sentence_transformers import SentenceTransformer

    from recipes.teacher import teacher_folder

    model = SentenceTransformer(str(teacher_folder()), device="cpu")
    return model.encode(queries, normalize_embeddings=True) @ model.encode(documents, normalize_embeddings=True).T


def measure(data: Path, name: str, dense: Dense, lexical: Lexical, teacher: bool) -> list[float]:
    """Return one line of the table."""
    documents, queries, relevant = load_set(data, name)
    index = lexical.index(documents)
    words = np.stack([index.scores(query) for query in queries])
    plain = np.stack([index.scores(query, prior=False) for query in queries])
    passages, asked = dense.encode(documents), dense.encode(queries)
    meaning = asked @ passages.T
    both = fuse(words, meaning)
    again = fuse(words, feedback(asked, passages, both) @ passages.T)
    line = [ndcg(scores, relevant) for scores in (plain, words, meaning, both, again)]
    return [*line, ndcg(teacher_scores(documents, queries), relevant) if teacher else RECORDED[name]]


def sanity(data: Path, dense: Dense) -> dict[str, float]:
    """Return Spearman on stsb dev and mean average precision on trecqa test for the dense model alone."""
    rows = list(permitted.read_csv(data / "stsb" / "dev.csv.gz"))
    first, second = (dense.encode([row[name] for row in rows]) for name in ("sentence1", "sentence2"))
    likeness = spearmanr((first * second).sum(axis=1), [float(row["score"]) for row in rows]).statistic
    precisions = []
    for row in permitted.read_jsonl(data / "trecqa" / "test.jsonl.gz"):
        scores = dense.encode([*row["positive"], *row["negative"]]) @ dense.encode([row["query"]])[0]
        right = np.arange(len(scores)) < len(row["positive"])
        right = right[np.lexsort((right, -scores))]  # ties count against the model
        precisions.append(((right.cumsum() / np.arange(1, len(right) + 1)) * right).sum() / right.sum())
    return {"stsb dev Spearman": 100 * float(likeness), "trecqa test MAP": 100 * float(np.mean(precisions))}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", type=Path, default=Path("src/fourfold/builtin"))
    parser.add_argument("--teacher", action="store_true", help="run the teacher instead of printing recorded numbers")
    args = parser.parse_args()
    dense, lexical = Dense(args.model / "dense"), Lexical(args.model / "lexical")
    lines = {name: measure(args.data, name, dense, lexical, args.teacher) for name in SETS}
    lines["mean of 5"] = np.mean([lines[name] for name in SETS[:MEAN_OVER]], axis=0).tolist()
    print("| set | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")
    for name in (*SETS[:MEAN_OVER], "mean of 5", *SETS[MEAN_OVER:]):
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in lines[name]) + " |")
    for name, value in sanity(args.data, dense).items():
        print(f"{name}: {value:.2f}")


if __name__ == "__main__":
    main()
