"""Step 1: ask the teacher for the vectors of every token, of the permitted text and of synthetic sequences.

    python -m recipes.targets --data ../shared/data --work build/builtin

Writes shards `targets-NAME.npz` (ids, offsets, vectors) and `tokens.npy` into the work folder. A shard that
exists is kept, so the run can be stopped and resumed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recipes import permitted
from recipes.synthetic import Sampler
from recipes.teacher import Teacher, load_tokenizer, teacher_folder, tokenize

SHARD = 50_000
NEIGHBOURS = 48
SENTENCE_TOKENS = 64


def nearest(vectors: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """Return the `count` nearest rows of every row, itself first."""
    blocks = []
    for begin in range(0, len(vectors), 2048):
        similarity = vectors[begin : begin + 2048] @ vectors.T
        blocks.append(np.argpartition(-similarity, count, axis=1)[:, :count].astype(np.int32))
    return np.concatenate(blocks)


def token_vectors(teacher: Teacher, size: int, path: Path) -> NDArray[np.float32]:
    """Return the teacher's vector of `[CLS] token [SEP]` for every token of the vocabulary."""
    if not path.exists():
        np.save(path, teacher.encode([[token] for token in range(size)]))
    return np.load(path).astype(np.float32)


def word_neighbours(vectors: NDArray[np.float32], words: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the nearest words of every word (rows of other tokens repeat the token itself)."""
    centred = vectors[words] - vectors[words].mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    table = np.repeat(np.arange(len(vectors), dtype=np.int32)[:, None], NEIGHBOURS, axis=1)
    table[words] = words[nearest(centred, NEIGHBOURS)]
    return table


def write_shard(path: Path, sequences: Sequence[Sequence[int]], teacher: Teacher) -> None:
    """Encode `sequences` and write them with their vectors."""
    sequences = [ids for ids in sequences if len(ids)]
    vectors = teacher.encode(sequences)
    offsets = np.cumsum([0] + [len(ids) for ids in sequences])
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial, ids=np.concatenate([np.asarray(s, np.int32) for s in sequences]), offsets=offsets, vectors=vectors
    )
    partial.rename(path)
    print(path.name, len(sequences), "sequences", int(offsets[-1]), "tokens", flush=True)


def plan(data: Path, sampler: Sampler, synthetic: int) -> list[tuple[str, Callable[[], list]]]:
    """List the shards in the order they are made, as (name, function that makes the sequences)."""
    tokenizer = load_tokenizer(teacher_folder())
    short = tokenize(tokenizer, permitted.short_texts(data))
    sentences = [ids[:SENTENCE_TOKENS] for ids in tokenize(tokenizer, permitted.sentences(data))]
    passages = tokenize(tokenizer, permitted.passages(data))
    frames = [ids for ids in short + sentences if 3 <= len(ids) <= 40]

    def made() -> list[list[int]]:
        chosen = sampler.rng.integers(0, len(frames), SHARD // 3)
        return (
            [sampler.zipf() for _ in range(SHARD // 3)]
            + [sampler.topic() for _ in range(SHARD // 3)]
            + [sampler.frame(frames[row]) for row in chosen]
        )

    shards: list[tuple[str, Callable[[], list]]] = [("synthetic-000", made), ("short", lambda: short)]
    shards += [("sentences", lambda: sentences), ("synthetic-001", made), ("passages", lambda: passages)]
    shards += [(f"synthetic-{number:03d}", made) for number in range(2, synthetic)]
    return shards


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("build/builtin"))
    parser.add_argument("--synthetic", type=int, default=2, help="shards of synthetic sequences")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(teacher_folder())
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    teacher = Teacher(teacher_folder())
    vectors = token_vectors(teacher, len(tokens), args.work / "tokens.npy")
    words = Sampler(tokens, np.zeros((0, 0), np.int32), 0).words
    neighbours = word_neighbours(vectors, words)
    sampler = Sampler(tokens, neighbours, 0)
    for number, (name, make) in enumerate(plan(args.data, sampler, args.synthetic)):
        path = args.work / f"targets-{name}.npz"
        if not path.exists():
            sampler.rng = np.random.default_rng(number)  # a shard's own seed: a resumed run makes the same sequences
            write_shard(path, make(), teacher)


if __name__ == "__main__":
    main()
