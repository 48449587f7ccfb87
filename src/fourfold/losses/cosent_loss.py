"""Rank pairs by their score: a pair with a higher label should be more alike than one with a lower label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from fourfold.errors import InputError
from fourfold.losses._base import Loss, Takes, check_columns, check_labels
from fourfold.losses._citations import entry
from fourfold.ops.similarity import pairwise_cos_sim


class CoSENTLoss(Loss):
    """Penalise two pairs of a batch whose similarities are in another order than their labels.

    ``log(1 + sum exp(s_i - s_j))`` over all pairs of rows with ``label_i < label_j``; memory grows with the rows, not
    with their pairs. Columns: two texts; labels: a number a row, of which only the order matters.

    Args:
        model: The encoder.
        scale: Factor of the similarities.
        similarity_fct: Of rows with rows.

    Raises:
        InputError: If there is not one label a row, or not two columns.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "two texts", "a score")
    config_keys: ClassVar[tuple[str, ...]] = ("scale", "similarity_fct")
    citation = entry(
        "article", "10531646", title="CoSENT: Consistent Sentence Embedding via Similarity Ranking",
        author="Huang, Xiang and Peng, Hao and Zou, Dongcheng and Liu, Zhiwei and Li, Jianxin and Liu, Kay and Wu, Jia "
        "and Su, Jianlin and Yu, Philip S.",
        journal="IEEE/ACM Transactions on Audio, Speech, and Language Processing", year=2024,
        doi="10.1109/TASLP.2024.3402087",
    )  # fmt: skip

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[[Any, Any], Tensor] = pairwise_cos_sim,
    ) -> None:
        super().__init__(model)
        self.scale = scale
        self.similarity_fct = similarity_fct

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of two columns ``[rows, width]`` with labels ``[rows]``."""
        check_columns(self, embeddings)
        labels = check_labels(self, labels, len(embeddings[0]))
        scores = self.similarity_fct(embeddings[0], embeddings[1])
        return ranking_loss(self._scaled(scores), labels)

    def _scaled(self, scores: Tensor) -> Tensor:
        return (scores.float() if scores.element_size() < 4 else scores) * self.scale


def ranking_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return ``log(1 + sum exp(score_i - score_j))`` over all pairs with ``label_i < label_j``.

    Args:
        scores: ``[rows]``.
        labels: ``[rows]``.

    Raises:
        InputError: If the shapes differ.
    """
    if scores.shape != labels.shape:
        raise InputError(
            f"a score a row needs a label a row: scores {tuple(scores.shape)}, labels {tuple(labels.shape)}"
        )
    labels = labels.int() if labels.dtype == torch.bool else labels
    labels, order = labels.sort(stable=True)
    scores = scores[order]
    # Of each row on: the logarithm of the sum of exp(-score) over it and all rows behind it.
    behind = torch.logcumsumexp((-scores).flip(0), 0).flip(0)
    first_higher = torch.searchsorted(labels, labels, right=True)
    lower = first_higher < len(labels)
    terms = scores[lower] + behind[first_higher[lower]]
    return torch.cat([scores.new_zeros(1), terms]).logsumexp(0)
