"""Rerank with fourfold's CrossEncoder and with sentence-transformers', on the same pairs, in turn, and print ratios.

    python benchmarks/rerank.py --data ../shared/data --output benchmarks/results/rerank.md

all-MiniLM-L6-v2's body with a random head costs what ms-marco-MiniLM-L6-v2 costs. Short pairs are questions with single
sentences (trecqa), long ones claims with abstracts (scifact), each question with as many documents.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parent))

import _common as common
from encode import flops

LONGEST = 512

MEMORY = """
import json, sys
library, folder, path = sys.argv[1:]

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

pairs = [tuple(pair) for pair in json.load(open(path, encoding="utf-8"))]
model = __import__(library).CrossEncoder(folder, device="cpu")
model.predict(pairs[:1])
before = status("VmRSS")
model.predict(pairs)
print(json.dumps({"loaded": before, "peak": status("VmHWM")}))
"""


def folder_of_model(folder: Path) -> str:
    """Write all-MiniLM-L6-v2 with a random head of one label, and return the folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(common.minilm(), num_labels=1)
    model.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(common.minilm())
    tokenizer.model_max_length = LONGEST
    tokenizer.save_pretrained(folder)
    return str(folder)


def read(path: Path) -> list[dict]:
    """Return the objects of a gzipped file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def profiles(
    data: Path, queries: int, documents: int, long_documents: int | None = None
) -> dict[str, list[tuple[str, str]]]:
    """Return pairs by profile: so many queries, each with so many documents, which may be fewer where they are long."""
    rows = [row for name in ("test", "dev", "train") for row in read(data / "trecqa" / f"{name}.jsonl.gz")]
    sentences = list(dict.fromkeys(text for row in rows for text in [*row["positive"], *row["negative"]]))
    abstracts = [f"{row['title']} {row['text']}" for row in read(data / "scifact" / "corpus.jsonl.gz")]
    claims = [row["text"] for row in read(data / "scifact" / "queries.jsonl.gz")]
    found = {}
    for name, asked, texts, count in (
        ("short", [row["query"] for row in rows], sentences, documents),
        ("long", claims, abstracts, documents if long_documents is None else long_documents),
    ):
        offered = itertools.cycle(texts)
        found[name] = [(query, next(offered)) for query in asked[:queries] for _ in range(count)]
    return found


def throughput(ours, fastest, theirs, chosen, rounds: int, limit: float) -> list[list[str]]:
    """Return a row for each profile and contender."""
    rows = []
    for profile, pairs in chosen.items():
        lengths = [min(len(ids), LONGEST) for ids in theirs.tokenizer(pairs)["input_ids"]]
        contenders = {
            "sentence-transformers": lambda pairs=pairs: theirs.predict(pairs),
            "fourfold": lambda pairs=pairs: ours.predict(pairs),
        }
        if fastest.dtype != ours.dtype:
            name = f"fourfold, {str(fastest.dtype).removeprefix('torch.')}"
            contenders[name] = lambda pairs=pairs: fastest.predict(pairs)
        seconds, results = common.alternate(contenders, rounds)
        reference = results["sentence-transformers"]
        for contender, taken in seconds.items():
            middle = statistics.median(taken)
            rows.append([
                profile, f"{statistics.mean(lengths):.0f}", contender, f"{len(pairs) / middle:.0f}",
                f"{common.ratio(seconds['sentence-transformers'], taken):.2f}",
                f"{flops(ours.config, lengths) / middle / 1e9 / limit:.0%}",
                f"{abs(results[contender] - reference).max():.1e}",
            ])  # fmt: skip
            print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def memory(folder: str, pairs: list[tuple[str, str]], scratch: Path) -> list[list[str]]:
    """Return the peak memory above the loaded model of a process that scores the pairs."""
    path = scratch / "pairs.json"
    path.write_text(json.dumps(pairs), encoding="utf-8")
    rows = []
    for library in ("sentence_transformers", "fourfold"):
        seen = common.child(MEMORY, library, folder, str(path))
        rows.append([library.replace("_", "-"), f"{seen['loaded']:.0f}", f"{seen['peak'] - seen['loaded']:.0f}"])
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared" / "data")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--documents", type=int, default=100, help="for each query")
    parser.add_argument("--long-documents", type=int, help="the same for long ones; --documents if left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    import transformers
    from sentence_transformers import CrossEncoder as Theirs

    from fourfold import CrossEncoder as Ours

    transformers.logging.disable_progress_bar()
    chosen = profiles(arguments.data, arguments.queries, arguments.documents, arguments.long_documents)
    limits = common.gemm_limits()
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder_of_model(Path(scratch, "model"))
        ours, theirs = Ours(folder, device="cpu"), Theirs(folder, device="cpu")
        fastest = Ours(folder, device="cpu", dtype="fastest")
        speed = throughput(ours, fastest, theirs, chosen, arguments.rounds, max(limits.values()))
        del ours, theirs, fastest
        peaks = memory(folder, chosen["long"][:500], Path(scratch))
    columns = "pairs | tokens a pair | contender | pairs/s | times faster | of the GEMM limit | largest difference"
    common.report(
        [
            "# Reranking: fourfold beside sentence-transformers",
            (
                f"Made by `python {' '.join(sys.argv)}`: in turn in one process, medians of {arguments.rounds} rounds; "
                f"{arguments.queries} queries with {arguments.documents} short documents each, and with "
                f"{arguments.long_documents or arguments.documents} long ones; pairs are cut at {LONGEST} tokens."
            ),
            __doc__.split("\n\n")[2].replace("\n", " ").strip(),
            (
                "The share of the GEMM limit counts the products that the model is made of. fourfold leaves some out: "
                "after the last attention only the first token of a pair is needed, up to an eighth of this model's "
                "products."
            ),
            "\n".join(f"- {key}: {value}" for key, value in common.machine().items()),
            "\n".join(f"- float32 products, {name}: {rate:.0f} GFLOP/s" for name, rate in limits.items()),
            common.table(columns.split(" | "), speed),
            "## Peak memory (MB; a process of its own, 500 long pairs)",
            common.table(["library", "model loaded", "above it"], peaks),
        ],
        arguments.output,
    )


if __name__ == "__main__":
    main()
