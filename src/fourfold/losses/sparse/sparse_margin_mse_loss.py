"""A teacher's margins for sparse vectors."""

from __future__ import annotations

from fourfold.losses.margin_mse_loss import MarginMSELoss
from fourfold.losses.sparse._inner import InnerLoss


class SparseMarginMSELoss(InnerLoss, MarginMSELoss):
    """:class:`~fourfold.losses.MarginMSELoss`, for use within a sparse loss.

    Args:
        model: The encoder.
        similarity_fct: Of rows with rows.
    """
