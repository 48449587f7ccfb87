"""Rerank by a language model, what the pairs begin with computed once or with every pair, beside sentence-transformers.

    python benchmarks/rerank_llm.py --data ../shared/data --output benchmarks/results/rerank_llm.md

A Qwen3 of 8 layers and 512 numbers a token with random weights, and a chat template of the shape of Qwen3-Reranker's:
an instruction and the query come first, then the document. Short documents are single sentences (trecqa), long ones
abstracts (scifact).
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
from rerank import LONGEST, profiles

TEMPLATE = (
    "system Judge whether the document meets the requirements based on the query and the instruct provided. Note that "
    "the answer can only be yes or no. user instruct: given a web search query, retrieve relevant passages that answer "
    "the query. query: {{ messages[0]['content'] }} document: {{ messages[1]['content'] }} assistant"
)


def folder_of_model(folder: Path) -> str:
    """Write the model with MiniLM's tokenizer, which knows the words yes and no, and return the folder."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(common.minilm())
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=512, intermediate_size=1536, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, head_dim=64, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.model_max_length = LONGEST
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return str(folder)


def score_by_answer(model) -> None:
    """Make a model score by the logits of the words yes and no."""
    import torch

    model.activation_fn = torch.nn.Identity()
    ids = model.tokenizer.convert_tokens_to_ids(["yes", "no"])
    model[1].true_token_id, model[1].false_token_id = ids


def tokens_of(model, pairs) -> tuple[int, int]:
    """Return how many tokens pairs have, and how many of them run, over all batches of a call."""
    from fourfold.backends.torch import TorchBackend
    from fourfold.engine.run import LocalRunner
    from fourfold.families._running import budget_for

    backend = TorchBackend(model)
    window = backend.prepare(pairs)
    run = []
    backend.run = lambda batch: run.append(int(model[0].pack(batch)["packing"].offsets[-1]))
    for _ in LocalRunner(backend, budget_for(backend, 32)).outputs(window):
        pass
    return len(window.ids), sum(run)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared" / "data")
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--documents", type=int, default=50, help="for each query")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    import transformers
    from sentence_transformers import CrossEncoder as Theirs

    from fourfold import CrossEncoder as Ours

    transformers.logging.disable_progress_bar()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder_of_model(Path(scratch, "model"))
        ours, whole, theirs = Ours(folder, device="cpu"), Ours(folder, device="cpu"), Theirs(folder, device="cpu")
        for model in (ours, whole, theirs):
            score_by_answer(model)
        whole[0].shares_prefixes = lambda: False
        for profile, pairs in profiles(arguments.data, arguments.queries, arguments.documents).items():
            tokens, run = tokens_of(ours, pairs)
            contenders = {
                "sentence-transformers": lambda pairs=pairs: theirs.predict(pairs),
                "fourfold, every pair whole": lambda pairs=pairs: whole.predict(pairs),
                "fourfold": lambda pairs=pairs: ours.predict(pairs),
            }
            seconds, results = common.alternate(contenders, arguments.rounds)
            for contender, taken in seconds.items():
                predicted = f"{tokens / run:.2f}" if contender == "fourfold" else ""
                rows.append([
                    profile, f"{tokens / len(pairs):.0f}", contender, f"{len(pairs) / statistics.median(taken):.1f}",
                    f"{common.ratio(seconds['sentence-transformers'], taken):.2f}",
                    f"{common.ratio(seconds['fourfold, every pair whole'], taken):.2f}", predicted,
                    f"{abs(results[contender] - results['sentence-transformers']).max():.1e}",
                ])  # fmt: skip
                print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    columns = (
        "documents | tokens a pair | contender | pairs/s | times sentence-transformers | times whole pairs | "
        "tokens of whole pairs per token run | largest difference of a logit"
    )
    common.report(
        [
            "# Reranking by a language model: what pairs begin with, computed once",
            (
                f"Made by `python {' '.join(sys.argv)}`: in turn in one process, medians of {arguments.rounds} rounds; "
                f"{arguments.queries} queries with {arguments.documents} documents each, cut at {LONGEST} tokens."
            ),
            __doc__.split("\n\n")[2].replace("\n", " ").strip(),
            "\n".join(f"- {key}: {value}" for key, value in common.machine().items()),
            common.table(columns.split(" | "), rows),
        ],
        arguments.output,
    )


if __name__ == "__main__":
    main()
