"""Contrastive tension: two copies of a model agree on the same text, and on nothing else."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fourfold.errors import InputError
from fourfold.losses._base import Takes, check_columns
from fourfold.losses._citations import entry
from fourfold.losses._columns import embed_columns
from fourfold.losses._rows import token_rows
from fourfold.modules._base import Features
from fourfold.ops.names import similarity_fct_name
from fourfold.ops.similarity import cos_sim
from fourfold.text.example import InputExample

TENSION = entry(
    "inproceedings", "carlsson2021semantic", title="Semantic Re-tuning with Contrastive Tension",
    author="Carlsson, Fredrik and Gyllensten, Amaru Cuba and Gogoulou, Evangelia and Hellqvist, Erik Ylipää and "
    "Sahlgren, Magnus",
    booktitle="International Conference on Learning Representations", year=2021,
    url="https://openreview.net/forum?id=Ov_sMNau-PF",
)  # fmt: skip


class ContrastiveTensionLoss(nn.Module):
    """Give a text and itself a large dot product by two copies of the model, a text and another one a small one.

    Columns: two texts; labels: 1 where they are the same text, else 0; without labels that is found out by their
    tokens. The given model is the one to be used afterwards.

    Args:
        model: The encoder; it is copied.
    """

    takes: ClassVar[Takes | None] = Takes((2,), "two texts", "1 where they are the same, else 0", optional=True)
    citation = TENSION

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model2 = model
        self.model1 = copy.deepcopy(model)
        self.criterion = nn.BCEWithLogitsLoss(reduction="sum")

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of two columns."""
        columns = list(sentence_features)
        check_columns(self, columns)
        first, second = columns
        if labels is None:
            pairs = zip(token_rows(first), token_rows(second), strict=True)
            labels = torch.tensor([torch.equal(*pair) for pair in pairs])
        (ours,), (theirs,) = embed_columns(self.model1, [first]), embed_columns(self.model2, [second])
        scores = (ours * theirs).sum(dim=1)
        return self.criterion(scores, labels.to(scores))

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows: none."""
        return {}


class ContrastiveTensionLossInBatchNegatives(nn.Module):
    """:class:`ContrastiveTensionLoss` in which all other texts of the batch are the negatives.

    Columns: one text; labels are not read. The scale is trained, as its logarithm ``logit_scale``.

    Args:
        model: The encoder; it is copied.
        scale: Factor of the similarities to begin with.
        similarity_fct: Of all rows with all rows.
    """

    citation = TENSION

    def __init__(self, model: Any, scale: float = 20.0, similarity_fct: Callable[[Any, Any], Tensor] = cos_sim) -> None:
        super().__init__()
        self.model2 = model
        self.model1 = copy.deepcopy(model)
        self.similarity_fct = similarity_fct
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of the first column."""
        column = list(sentence_features)[:1]
        (ours,), (theirs,) = embed_columns(self.model1, column), embed_columns(self.model2, column)
        logits = self.similarity_fct(ours, theirs) * self.logit_scale.exp()
        own = torch.arange(len(logits), device=logits.device)
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {"scale": self.logit_scale.exp().item(), "similarity_fct": similarity_fct_name(self.similarity_fct)}


class ContrastiveTensionDataLoader:
    """Batches for :class:`ContrastiveTensionLoss`: of each group one text with itself, the others with another.

    Args:
        sentences: The texts; they are shuffled in place for every pass.
        batch_size: Pairs of a batch.
        pos_neg_ratio: One pair in so many is a text with itself.

    Raises:
        InputError: If the size of a batch is no multiple of the ratio.
    """

    def __init__(self, sentences: list[str], batch_size: int, pos_neg_ratio: int = 8) -> None:
        if batch_size % pos_neg_ratio:
            raise InputError(f"batch_size must be a multiple of pos_neg_ratio, got {batch_size} and {pos_neg_ratio}")
        self.sentences = sentences
        self.batch_size = batch_size
        self.pos_neg_ratio = pos_neg_ratio
        self.collate_fn: Callable[[list[Any]], Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        random.shuffle(self.sentences)
        texts = iter(self.sentences)
        for _ in range(len(self)):
            batch = []
            for place in range(self.batch_size):
                text = next(texts)
                same = place % self.pos_neg_ratio == 0
                other = text if same else next(texts)
                batch.append(InputExample(texts=[text, other], label=int(same)))
            yield batch if self.collate_fn is None else self.collate_fn(batch)

    def __len__(self) -> int:
        # A pair of two texts takes two.
        return len(self.sentences) // (2 * self.batch_size - self.batch_size // self.pos_neg_ratio)
