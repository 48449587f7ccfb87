"""What losses of sparse vectors share that are computed inside of a loss that keeps vectors sparse."""

from __future__ import annotations

from typing import Any


class InnerLoss:
    """A loss that only makes sense within :class:`SpladeLoss` or :class:`CSRLoss`, put before a dense loss."""

    def forward(self, sentence_features: Any, labels: Any = None) -> Any:
        """Not to be called: nothing would keep the vectors sparse."""
        raise AttributeError(
            f"{type(self).__name__} alone does not keep vectors sparse; put it into SpladeLoss or CSRLoss, as loss="
        )
