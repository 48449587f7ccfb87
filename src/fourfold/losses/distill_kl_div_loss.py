"""Learn a teacher's shares: how much of a query's attention each of its documents gets."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fourfold.errors import InputError
from fourfold.losses._base import Loss, Takes, check_columns, check_labels
from fourfold.losses._citations import article
from fourfold.ops.names import similarity_fct_name
from fourfold.ops.similarity import pairwise_dot_score

logger = logging.getLogger(__name__)


class DistillKLDivLoss(Loss):
    """Bring the softmax over a query's documents near to the softmax of a teacher's scores.

    Columns: query, positive, and one or more columns of negatives; labels: the teacher's scores ``[rows, documents]``.

    Args:
        model: The encoder.
        similarity_fct: Of rows with rows.
        temperature: Divides both sides' scores.
        student_temperature: Divides the model's scores; None is ``temperature``.
        teacher_temperature: Divides the teacher's scores; None is ``temperature``.

    Raises:
        InputError: If a temperature is not above 0, there are fewer than three columns, the labels have another shape,
            or the first batch's hold what is no number.
    """

    takes: ClassVar[Takes | None] = Takes(range(3, 4), "query, positive, negatives", "the teacher's scores")
    citation = article(
        "lin2020distillingdenserepresentationsranking", "2010.11386", 2020,
        "Distilling Dense Representations for Ranking using Tightly-Coupled Teachers",
        "Sheng-Chieh Lin and Jheng-Hong Yang and Jimmy Lin", "cs.IR",
    )  # fmt: skip

    def __init__(
        self,
        model: Any,
        similarity_fct: Callable[[Any, Any], Tensor] = pairwise_dot_score,
        temperature: float = 1.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
    ) -> None:
        super().__init__(model)
        self.similarity_fct = similarity_fct
        self.temperature = temperature
        self.student_temperature = temperature if student_temperature is None else student_temperature
        self.teacher_temperature = temperature if teacher_temperature is None else teacher_temperature
        for name in ("temperature", "student_temperature", "teacher_temperature"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be a finite number above 0, got {value}")
        self._looked_at = False

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of queries and documents ``[rows, width]`` with labels ``[rows, documents]``."""
        check_columns(self, embeddings)
        query, *documents = embeddings
        labels = check_labels(self, labels, len(query))
        scores = torch.stack([self.similarity_fct(query, document) for document in documents], dim=1)
        if labels.shape != scores.shape:
            raise InputError(
                f"{type(self).__name__} needs the teacher's score of each document: labels of shape "
                f"{tuple(scores.shape)}, got {tuple(labels.shape)}"
            )
        return self.of_scores(scores, labels)

    def of_scores(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of scores ``[rows, documents]``."""
        teacher = torch.softmax(labels.detach().to(scores.dtype) / self.teacher_temperature, dim=1)
        self._look_at(labels, teacher)
        student = torch.log_softmax(scores / self.student_temperature, dim=1)
        return functional.kl_div(student, teacher, reduction="batchmean") * self.student_temperature**2

    def _look_at(self, labels: Tensor, teacher: Tensor) -> None:
        """Check the first batch's labels, and tell if the teacher leaves documents no share at all."""
        if self._looked_at:
            return
        self._looked_at = True
        if bool(labels.isnan().any()):
            raise InputError(f"{type(self).__name__}: the teacher's scores (labels) hold NaN")
        if bool((teacher == 0).any()) and not bool(labels.isinf().any()):
            logger.warning(
                "%s: the teacher's scores lie so far apart that some documents get a share of exactly 0; a higher "
                "teacher_temperature than %s keeps more of it", type(self).__name__, self.teacher_temperature,
            )  # fmt: skip

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        config = {"similarity_fct": similarity_fct_name(self.similarity_fct), "temperature": self.temperature}
        for name in ("student_temperature", "teacher_temperature"):
            if getattr(self, name) != self.temperature:
                config[name] = getattr(self, name)
        return config
