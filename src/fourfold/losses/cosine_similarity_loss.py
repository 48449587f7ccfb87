"""Bring the cosine of two texts near to a given number."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fourfold.losses._base import Loss, Takes, check_columns, check_labels
from fourfold.ops.names import fullname


class CosineSimilarityLoss(Loss):
    """Compare the cosine of two texts with their label.

    Columns: two texts; labels: a number a row, such as 0 to 1.

    Args:
        model: The encoder.
        loss_fct: Compares numbers ``[rows]`` with labels ``[rows]``; None is the mean squared error.
        cos_score_transformation: Applied to the cosines first; None changes nothing.

    Raises:
        InputError: If there is not one label a row, or not two columns.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "two texts", "a score")

    def __init__(
        self, model: Any, loss_fct: nn.Module | None = None, cos_score_transformation: nn.Module | None = None
    ) -> None:
        super().__init__(model)
        self.loss_fct = nn.MSELoss() if loss_fct is None else loss_fct
        self.cos_score_transformation = nn.Identity() if cos_score_transformation is None else cos_score_transformation

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of two columns ``[rows, width]`` with labels ``[rows]``."""
        check_columns(self, embeddings)
        labels = check_labels(self, labels, len(embeddings[0]))
        cosines = self.cos_score_transformation(torch.cosine_similarity(embeddings[0], embeddings[1]))
        return self.loss_fct(cosines, labels.to(cosines.dtype).view(-1))

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {
            "loss_fct": fullname(self.loss_fct),
            "cos_score_transformation": fullname(self.cos_score_transformation),
        }
