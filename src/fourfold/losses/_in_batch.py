"""What a batch offers as negatives: every document of every row, and by choice every query.

The scores of a few rows against all documents are a part of the whole, so that a loss may be computed some rows at a
time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fourfold.errors import InputError
from fourfold.losses._gather import all_gather_with_grad, rank_offset

DIRECTIONS = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
PARTITIONS = ("joint", "per_direction")
HARDNESS = ("in_batch_negatives", "hard_negatives", "all_negatives")

PartitionMode = Literal["joint", "per_direction"]
HardnessMode = Literal["in_batch_negatives", "hard_negatives", "all_negatives"]


@dataclass(frozen=True)
class Candidates:
    """The vectors of a batch, those of other processes included where they are gathered.

    Attributes:
        queries: ``[rows, width]`` of this process.
        positives: As ``queries``.
        all_queries: ``[all rows, width]``; row ``offset + i`` is row ``i`` of ``queries``.
        documents: ``[columns * all rows, width]``, column after column, the positives first.
        offset: Where the rows of this process begin among all.
    """

    queries: Tensor
    positives: Tensor
    all_queries: Tensor
    documents: Tensor
    offset: int

    @classmethod
    def of(cls, embeddings: Sequence[Tensor], *, gather: bool) -> Candidates:
        """Return the candidates of a batch.

        Args:
            embeddings: Queries, positives, and any number of columns of negatives, each ``[rows, width]``.
            gather: Whether to take those of other processes too.
        """
        queries, *documents = embeddings
        if not gather:
            return cls(queries, documents[0], queries, torch.cat(documents), 0)
        gathered = [all_gather_with_grad(column) for column in documents]
        offset = rank_offset(len(queries))
        return cls(queries, documents[0], all_gather_with_grad(queries), torch.cat(gathered), offset)


@dataclass(frozen=True)
class InBatch:
    """How queries are compared with what a batch offers.

    Attributes:
        similarity: Of all rows with all rows.
        scale: Factor of the similarities, the inverse of the temperature.
        directions: What is compared with what; a subset of :data:`DIRECTIONS`.
        partition: Whether all directions share one denominator, or each has its own.
        hardness: Which negatives get more weight the more they are like the query; None gives none more.
        strength: How much more.
    """

    similarity: Callable[[Any, Any], Tensor]
    scale: float
    directions: tuple[str, ...]
    partition: PartitionMode
    hardness: HardnessMode | None
    strength: float

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise InputError(f"scale must be above 0, got {self.scale}")
        if not self.directions or any(direction not in DIRECTIONS for direction in self.directions):
            raise InputError(f"directions must be among {', '.join(DIRECTIONS)}; got {self.directions}")
        if "query_to_doc" not in self.directions:
            raise InputError(f"directions must contain 'query_to_doc', got {self.directions}")
        if self.partition not in PARTITIONS:
            raise InputError(f"partition_mode must be one of {', '.join(PARTITIONS)}; got {self.partition!r}")
        alike = [direction for direction in ("query_to_query", "doc_to_doc") if direction in self.directions]
        if self.partition == "per_direction" and alike:
            raise InputError(f"partition_mode='per_direction' has no positive to set against {', '.join(alike)}")
        if self.hardness is not None and self.hardness not in HARDNESS:
            raise InputError(f"hardness_mode must be None or one of {', '.join(HARDNESS)}; got {self.hardness!r}")
        if self.strength < 0:
            raise InputError(f"hardness_strength must be at least 0, got {self.strength}")

    def loss(self, candidates: Candidates, rows: slice = slice(None)) -> Tensor:
        """Return the mean loss of some rows of this process."""
        index = torch.arange(len(candidates.queries), device=candidates.queries.device)[rows]
        found = candidates.offset + index  # the rows' own places among all
        forward = self._forward(candidates, index, found)
        positive = forward.gather(1, found[:, None]).squeeze(1)
        logits = [
            forward,
            *(self._other(name, candidates, index, found) for name in self.directions if name != "query_to_doc"),
        ]
        if self.partition == "joint":
            return (torch.cat(logits, dim=1).logsumexp(dim=1) - positive).mean()
        each = torch.stack([part.logsumexp(dim=1) for part in logits])
        return (each.mean(dim=0) - positive).mean()

    def _forward(self, candidates: Candidates, index: Tensor, found: Tensor) -> Tensor:
        raw = self.similarity(candidates.queries[index], candidates.documents)
        logits = raw * self.scale
        if self.hardness is None or self.strength == 0:
            return logits
        own = self._own(raw, candidates, found)
        positive = torch.arange(raw.shape[1], device=raw.device)[None, :] == found[:, None]
        weighted = {"in_batch_negatives": ~own, "hard_negatives": own & ~positive, "all_negatives": ~positive}
        return logits + self.strength * raw.detach() * weighted[self.hardness]

    def _other(self, direction: str, candidates: Candidates, index: Tensor, found: Tensor) -> Tensor:
        """Return the logits ``[rows, others]`` of one of the other directions; a row's own documents count nothing."""
        if direction == "query_to_query":
            scores = self.similarity(candidates.queries[index], candidates.all_queries)
        elif direction == "doc_to_query":
            return self.similarity(candidates.all_queries, candidates.positives[index]).T * self.scale
        else:
            scores = self.similarity(candidates.documents, candidates.positives[index]).T
        return (scores * self.scale).masked_fill(self._own(scores, candidates, found), -torch.inf)

    @staticmethod
    def _own(scores: Tensor, candidates: Candidates, found: Tensor) -> Tensor:
        """Return which scores ``[rows, others]`` are those of a row with what belongs to the same row."""
        place = torch.arange(scores.shape[1], device=scores.device) % len(candidates.all_queries)
        return place[None, :] == found[:, None]
