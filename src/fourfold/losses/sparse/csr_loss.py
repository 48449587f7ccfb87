"""Contrastive sparse representations: a sparse auto-encoder learns to give vectors back, and to tell texts apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fourfold.losses._base import Loss
from fourfold.losses._citations import article
from fourfold.losses._columns import run_columns
from fourfold.losses.sparse.sparse_multiple_negatives_ranking_loss import SparseMultipleNegativesRankingLoss
from fourfold.modules._base import Features

_CSR = article(
    "wen2025matryoshkarevisitingsparsecoding", "2503.01776", 2025,
    "Beyond Matryoshka: Revisiting Sparse Coding for Adaptive Representation",
    "Tiansheng Wen and Yifei Wang and Zequn Zeng and Zhong Peng and Yudi Su and Xinyang Liu and Bo Chen and Hongwei "
    "Liu and Stefanie Jegelka and Chenyu You", "cs.LG",
)  # fmt: skip
_DECODED = ("decoded_embedding_k", "decoded_embedding_4k", "decoded_embedding_aux", "decoded_embedding_k_pre_bias")


def normalized_mean_squared_error(reconstruction: Tensor, original: Tensor) -> Tensor:
    """Return the squared error as a share of that of the mean row; the error itself where all rows are the same."""
    error = functional.mse_loss(reconstruction, original)
    spread = functional.mse_loss(original.mean(dim=0, keepdim=True).expand_as(original), original)
    same = bool((original == original[:1]).all()) or bool(spread == 0)
    return error if same else error / spread


class CSRReconstructionLoss(Loss):
    """How well a sparse auto-encoder gives vectors back: from k units, from 4k, and from those that are never used.

    It is a part of :class:`CSRLoss`, and has no forward.

    Args:
        model: The encoder.
        beta: Weight of the units that are never used.
    """

    config_keys: ClassVar[tuple[str, ...]] = ("beta",)
    citation = _CSR

    def __init__(self, model: Any, beta: float = 1.0) -> None:
        super().__init__(model)
        self.beta = beta

    def forward(self, sentence_features: Any, labels: Any = None) -> Any:
        """Not to be called."""
        raise NotImplementedError("CSRReconstructionLoss is a part of CSRLoss; it has no forward")

    def compute_loss_from_embeddings(  # type: ignore[override]
        self, outputs: list[Features], labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the losses of what the model gives for each column, by name."""
        parts = torch.stack([torch.stack(self._of(output)) for output in outputs]).mean(dim=0)
        return {
            "reconstruction_loss_k": parts[0],
            "reconstruction_loss_4k": parts[1] / 8,
            "reconstruction_loss_aux": self.beta * parts[2],
        }

    @staticmethod
    def _of(output: Features) -> tuple[Tensor, Tensor, Tensor]:
        vectors = output["sentence_embedding_backbone"]
        k, four_k, unused, before_bias = (output[name] for name in _DECODED)
        if unused is None:
            left = vectors.new_zeros(())
        else:
            left = normalized_mean_squared_error(unused, vectors - before_bias.detach())
        return functional.mse_loss(vectors, k), functional.mse_loss(vectors, four_k), left


class CSRLoss(Loss):
    """Add to the reconstruction of a sparse auto-encoder a loss that tells texts apart.

    Columns and labels are those of the inner loss.

    Args:
        model: An encoder with a SparseAutoEncoder.
        loss: The loss of vectors; None is :class:`SparseMultipleNegativesRankingLoss`.
        beta: Weight of the units that are never used.
        gamma: Weight of the inner loss.
    """

    citation = _CSR

    def __init__(self, model: Any, loss: nn.Module | None = None, beta: float = 0.1, gamma: float = 1.0) -> None:
        super().__init__(model)
        self.loss = SparseMultipleNegativesRankingLoss(model) if loss is None else loss
        self.beta = beta
        self.gamma = gamma
        self.reconstruction_loss = CSRReconstructionLoss(model, beta)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the losses of a batch, by name."""
        names = ("sentence_embedding", "sentence_embedding_backbone", *_DECODED)
        outputs = run_columns(self.model, list(sentence_features), names)
        losses = self.reconstruction_loss.compute_loss_from_embeddings(outputs)
        base = self.loss.compute_loss_from_embeddings(  # type: ignore[operator]
            [output["sentence_embedding"] for output in outputs], labels
        )
        named = base if isinstance(base, dict) else {"base_loss": base}
        return {**losses, **{name: part * self.gamma for name, part in named.items()}}

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {"beta": self.beta, "gamma": self.gamma, "loss": type(self.loss).__name__}
