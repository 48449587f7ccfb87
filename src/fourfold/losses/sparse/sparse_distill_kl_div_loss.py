"""A teacher's shares for sparse vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fourfold.losses.distill_kl_div_loss import DistillKLDivLoss
from fourfold.losses.sparse._inner import InnerLoss
from fourfold.ops.similarity import pairwise_dot_score


class SparseDistillKLDivLoss(InnerLoss, DistillKLDivLoss):
    """:class:`~fourfold.losses.DistillKLDivLoss`, for use within a sparse loss.

    Args:
        model: The encoder.
        similarity_fct: Of rows with rows.
        temperature: Divides both sides' scores.
        student_temperature: Divides the model's scores; None is ``temperature``.
        teacher_temperature: Divides the teacher's scores; None is ``temperature``.
    """

    def __init__(
        self,
        model: Any,
        similarity_fct: Callable[[Any, Any], Tensor] = pairwise_dot_score,
        temperature: float = 2.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
    ) -> None:
        super().__init__(model, similarity_fct, temperature, student_temperature, teacher_temperature)
