"""A loss of sparse vectors, and what keeps them sparse."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.losses._base import Loss
from fourfold.losses._citations import article
from fourfold.losses._columns import embed_columns
from fourfold.losses.sparse.flops_loss import FlopsLoss
from fourfold.modules._base import Features

logger = logging.getLogger(__name__)


class SpladeLoss(Loss):
    """Add regularisers of queries and documents to a loss of their vectors.

    The first column holds queries, all others documents. Weights usually grow during the first third of a training, by
    ``SpladeRegularizerWeightSchedulerCallback``.

    Args:
        model: The encoder.
        loss: The loss of vectors; it has ``compute_loss_from_embeddings``.
        document_regularizer_weight: Weight of the documents' regulariser.
        query_regularizer_weight: Weight of the queries'; None leaves them free, as for inference-free queries.
        document_regularizer: Regulariser of documents; None is :class:`FlopsLoss`.
        query_regularizer: Regulariser of queries; None is :class:`FlopsLoss`.
        document_regularizer_threshold: Threshold of the default regulariser.
        query_regularizer_threshold: The same for queries.
        use_document_regularizer_only: Whether all columns are documents.

    Raises:
        InputError: If the loss is none of vectors.
    """

    citation = article(
        "formal2022distillationhardnegativesampling", "2205.04733", 2022,
        "From Distillation to Hard Negative Sampling: Making Sparse Neural IR Models More Effective",
        "Thibault Formal and Carlos Lassance and Benjamin Piwowarski and Stéphane Clinchant", "cs.IR",
    )  # fmt: skip

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        document_regularizer_weight: float,
        query_regularizer_weight: float | None = None,
        document_regularizer: nn.Module | None = None,
        query_regularizer: nn.Module | None = None,
        document_regularizer_threshold: int | None = None,
        query_regularizer_threshold: int | None = None,
        use_document_regularizer_only: bool = False,
    ) -> None:
        super().__init__(model)
        if not hasattr(loss, "compute_loss_from_embeddings"):
            raise InputError(
                f"SpladeLoss needs a loss with compute_loss_from_embeddings, {type(loss).__name__} has none"
            )
        if use_document_regularizer_only and query_regularizer_weight is not None:
            logger.warning("query_regularizer_weight is ignored: use_document_regularizer_only takes all as documents")
            query_regularizer_weight = None
        elif query_regularizer_weight is None and not use_document_regularizer_only:
            logger.warning(
                "query_regularizer_weight is None: queries are not kept sparse, which only free ones need not"
            )
        self.loss = loss
        self.document_regularizer_weight = document_regularizer_weight
        self.query_regularizer_weight = query_regularizer_weight
        self.document_regularizer_threshold = document_regularizer_threshold
        self.query_regularizer_threshold = query_regularizer_threshold
        self.use_document_regularizer_only = use_document_regularizer_only
        self.document_regularizer = document_regularizer or FlopsLoss(model, document_regularizer_threshold)
        self.query_regularizer = query_regularizer
        if query_regularizer is None and not use_document_regularizer_only:
            self.query_regularizer = FlopsLoss(model, query_regularizer_threshold)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the loss of a batch and its regularisers, by name."""
        return self.compute_loss_from_embeddings(embed_columns(self.model, list(sentence_features)), labels)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``base_loss``, ``document_regularizer_loss`` and ``query_regularizer_loss`` of columns of vectors."""
        base = self.loss.compute_loss_from_embeddings(embeddings, labels)  # type: ignore[operator]
        losses = dict(base) if isinstance(base, dict) else {"base_loss": base}
        documents = torch.cat(embeddings if self.use_document_regularizer_only else embeddings[1:])
        losses["document_regularizer_loss"] = self.document_regularizer_weight * self._of(
            self.document_regularizer, documents
        )
        if self.query_regularizer_weight is not None:
            losses["query_regularizer_loss"] = self.query_regularizer_weight * self._of(
                self.query_regularizer, embeddings[0]
            )
        return losses

    @staticmethod
    def _of(regularizer: Any, vectors: Tensor) -> Tensor:
        return regularizer.compute_loss_from_embeddings(vectors)

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        config: dict[str, Any] = {
            "loss": self.loss, "document_regularizer_weight": self.document_regularizer_weight
        }  # fmt: skip
        if self.query_regularizer_weight is not None:
            config["query_regularizer_weight"] = self.query_regularizer_weight
        for side in ("document_regularizer", "query_regularizer"):
            regularizer, threshold = getattr(self, side), getattr(self, f"{side}_threshold")
            if regularizer is not None and not isinstance(regularizer, FlopsLoss):
                config[side] = type(regularizer).__name__
            if threshold is not None:
                config[f"{side}_threshold"] = threshold
        return config
