"""Encode with other architectures, and long texts, with fourfold and with sentence-transformers in turn.

    python benchmarks/architectures.py --data ../shared/data --output benchmarks/results/architectures.md

Each model has MiniLM's size (6 layers, width 384) and random weights, so that the ratio shows what the architecture's
code costs, and the tokenizer of all-MiniLM-L6-v2. Both libraries load the same folder, in float32, on the CPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parent))

import _common as common

LONGEST = 8192
_ENCODER = {
    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536,
    "max_position_embeddings": 512,
}  # fmt: skip
_DECODER = {**_ENCODER, "num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": LONGEST}
_ROBERTA = {**_ENCODER, "max_position_embeddings": 514, "type_vocab_size": 1}

# Name of the transformers config, and its arguments. What is left out has the config's own default.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("BertConfig", _ENCODER),
    "RoBERTa": ("RobertaConfig", _ROBERTA),
    "XLM-RoBERTa": ("XLMRobertaConfig", _ROBERTA),
    "DistilBERT": ("DistilBertConfig", {"dim": 384, "n_layers": 6, "n_heads": 12, "hidden_dim": 1536}),
    "ELECTRA": ("ElectraConfig", {**_ENCODER, "embedding_size": 128}),
    "ALBERT": ("AlbertConfig", {**_ENCODER, "embedding_size": 128}),
    "ModernBERT": ("ModernBertConfig", {**_ENCODER, "max_position_embeddings": LONGEST}),
    "Qwen3": ("Qwen3Config", _DECODER),
    "Gemma 3": ("Gemma3TextConfig", {**_DECODER, "query_pre_attn_scalar": 32}),
    "Llama": ("LlamaConfig", _DECODER),
    "MPNet": ("MPNetConfig", {**_ENCODER, "max_position_embeddings": 514}),
    "DeBERTa-v2": (
        "DebertaV2Config", {**_ENCODER, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "T5": ("T5Config", {"d_model": 384, "d_kv": 32, "d_ff": 1536, "num_layers": 6, "num_heads": 12}),
    "MobileBERT": (
        "MobileBertConfig", {"hidden_size": 384, "num_hidden_layers": 6, "intra_bottleneck_size": 128},
    ),
}  # fmt: skip
# What reads texts of thousands of tokens.
READS_LONG_TEXTS = ("ModernBERT", "Qwen3")


def build(name: str, folder: Path, pad_id: int, size: int) -> Path:
    """Write a random model of an architecture as a folder that both libraries load."""
    import torch
    import transformers

    kind, options = ARCHITECTURES[name]
    config = getattr(transformers, kind)(
        vocab_size=size, pad_token_id=pad_id, bos_token_id=101, eos_token_id=102, **options
    )
    torch.manual_seed(0)
    model = transformers.T5EncoderModel(config) if name == "T5" else transformers.AutoModel.from_config(config)
    target = folder / name.replace(" ", "")
    model.save_pretrained(target)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(common.minilm()))
    names = type(model).forward.__code__.co_varnames
    tokenizer.model_input_names = [key for key in tokenizer.model_input_names if key in names]
    tokenizer.model_max_length = LONGEST if name in READS_LONG_TEXTS else 512
    tokenizer.save_pretrained(target)
    return target


def measure(folder: Path, texts: list[str], rounds: int, longest: int) -> tuple[Any, dict[str, list[float]], float]:
    """Return our model, the seconds of each library, and the largest difference of their normalised vectors."""
    from sentence_transformers import SentenceTransformer as Theirs

    from fourfold import SentenceTransformer as Ours

    ours, theirs = Ours(str(folder), device="cpu"), Theirs(str(folder), device="cpu")
    ours.max_seq_length = theirs.max_seq_length = longest
    options: dict[str, Any] = {"normalize_embeddings": True}
    seconds, results = common.alternate(
        {"theirs": lambda: theirs.encode(texts, **options), "ours": lambda: ours.encode(texts, **options)}, rounds
    )
    return ours, seconds, float(abs(results["theirs"] - results["ours"]).max())


def mixed(folders: dict[str, Path], texts: list[str], rounds: int) -> list[list[str]]:
    """Return a row an architecture for texts of mixed lengths, cut at 256 tokens."""
    rows = []
    for name, folder in folders.items():
        ours, seconds, difference = measure(folder, texts, rounds, 256)
        slow, fast = seconds["theirs"], seconds["ours"]
        rows.append([
            name, "packed" if ours[0].packed else "padded", f"{len(texts) / statistics.median(slow):.0f}",
            f"{len(texts) / statistics.median(fast):.0f}", f"{common.ratio(slow, fast):.2f}", f"{difference:.1e}",
        ])  # fmt: skip
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def long_texts(folders: dict[str, Path], texts: list[str], lengths: list[int], rounds: int) -> list[list[str]]:
    """Return a row for each architecture and length, of as many texts as make a batch of 8,192 tokens, at most four."""
    book = " ".join(texts)
    rows = []
    for name in READS_LONG_TEXTS:
        for length in lengths:
            # Six characters a token is more than English takes, so each text fills the length and is cut to it.
            chosen = [book[i * 997 : i * 997 + 6 * length] for i in range(max(1, min(4, LONGEST // length)))]
            _, seconds, difference = measure(folders[name], chosen, rounds, length)
            slow, fast = seconds["theirs"], seconds["ours"]
            rows.append([
                name, f"{length:,}", f"{1e3 * statistics.median(slow) / len(chosen):.0f}",
                f"{1e3 * statistics.median(fast) / len(chosen):.0f}", f"{common.ratio(slow, fast):.2f}",
                f"{difference:.1e}",
            ])  # fmt: skip
            print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared" / "data")
    parser.add_argument("--texts", type=int, default=200, help="texts of mixed lengths")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="*", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--only", nargs="*", default=list(ARCHITECTURES))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    import transformers

    transformers.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(common.minilm()))
    texts = common.read_lines(arguments.data / "texts" / "mixed_20k.txt.gz")
    with tempfile.TemporaryDirectory() as scratch:
        names = dict.fromkeys([*arguments.only, *(READS_LONG_TEXTS if arguments.lengths else ())])
        folders = {name: build(name, Path(scratch), tokenizer.pad_token_id, len(tokenizer)) for name in names}
        some = {name: folders[name] for name in arguments.only}
        first = mixed(some, texts[: arguments.texts], arguments.rounds)
        second = long_texts(folders, texts, arguments.lengths, arguments.rounds) if arguments.lengths else []
    made_by = (
        f"Made by `python {' '.join(sys.argv)}`: both in turn in one process, medians of {arguments.rounds} rounds. "
        "Random models of MiniLM's size in float32 on the CPU; the difference is that of vectors of length 1."
    )
    header = ["architecture", "runs", "sentence-transformers", "fourfold", "times faster", "largest difference"]
    parts = [
        "# Architectures and long texts: fourfold beside sentence-transformers",
        made_by,
        "\n".join(f"- {key}: {value}" for key, value in common.machine().items()),
        "\n".join(f"- float32 products, {name}: {rate:.0f} GFLOP/s" for name, rate in common.gemm_limits().items()),
    ]
    if first:
        parts.append(f"## Mixed lengths ({arguments.texts} texts, cut at 256 tokens; texts a second)")
        parts.append(common.table(header, first))
    if second:
        parts.append("## Long texts (milliseconds a text)")
        parts.append(common.table([header[0], "tokens", *header[2:]], second))
    common.report(parts, arguments.output)


if __name__ == "__main__":
    main()
