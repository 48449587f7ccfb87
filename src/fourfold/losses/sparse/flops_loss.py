"""Keep vectors sparse: the more rows use a word, the more it costs."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from fourfold.losses._base import Loss
from fourfold.losses._citations import article


class FlopsLoss(Loss):
    """The sum over the vocabulary of the squared mean weight, near to the multiplications that a comparison takes.

    It is a part of :class:`SpladeLoss`, and has no forward.

    Args:
        model: The encoder.
        threshold: Rows with at most so many words cost nothing; None is no threshold.
    """

    config_keys: ClassVar[tuple[str, ...]] = ("threshold",)
    citation = article(
        "paria2020minimizing", "2004.05665", 2020, "Minimizing FLOPs to Learn Efficient Sparse Representations",
        "Biswajit Paria and Chih-Kuan Yeh and Ian E. H. Yen and Ning Xu and Pradeep Ravikumar and Barnabás Póczos",
        "cs.LG",
    )  # fmt: skip

    def __init__(self, model: Any, threshold: float | None = None) -> None:
        super().__init__(model)
        self.threshold = threshold

    def forward(self, sentence_features: Any, labels: Any = None) -> Any:
        """Not to be called."""
        raise NotImplementedError("FlopsLoss is a part of SpladeLoss; it has no forward")

    def compute_loss_from_embeddings(  # type: ignore[override]
        self, embeddings: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Return the loss of vectors ``[rows, words]``."""
        if self.threshold is not None:
            counted = (embeddings != 0).sum(dim=1) > self.threshold
            embeddings = embeddings * counted[:, None]
        return embeddings.mean(dim=0).square().sum()
