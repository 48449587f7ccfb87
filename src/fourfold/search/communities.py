"""Group vectors: a centre and everything at least so similar to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import trange

from fourfold.errors import check_positive
from fourfold.ops.similarity import Vectors
from fourfold.ops.vectors import normalize_embeddings, to_batch_tensor

# Scores held at once: with float32 a quarter of a gigabyte.
_MOST_SCORES = 2**26
# Members of possible groups that are kept from the first look, eight bytes each; the others are computed again.
_MOST_KEPT = 2**25


@torch.no_grad()
def community_detection(
    embeddings: Vectors,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Return groups of similar vectors, without overlap.

    Every row with enough rows at least ``threshold`` similar to it could be a centre. The centre with the largest group
    takes its group; then the next, of the rows that are left, and so on. Where the groups are too large to be kept
    until then, rows are compared a second time, so that memory stays bounded.

    Args:
        embeddings: ``[rows, width]``; compared by cosine.
        threshold: Smallest cosine to the centre.
        min_community_size: Smallest group, the centre included.
        batch_size: Rows compared at once with all others, or fewer where there are very many.
        show_progress_bar: Whether to show a bar that counts rows.

    Returns:
        A list of row numbers for each group, the centre first and then by similarity; the largest group first.

    Raises:
        InputError: If ``batch_size`` is below 1.

    >>> community_detection([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0], [1.0, 0.2]], min_community_size=2)
    [[0, 2, 4], [1, 3]]
    """
    check_positive(batch_size=batch_size)
    vectors = normalize_embeddings(to_batch_tensor(embeddings))
    count = len(vectors) if vectors.numel() else 0
    if count < max(min_community_size, 1):
        return []
    rows_at_once = min(batch_size, max(1, _MOST_SCORES // count))
    starts = trange(0, count, rows_at_once, desc="Comparing", disable=not show_progress_bar)
    groups = _Groups(vectors, threshold, min_community_size)
    for start in starts:
        groups.look(start, min(start + rows_at_once, count))
    return sorted(groups.chosen(rows_at_once), key=len, reverse=True)


@dataclass
class _Block:
    """The rows close to some rows: those of row ``i`` are ``members[offsets[i]:offsets[i + 1]]``."""

    offsets: NDArray[np.int64]
    members: NDArray[np.int32]
    scores: NDArray[np.float32]

    def of(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        start, stop = self.offsets[row : row + 2]
        return self.members[start:stop], self.scores[start:stop]


class _Groups:
    """The rows that could be centres, with their groups as far as they are kept."""

    def __init__(self, vectors: Tensor, threshold: float, smallest: int) -> None:
        self._vectors = vectors
        self._threshold = threshold
        self._smallest = smallest
        self._sizes = np.zeros(len(vectors), np.int64)
        self._kept: dict[int, tuple[_Block, int]] = {}
        self._kept_members = 0

    def look(self, start: int, stop: int) -> None:
        """Count the rows close to each of some rows, and keep them if there is room."""
        scores = self._vectors[start:stop] @ self._vectors.T
        close = scores >= self._threshold
        sizes = _count(close)
        self._sizes[start:stop] = sizes
        possible = sizes >= self._smallest
        members = int(sizes[possible].sum())
        if members and self._kept_members + members <= _MOST_KEPT:
            self._kept_members += members
            close[torch.from_numpy(~possible).to(close.device)] = False
            block = _block(scores, close)
            self._kept |= {start + int(row): (block, int(row)) for row in possible.nonzero()[0]}

    def chosen(self, rows_at_once: int) -> list[list[int]]:
        """Return the groups, each without the rows that an earlier one has taken."""
        order = np.argsort(-self._sizes, kind="stable")
        centres = order[self._sizes[order] >= self._smallest].tolist()
        free = np.ones(len(self._vectors), bool)
        again: dict[int, tuple[_Block, int]] = {}
        groups = []
        for position, centre in enumerate(centres):
            if not free[centre]:
                continue
            if centre not in self._kept and centre not in again:
                ahead = [row for row in centres[position : position + rows_at_once] if free[row]]
                scores = self._vectors[ahead] @ self._vectors.T
                block = _block(scores, scores >= self._threshold)
                again = {row: (block, place) for place, row in enumerate(ahead)}
            block, place = self._kept.get(centre) or again[centre]
            members, alike = block.of(place)
            left = free[members]
            members, alike = members[left], alike[left]
            if len(members) < self._smallest:
                continue
            # A copy of the centre may be a rounding more similar than itself.
            alike = np.where(members == centre, np.inf, alike)
            members = members[np.argsort(-alike, kind="stable")]
            groups.append(members.tolist())
            free[members] = False
        return groups


def _count(close: Tensor) -> NDArray[np.int64]:
    # On the CPU numpy counts booleans ten times faster than torch.
    return np.count_nonzero(close.numpy(), axis=1) if close.device.type == "cpu" else close.sum(dim=1).cpu().numpy()


def _block(scores: Tensor, close: Tensor) -> _Block:
    offsets = np.zeros(len(close) + 1, np.int64)
    np.cumsum(_count(close), out=offsets[1:])
    members = close.nonzero()[:, 1].int().cpu().numpy()
    return _Block(offsets, members, scores[close].cpu().numpy())
