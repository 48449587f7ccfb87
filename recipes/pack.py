"""Step 3: quantise the table and write the two folders that ship.

    python -m recipes.pack --work build/builtin --out src/fourfold/builtin

`dense/` is a StaticEmbedding folder that sentence-transformers loads as it is: int8 rows, one float32 a row that undoes
the quantisation, and the teacher's tokenizer without its unused entries. `lexical/terms.txt` lists stems by frequency.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import Stemmer
from numpy.typing import NDArray
from safetensors.numpy import save_file

from recipes.distil import FIRST_WORD
from recipes.teacher import teacher_folder

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")  # never in a text: zero rows, so that they add nothing if they are
MODULES = [
    {
        "idx": 0,
        "name": "0",
        "path": "",
        "type": "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding",
    },
    {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.base.modules.normalize.Normalize"},
]
CONFIG = {
    "model_type": "SentenceTransformer",
    "__version__": {"sentence_transformers": "6.2.0"},
    "prompts": {"query": "", "document": ""},
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
}
NORMALIZE = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
LEXICAL = {
    "analysis": {"lowercase": True, "pattern": r"\w\w+", "stop_words": "lucene", "stemmer": "english"},
    "bm25": {"k1": 1.5, "b": 0.75},
    "prior": {"passages": 50, "passage_length": 200, "zipf_share": 0.1, "zipf_shift": 2.7, "unknown_rank": 40000},
}


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write JSON with a line end; without `indent`, as small as it gets."""
    separators = (",", ":") if indent is None else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(value, indent=indent, separators=separators, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def quantise(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 rows and the factor of each row."""
    factor = np.maximum(np.abs(table).max(axis=1), 1e-12) / 127
    return np.rint(table / factor[:, None]).astype(np.int8), factor.astype(np.float32)


def prune(tokenizer: dict[str, Any]) -> tuple[dict[str, Any], list[int], dict[str, int]]:
    """Drop the `[unused…]` entries; return the tokenizer, the kept old ids in new order, and the new vocabulary."""
    old = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    kept = [(token, number) for token, number in old if not token.startswith("[unused")]
    vocabulary = {token: new for new, (token, _) in enumerate(kept)}
    tokenizer["model"]["vocab"] = vocabulary
    for added in tokenizer["added_tokens"]:
        added["id"] = vocabulary[added["content"]]
    tokenizer.update(truncation=None, padding=None, post_processor=None)
    return tokenizer, [number for _, number in kept], vocabulary


def write_dense(out: Path, table: NDArray[np.float32]) -> None:
    """Write the folder of the dense model."""
    source = json.loads((teacher_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer, kept, vocabulary = prune(source)
    rows, factor = quantise(table[kept])
    for token in SPECIAL:
        rows[vocabulary[token]] = 0
    write_json(out / "tokenizer.json", tokenizer, indent=None)
    write_json(out / "modules.json", MODULES)
    write_json(out / "config_sentence_transformers.json", CONFIG)
    write_json(out / "1_Normalize" / "config.json", NORMALIZE)
    save_file({"embeddings": rows, "weights": factor}, str(out / "model.safetensors"))


def frequent_stems() -> list[str]:
    """Return the stems of the teacher's words, the most frequent first: its vocabulary is sorted by frequency."""
    source = json.loads((teacher_folder() / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = [token for token, _ in sorted(source.items(), key=lambda item: item[1])[FIRST_WORD:]]
    words = [word for word in words if word.isascii() and word.isalnum() and len(word) > 1]
    return list(dict.fromkeys(Stemmer.Stemmer("english").stemWords(words)))


def write_lexical(out: Path) -> None:
    """Write the folder of the term frequencies."""
    write_json(out / "config.json", LEXICAL)
    (out / "terms.txt").write_text("\n".join(frequent_stems()) + "\n", encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/builtin"))
    parser.add_argument("--out", type=Path, default=Path("src/fourfold/builtin"))
    args = parser.parse_args()
    write_dense(args.out / "dense", np.load(args.work / "table.npy"))
    write_lexical(args.out / "lexical")
    files = [path for path in args.out.rglob("*") if path.is_file() and path.suffix != ".md"]
    for path in sorted(files):
        print(f"{path.stat().st_size:9,d}  {path.relative_to(args.out)}")
    print(f"{sum(path.stat().st_size for path in files):9,d}  together")


if __name__ == "__main__":
    main()
