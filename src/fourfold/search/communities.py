"""Group vectors: a centre and everything at least so similar to it."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm.auto import trange

from fourfold.ops.similarity import Vectors
from fourfold.ops.vectors import normalize_embeddings, to_batch_tensor
from fourfold.search.semantic import check_positive

# Scores held at once: with float32 a quarter of a gigabyte.
_MOST_SCORES = 2**26


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
    takes its group; then the next, of the rows that are left, and so on. The vectors are compared twice, once to count
    and once to collect, so that memory does not grow with the size of the groups.

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
    sizes = torch.cat([(vectors[i : i + rows_at_once] @ vectors.T >= threshold).sum(dim=1) for i in starts])
    order = sizes.argsort(descending=True, stable=True)
    centres = order[sizes[order] >= min_community_size]
    found = _collect(vectors, centres, threshold, min_community_size, rows_at_once)
    return sorted(found, key=len, reverse=True)


def _collect(vectors: Tensor, centres: Tensor, threshold: float, smallest: int, rows_at_once: int) -> list[list[int]]:
    """Return the groups of the centres, each without the rows that an earlier group has taken."""
    free = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
    groups = []
    while len(centres):
        batch, centres = centres[:rows_at_once], centres[rows_at_once:]
        batch = batch[free[batch]]
        scores = vectors[batch] @ vectors.T
        for centre, row in zip(batch.tolist(), scores, strict=True):
            if not free[centre]:
                continue
            members = ((row >= threshold) & free).nonzero().squeeze(1)
            if len(members) < smallest:
                continue
            row[centre] = torch.inf  # a copy of the centre may be a rounding more similar than itself
            members = members[row[members].argsort(descending=True, stable=True)]
            groups.append(members.tolist())
            free[members] = False
        centres = centres[free[centres]]
    return groups
