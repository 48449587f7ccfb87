"""Encode with fourfold's SparseEncoder and with sentence-transformers', on the same texts, in turn, and print ratios.

    python benchmarks/sparse.py --data ../shared/data --output benchmarks/results/sparse.md

Two SPLADE models. The small one is all-MiniLM-L6-v2's body with a masked-language-model head tied to its token vectors;
the large one has the size of BERT base. Their heads are untrained, which costs what a trained one does if as many terms
are active: the head's bias is set so that a text has 200 of them on average.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parent))

import _common as common
from encode import flops, profiles

ACTIVE = 200
LONGEST = 256

MEMORY = """
import json, sys
library, model, path, count = sys.argv[1:]

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

texts = open(path, encoding="utf-8").read().split("\\n")[: int(count)]
model = __import__(library).SparseEncoder(model, device="cpu")
model.encode(texts[0])
before = status("VmRSS")
model.encode(texts)
print(json.dumps({"loaded": before, "peak": status("VmHWM")}))
"""


def small(folder: Path) -> str:
    """Write all-MiniLM-L6-v2 as a masked language model and return the folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.BertForMaskedLM.from_pretrained(common.minilm())
    model.cls.predictions.transform.dense.weight.data.copy_(torch.eye(model.config.hidden_size))
    return _written(model, folder)


def large(folder: Path) -> str:
    """Write a random model of BERT base's size, with MiniLM's tokenizer, and return the folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    return _written(transformers.BertForMaskedLM(transformers.BertConfig()), folder)


def _written(model, folder: Path) -> str:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(common.minilm())
    tokenizer.model_max_length = LONGEST
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def calibrate(folder: str, texts: list[str]) -> None:
    """Lower the head's bias until a text has so many active terms on average."""
    import numpy as np
    import transformers

    from fourfold import SparseEncoder

    model = SparseEncoder(folder, device="cpu")
    # The activation is log1p(relu(x)): a high bias first, so that no logit is cut at zero.
    bias = model[0].model.get_output_embeddings().bias.data
    bias.fill_(100.0)
    rows = model.encode(texts, convert_to_sparse_tensor=False).double().expm1().numpy() - 100.0
    bias.fill_(-float(np.quantile(rows, 1 - ACTIVE / rows.shape[1])))
    model[0].model.save_pretrained(folder)
    transformers.AutoConfig.from_pretrained(folder)


def work(config, lengths: list[int]) -> float:
    """Return the floating-point operations of the matrix products of body and head."""
    per_token = 2 * config.hidden_size * (config.hidden_size + config.vocab_size)
    return flops(config, lengths) + per_token * sum(lengths)


def throughput(name, ours, fastest, theirs, chosen, rounds: int, limit: float) -> list[list[str]]:
    """Return a row for each profile and contender."""
    rows = []
    for profile, (texts, lengths) in chosen.items():
        contenders = {
            "sentence-transformers": lambda texts=texts: theirs.encode(texts),
            "fourfold": lambda texts=texts: ours.encode(texts),
            f"fourfold, {str(fastest.dtype).removeprefix('torch.')}": lambda texts=texts: fastest.encode(texts),
        }
        seconds, results = common.alternate(contenders, rounds)
        reference = results["sentence-transformers"].coalesce()
        for contender, taken in seconds.items():
            middle = statistics.median(taken)
            got = results[contender].coalesce()
            difference = (got.float() - reference).coalesce().values().abs().max()
            rows.append([
                name, profile, contender, f"{len(texts) / middle:.1f}",
                f"{common.ratio(seconds['sentence-transformers'], taken):.2f}",
                f"{work(ours.config, lengths) / middle / 1e9 / limit:.0%}", f"{difference:.1e}",
                f"{len(got.values()) / len(texts):.0f}",
            ])  # fmt: skip
            print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def memory(name: str, folder: str, texts: list[str], scratch: Path) -> list[list[str]]:
    """Return the peak memory above the loaded model of a process that encodes the texts."""
    path = scratch / "texts.txt"
    path.write_text("\n".join(text.replace("\n", " ") for text in texts), encoding="utf-8")
    rows = []
    for library in ("sentence_transformers", "fourfold"):
        seen = common.child(MEMORY, library, folder, str(path), str(len(texts)))
        rows.append([name, library.replace("_", "-"), f"{seen['loaded']:.0f}", f"{seen['peak'] - seen['loaded']:.0f}"])
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared" / "data")
    parser.add_argument("--texts", type=int, default=200, help="texts a profile")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=["small", "large"], choices=["small", "large"])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    import transformers
    from sentence_transformers import SparseEncoder as Theirs

    from fourfold import SparseEncoder as Ours

    transformers.logging.disable_progress_bar()
    texts = common.read_lines(arguments.data / "texts" / "mixed_20k.txt.gz")
    limits = common.gemm_limits()
    speed, peaks = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.models:
            folder = {"small": small, "large": large}[name](Path(scratch, name))
            calibrate(folder, texts[:20])
            ours, theirs = Ours(folder, device="cpu"), Theirs(folder, device="cpu")
            fastest = Ours(folder, device="cpu", dtype="fastest")
            chosen = profiles(texts, theirs.tokenizer, arguments.texts)
            speed += throughput(name, ours, fastest, theirs, chosen, arguments.rounds, max(limits.values()))
            del ours, theirs, fastest
            peaks += memory(name, folder, chosen["mixed"][0], Path(scratch))
    columns = "model | profile | contender | texts/s | times faster | of the GEMM limit | largest difference | active"
    common.report(
        [
            "# SPLADE: fourfold beside sentence-transformers",
            (
                f"Made by `python {' '.join(sys.argv)}`: in turn in one process, medians of {arguments.rounds} rounds; "
                f"{arguments.texts} texts a profile, cut at {LONGEST} tokens."
            ),
            __doc__.split("\n\n")[2].replace("\n", " ").strip(),
            "\n".join(f"- {key}: {value}" for key, value in common.machine().items()),
            "\n".join(f"- float32 products, {name}: {rate:.0f} GFLOP/s" for name, rate in limits.items()),
            common.table(columns.split(" | "), speed),
            "## Peak memory (MB; a process of its own, the mixed texts)",
            common.table(["model", "library", "model loaded", "above it"], peaks),
        ],
        arguments.output,
    )


if __name__ == "__main__":
    main()
