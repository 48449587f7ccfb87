"""What a question costs by a bi-encoder, by a cross encoder and by both, for ever more documents; draws the curves.

    python benchmarks/choosing.py --output benchmarks/results/choosing.md --plot docs/images/cost.svg

Both models have all-MiniLM-L6-v2's body; documents are abstracts (scifact). The bi-encoder's vectors of the documents
exist already when the question comes; beyond the abstracts there are, they are repeated with noise.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parent))

import _common as common
from rerank import folder_of_model, read

RERANKED = 50
# A cross encoder is not asked about more documents than this: the curve is a straight line by then.
MOST_PAIRS = 1000


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Return the median time of a call, after one that warms up."""
    run()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure(data: Path, counts: list[int], rounds: int, scratch: Path) -> tuple[list[list[str]], dict[str, list]]:
    """Return the rows of the table, and the points of each curve."""
    import torch

    from fourfold import CrossEncoder, SentenceTransformer
    from fourfold.util import semantic_search

    dense = SentenceTransformer(str(common.minilm()), device="cpu")
    cross = CrossEncoder(folder_of_model(scratch / "cross"), device="cpu")
    documents = [f"{row['title']} {row['text']}" for row in read(data / "scifact" / "corpus.jsonl.gz")]
    question = read(data / "scifact" / "queries.jsonl.gz")[0]["text"]
    known = dense.encode(documents, convert_to_tensor=True)
    query = dense.encode_query(question, convert_to_tensor=True)
    # The same documents are read whatever was searched: their lengths are not what this is about.
    nearest = [documents[hit["corpus_id"]] for hit in semantic_search(query, known, top_k=RERANKED)[0]]
    curves: dict[str, list] = {"bi-encoder": [], "both": [], "cross encoder": []}
    rows = []
    for count in counts:
        torch.manual_seed(0)
        vectors = known.repeat(-(-count // len(known)), 1)[:count]
        vectors = torch.nn.functional.normalize(vectors + torch.randn_like(vectors) / 1000)

        def found(top, vectors=vectors):
            query = dense.encode_query(question, convert_to_tensor=True)
            return [hit["corpus_id"] for hit in semantic_search(query, vectors, top_k=top)[0]]

        def reranked(found=found):
            return cross.rank(question, nearest[: len(found(RERANKED))])

        curves["bi-encoder"].append((count, seconds(lambda found=found: found(10), rounds)))
        curves["both"].append((count, seconds(reranked, rounds)))
        if count <= MOST_PAIRS:
            once = 1 if count > 200 else rounds
            curves["cross encoder"].append((count, seconds(lambda n=count: cross.rank(question, documents[:n]), once)))
        by = {name: dict(points).get(count) for name, points in curves.items()}
        rows.append([
            f"{count:,}",
            *("not run" if took is None else f"{took:.4f}" for took in by.values()),
            "1", f"1 + {min(count, RERANKED)}", f"{count:,}",
        ])  # fmt: skip
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows, curves


def draw(curves: dict[str, list], path: Path) -> None:
    """Draw the curves on logarithmic axes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fourfold"  # the same picture from the same numbers
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    marks = {"bi-encoder": "o", "both": "s", "cross encoder": "^"}
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker=marks[name], label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="documents", ylabel="seconds a question",
        title="What a question costs (MiniLM, abstracts of 250 tokens, two cores)",
    )  # fmt: skip
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared" / "data")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 30, 100, 300, 1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows, curves = measure(arguments.data, arguments.counts, arguments.rounds, Path(scratch))
    if arguments.plot is not None:
        draw(curves, arguments.plot)
    columns = "documents | bi-encoder, s | both, s | cross encoder, s | calls: bi-encoder | both | cross encoder"
    common.report(
        [
            "# What a question costs: bi-encoder, cross encoder, both",
            f"Made by `python {' '.join(sys.argv)}`: medians of {arguments.rounds} rounds, one question at a time.",
            __doc__.split("\n\n")[2].replace("\n", " ").strip(),
            (
                f"Both: the bi-encoder finds {RERANKED}, the cross encoder sorts them. Calls are inputs that a model "
                "runs for one question."
            ),
            "\n".join(f"- {key}: {value}" for key, value in common.machine().items()),
            common.table(columns.split(" | "), rows),
        ],
        arguments.output,
    )


if __name__ == "__main__":
    main()
