"""Step 2: train a table of token vectors whose mean imitates the teacher.

    python -m recipes.distil --work build/builtin

The teacher's vectors are projected on their first principal axes; the table starts from the teacher's vectors of single
tokens, longer for rare tokens, and is trained with Adam so that the sum of a text's rows points where the projected
vector does, and so that the texts of a batch are as near to each other as the teacher has them. The length of a row is
the weight of its token. Writes `table.npy` [vocabulary, dimensions].
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

FIRST_WORD = 1996  # "the": special tokens, unused rows and characters come before, then words by falling frequency
AXES_SAMPLE = 60_000
BATCH = 1024
TEMPERATURE = 0.1  # of the softmax over a batch's similarities


@dataclass(frozen=True)
class Targets:
    """Token sequences (`ids[offsets[i]:offsets[i + 1]]`) and the teacher's unit vectors."""

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    vectors: NDArray[np.float16]

    def batch(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the concatenated ids of `rows` and where each row begins."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        begins = np.cumsum(lengths) - lengths
        positions = np.repeat(self.offsets[rows] - begins, lengths) + np.arange(lengths.sum())
        return torch.from_numpy(self.ids[positions]), torch.from_numpy(begins)


def load_targets(work: Path, names: list[str]) -> Targets:
    """Read and join the shards called `names`."""
    ids, offsets, vectors = [], [np.zeros(1, np.int64)], []
    for name in names:
        with np.load(work / f"targets-{name}.npz") as shard:
            ids.append(shard["ids"].astype(np.int64))
            offsets.append(shard["offsets"][1:] + offsets[-1][-1])
            vectors.append(shard["vectors"])
    return Targets(np.concatenate(ids), np.concatenate(offsets), np.concatenate(vectors))


@dataclass(frozen=True)
class Axes:
    """Centre and principal axes of the teacher's vectors."""

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def fit(cls, vectors: NDArray[np.float16], dimensions: int, rng: np.random.Generator) -> Axes:
        """Find the axes on a sample."""
        sample = vectors[rng.choice(len(vectors), min(len(vectors), AXES_SAMPLE), replace=False)].astype(np.float32)
        mean = sample.mean(axis=0)
        _, axes = np.linalg.eigh((sample - mean).T @ (sample - mean))
        return cls(mean, np.ascontiguousarray(axes[:, ::-1][:, :dimensions]))

    def project(self, vectors: NDArray[np.float16]) -> NDArray[np.float32]:
        """Return the vectors on the axes, as unit vectors."""
        projected = np.empty((len(vectors), self.axes.shape[1]), np.float32)
        for begin in range(0, len(vectors), 50_000):
            block = (vectors[begin : begin + 50_000].astype(np.float32) - self.mean) @ self.axes
            projected[begin : begin + 50_000] = block / np.linalg.norm(block, axis=1, keepdims=True)
        return projected


def first_table(work: Path, axes: Axes) -> NDArray[np.float32]:
    """Return the teacher's single-token vectors on the axes, weighted by the logarithm of their rank."""
    vectors = np.load(work / "tokens.npy").astype(np.float32)
    rank = np.maximum(np.arange(len(vectors)) - FIRST_WORD + 1, 1)
    centred = vectors - vectors[FIRST_WORD:].mean(axis=0)
    return (centred @ axes.axes * np.log1p(rank)[:, None] / 8).astype(np.float32)


def loss_of(made: torch.Tensor, goal: torch.Tensor, neighbours: float) -> torch.Tensor:
    """Return 1 - cosine plus, times `neighbours`, the divergence of each text's similarities to its batch."""
    loss = (1 - (made * goal).sum(dim=1)).mean()
    if neighbours:
        itself = torch.eye(len(made), dtype=torch.bool)
        wanted = (goal @ goal.T / TEMPERATURE).masked_fill(itself, -1e4).softmax(dim=1)
        found = (made @ made.T / TEMPERATURE).masked_fill(itself, -1e4).log_softmax(dim=1)
        loss = loss + neighbours * torch.nn.functional.kl_div(found, wanted, reduction="batchmean")
    return loss


def fit(
    table: NDArray[np.float32], targets: Targets, wanted: NDArray[np.float32], args: argparse.Namespace
) -> NDArray[np.float32]:
    """Train `table` for `args.epochs`, the learning rate falling to zero, and return it."""
    rng = np.random.default_rng(args.seed)
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(table), freeze=False, mode="sum")
    optimiser = torch.optim.Adam(bag.parameters(), lr=args.rate, betas=(0.9, 0.99))
    goal, count = torch.from_numpy(wanted), len(wanted) // BATCH
    begun, step = time.time(), 0
    for epoch in range(args.epochs):
        order, total = rng.permutation(len(wanted)), 0.0
        for number in range(count):
            rows = np.sort(order[number * BATCH : (number + 1) * BATCH])
            optimiser.param_groups[0]["lr"] = args.rate * (1 - step / (args.epochs * count))
            made = torch.nn.functional.normalize(bag(*targets.batch(rows)), dim=1)
            loss = loss_of(made, goal[rows], args.neighbours)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total, step = total + float(loss.detach()), step + 1
        print(f"epoch {epoch + 1} loss {total / count:.4f} after {time.time() - begun:.0f} s", flush=True)
    return bag.weight.detach().numpy().copy()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/builtin"))
    parser.add_argument("--dimensions", type=int, default=240)
    parser.add_argument(
        "--shards", nargs="+", default=["short", "sentences", "passages", "synthetic-000", "synthetic-001"]
    )
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument(
        "--neighbours", type=float, default=1.0, help="share of the loss on similarities within a batch"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    targets = load_targets(args.work, args.shards)
    axes = Axes.fit(targets.vectors, args.dimensions, np.random.default_rng(args.seed))
    wanted = axes.project(targets.vectors)
    table = fit(first_table(args.work, axes), targets, wanted, args)
    np.save(args.work / "table.npy", table)
    print("table.npy", table.shape)


if __name__ == "__main__":
    main()
