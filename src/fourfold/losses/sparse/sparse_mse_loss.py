"""A teacher's sparse vectors."""

from __future__ import annotations

from typing import Any

from fourfold.losses.mse_loss import MSELoss


class SparseMSELoss(MSELoss):
    """:class:`~fourfold.losses.MSELoss` of sparse vectors, which are as wide as the teacher's.

    Args:
        model: The encoder.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
