"""Classify pairs of texts by their vectors: the loss that sentence encoders were first trained with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.losses._base import Loss, Takes, check_columns
from fourfold.losses._citations import entry
from fourfold.losses._columns import embed_columns
from fourfold.modules._base import Features
from fourfold.notices import renamed_keywords

SENTENCE_BERT = entry(
    "inproceedings", "reimers-2019-sentence-bert",
    title="Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks",
    author="Reimers, Nils and Gurevych, Iryna",
    booktitle="Proceedings of the 2019 Conference on Empirical Methods in Natural Language Processing", year=2019,
    publisher="Association for Computational Linguistics", url="https://arxiv.org/abs/1908.10084",
)  # fmt: skip


class SoftmaxLoss(Loss):
    """Classify a pair by its two vectors ``u``, ``v``, their absolute difference and their product, by choice.

    Columns: two texts; labels: the class of the pair, or the share of each class. The classifier is trained with the
    model, as ``classifier``.

    Args:
        model: The encoder.
        embedding_dimension: Width of its vectors.
        num_labels: Number of classes.
        concatenation_sent_rep: Whether the classifier sees ``u`` and ``v``.
        concatenation_sent_difference: Whether it sees ``|u - v|``.
        concatenation_sent_multiplication: Whether it sees ``u * v``.
        loss_fct: Compares logits with labels; None is the cross entropy.

    Raises:
        InputError: If the classifier would see nothing, or a batch has not two columns.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "two texts", "the class of the pair")
    config_keys: ClassVar[tuple[str, ...]] = (
        "num_labels", "concatenation_sent_rep", "concatenation_sent_difference", "concatenation_sent_multiplication",
    )  # fmt: skip
    citation = SENTENCE_BERT

    @renamed_keywords(sentence_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        model: Any,
        embedding_dimension: int,
        num_labels: int,
        concatenation_sent_rep: bool = True,
        concatenation_sent_difference: bool = True,
        concatenation_sent_multiplication: bool = False,
        loss_fct: nn.Module | None = None,
    ) -> None:
        super().__init__(model)
        self.num_labels = num_labels
        self.concatenation_sent_rep = concatenation_sent_rep
        self.concatenation_sent_difference = concatenation_sent_difference
        self.concatenation_sent_multiplication = concatenation_sent_multiplication
        parts = 2 * concatenation_sent_rep + concatenation_sent_difference + concatenation_sent_multiplication
        if not parts:
            raise InputError("SoftmaxLoss needs at least one of the concatenation_sent_... arguments to be True")
        self.classifier = nn.Linear(parts * embedding_dimension, num_labels, device=model.device)
        self.loss_fct = nn.CrossEntropyLoss() if loss_fct is None else loss_fct

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Any:
        """Return the loss; without labels the vectors of both columns and the logits ``[rows, classes]``."""
        embeddings = embed_columns(self.model, list(sentence_features))
        check_columns(self, embeddings)
        first, second = embeddings
        parts = []
        if self.concatenation_sent_rep:
            parts += [first, second]
        if self.concatenation_sent_difference:
            parts.append((first - second).abs())
        if self.concatenation_sent_multiplication:
            parts.append(first * second)
        logits = self.classifier(torch.cat(parts, dim=1))
        if labels is None:
            return embeddings, logits
        shares = labels.shape == logits.shape and self.num_labels != 1
        return self.loss_fct(logits, labels if shares else labels.view(-1))
