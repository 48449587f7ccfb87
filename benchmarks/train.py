"""Train with fourfold and with sentence-transformers: the same pairs, batches and arguments, in turn; print ratios.

    python benchmarks/train.py --data ../shared/data --output benchmarks/results/train.md

all-MiniLM-L6-v2 with in-batch negatives, by each library's own trainer, a process of its own for every run. A step is
what a user waits for: tokenising, both columns there and back, the optimizer. "Mixed" pairs are texts of all lengths
up to 256 tokens; of "equal" ones every text has 64 tokens, so that padding costs nothing.
"""

from __future__ import annotations

import argparse
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

RUN = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import torch
from datasets import Dataset
from transformers import TrainerCallback

run = json.loads(sys.argv[1])

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

library = __import__(run["library"])
if run["library"] == "fourfold":
    from fourfold import losses
else:
    from sentence_transformers.sentence_transformer import losses

class Clock(TrainerCallback):
    seconds = []

    def on_step_end(self, args, state, control, **kwargs):
        # The whole of a step: from the end of one to the end of the next.
        self.seconds.append(time.perf_counter())

pairs = json.load(open(run["pairs"]))
model = library.SentenceTransformer(run["model"], device=run["device"])
model.max_seq_length = run["longest"]
loss = getattr(losses, run["loss"])(model, **run["loss_options"])
arguments = library.SentenceTransformerTrainingArguments(
    output_dir=run["output"], report_to="none", per_device_train_batch_size=run["batch"], max_steps=run["steps"],
    save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=run["device"] == "cpu", bf16=run["bf16"],
)
clock = Clock()
trainer = library.SentenceTransformerTrainer(
    model, arguments, train_dataset=Dataset.from_dict(pairs), loss=loss, callbacks=[clock]
)
loaded = status("VmRSS")
result = trainer.train()
seconds = [b - a for a, b in zip(clock.seconds, clock.seconds[1:])]
peak = status("VmHWM") - loaded
if run["device"] == "cuda":
    peak = torch.cuda.max_memory_allocated() / 2**20
print(json.dumps({"seconds": seconds, "peak": peak, "loss": result.training_loss}))
"""


def pairs_of(texts: list[str], tokenizer: object, rows: int) -> dict[str, tuple[dict[str, list[str]], int, list[int]]]:
    """Return the pairs of each profile, the longest text in tokens, and the lengths of all texts."""
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=256)["input_ids"]]
    mixed = texts[: 2 * rows], 256, lengths[: 2 * rows]
    equal = [text for text, length in zip(texts, lengths, strict=True) if length >= 64][: 2 * rows]
    chosen = {"mixed": mixed, "equal": (equal, 64, [64] * len(equal))}
    return {
        name: ({"anchor": some[::2], "positive": some[1::2]}, longest, sizes)
        for name, (some, longest, sizes) in chosen.items()
    }


def contenders(device: str, bf16: bool) -> dict[str, tuple[str, bool, dict[str, int] | None]]:
    """Return what is run: library, whether in bfloat16, and options of the cached loss, if that is meant."""
    found: dict[str, tuple[str, bool, dict[str, int] | None]] = {
        "sentence-transformers": ("sentence_transformers", False, None),
        "fourfold": ("fourfold", False, None),
        "sentence-transformers, cached": ("sentence_transformers", False, {"mini_batch_size": 8}),
        "fourfold, cached": ("fourfold", False, {"mini_batch_size": 8}),
    }
    if bf16:
        found["sentence-transformers, bfloat16"] = ("sentence_transformers", True, None)
        found["fourfold, bfloat16"] = ("fourfold", True, None)
    return found


def measure(arguments: argparse.Namespace, folder: Path) -> list[list[str]]:
    """Return the rows of the table."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(common.minilm())
    config = transformers.AutoConfig.from_pretrained(common.minilm())
    texts = common.read_lines(arguments.data / "texts" / "mixed_20k.txt.gz")
    limit = max(common.gemm_limits().values())
    rows = []
    for profile, (pairs, longest, lengths) in pairs_of(texts, tokenizer, arguments.batch * arguments.steps).items():
        file = folder / f"{profile}.json"
        file.write_text(json.dumps(pairs))
        runs: dict[str, list[dict[str, object]]] = {}
        for _ in range(arguments.rounds):
            for name, (library, bf16, cached) in contenders(arguments.device, arguments.bf16).items():
                run = {
                    "library": library, "model": str(common.minilm()), "pairs": str(file), "batch": arguments.batch,
                    "steps": arguments.steps, "longest": longest, "device": arguments.device, "bf16": bf16,
                    "output": str(folder / "run"), "loss_options": cached or {},
                    "loss": "CachedMultipleNegativesRankingLoss" if cached else "MultipleNegativesRankingLoss",
                }  # fmt: skip
                runs.setdefault(name, []).append(common.child(RUN, json.dumps(run)))
        # There and back again is three times the way there.
        needed = 3 * flops(config, lengths) / len(lengths) * 2 * arguments.batch / (limit * 1e9)
        rows += [row(profile, name, runs, needed, arguments.device) for name in runs]
    return rows


def row(profile: str, name: str, runs: dict[str, list[dict[str, object]]], needed: float, device: str) -> list[str]:
    """Return a row: the median step, how many times faster and smaller than sentence-transformers' run alike."""
    rival = name.replace("fourfold", "sentence-transformers")
    medians = [statistics.median(run["seconds"]) for run in runs[name]]
    theirs = [statistics.median(run["seconds"]) for run in runs[rival]]
    peak = statistics.median(run["peak"] for run in runs[name])
    other = statistics.median(run["peak"] for run in runs[rival])
    return [
        profile, name, f"{statistics.median(medians):.2f}", f"{common.ratio(theirs, medians):.2f}",
        "" if device == "cuda" else f"{needed / statistics.median(medians):.0%}", f"{peak:,.0f}", f"{peak / other:.2f}",
        f"{runs[name][0]['loss']:.4f}",
    ]  # fmt: skip


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared" / "data")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="also train under autocast to bfloat16")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments, Path(folder))
    command = " ".join(["python", "benchmarks/train.py", *sys.argv[1:]])
    header = ["pairs", "contender", "s/step", "times faster", "of the GEMM limit", "peak MB", "of theirs", "loss"]
    common.report(
        [
            "# Training: fourfold beside sentence-transformers",
            (
                f"Made by `{command}`: {arguments.batch} pairs a step, {arguments.steps} steps a run, the first not "
                f"counted, {arguments.rounds} runs each in turn, medians. Peak memory is what a run adds to the loaded "
                "model, the optimizer's state included. The limit is that of float32 products."
            ),
            " ".join((__doc__ or "").split("\n\n")[-1].split()),
            "\n".join(f"- {name}: {value}" for name, value in common.machine().items()),
            common.table(header, rows),
        ],
        arguments.output,
    )


if __name__ == "__main__":
    main()
