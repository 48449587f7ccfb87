"""Negatives that a second model holds to be none: what is more like a query than its own positive is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fourfold.containers import Tokens, offsets_of
from fourfold.errors import InputError
from fourfold.losses._gather import all_gather_with_grad, rank_offset
from fourfold.losses._gradient_cache import has_static_embedding_input
from fourfold.losses._rows import token_rows
from fourfold.modules._base import Features
from fourfold.ops.device import batch_to_device

MarginStrategy = Literal["absolute", "relative"]


class Guide:
    """Runs a second model on the texts of the first one's features, without gradients.

    Args:
        model: The model that is trained.
        guide: The model that decides.

    Raises:
        InputError: If one of them has no tokenizer of transformers, or texts would have to be made of the tokens of
            static embeddings.
    """

    def __init__(self, model: Any, guide: Any) -> None:
        from transformers import PreTrainedTokenizerBase

        for name, one in (("model", model), ("guide", guide)):
            tokenizer = getattr(one, "tokenizer", None)
            if not isinstance(tokenizer, PreTrainedTokenizerBase):
                raise InputError(
                    f"the {name} of a guided loss needs a tokenizer of transformers, this one has "
                    f"{type(tokenizer).__name__}"
                )
        self.tokenizer = model.tokenizer
        lengths = [one.max_seq_length for one in (guide, model)]
        shorter = lengths[0] is not None and (lengths[1] is None or lengths[0] < lengths[1])
        self.must_retokenize = shorter or model.tokenizer.get_vocab() != guide.tokenizer.get_vocab()
        if self.must_retokenize and has_static_embedding_input(model):
            raise InputError(
                "a guide with another tokenizer reads texts, which the features of a StaticEmbedding do not give back"
            )

    def __call__(self, guide: Any, features: Features) -> Tensor:
        """Return the guide's vectors ``[rows, width]`` of a column."""
        with torch.no_grad():
            return guide(batch_to_device(self._features(guide, features), guide.device))["sentence_embedding"]

    def _features(self, guide: Any, features: Features) -> Features:
        if self.must_retokenize:
            texts = self.tokenizer.batch_decode(token_rows(features), skip_special_tokens=True)
            return guide.preprocess(texts)
        if "attention_mask" in features:
            return dict(features)
        # Packed for the model; the guide may lay texts out in another way.
        rows = [row.cpu().numpy().astype(np.int32) for row in token_rows(features)]
        tokens = Tokens(np.concatenate(rows), offsets_of([len(row) for row in rows]))
        first = guide[0]
        laid_out = first.pack(tokens) if first.packs({}) else first.pad(tokens)
        return {**laid_out, **{name: features[name] for name in ("prompt_length",) if name in features}}


@dataclass(frozen=True)
class Guided:
    """How the columns of a batch are compared under a guide.

    Attributes:
        temperature: Divides the cosines.
        margin_strategy: Whether the margin is subtracted from the positive's similarity, or a share of it.
        margin: By how much less than the positive a negative must be like the query, in the guide's eyes.
        contrast_anchors: Whether other queries are negatives of a query.
        contrast_positives: Whether other positives are negatives of a positive.
        gather: Whether the rows of other processes are negatives too.
    """

    temperature: float
    margin_strategy: MarginStrategy
    margin: float
    contrast_anchors: bool
    contrast_positives: bool
    gather: bool

    def __post_init__(self) -> None:
        if self.margin_strategy not in ("absolute", "relative"):
            raise InputError(f"margin_strategy must be 'absolute' or 'relative', got {self.margin_strategy!r}")

    def columns(self, embeddings: Sequence[Tensor]) -> Columns:
        """Return the columns of a batch with those of other processes, if they count."""
        others = embeddings[1:]
        return Columns(
            list(embeddings), [all_gather_with_grad(column) for column in others] if self.gather else list(others)
        )

    def loss(self, ours: Columns, theirs: Columns, rows: slice = slice(None)) -> Tensor:
        """Return the mean loss of some rows.

        Args:
            ours: The vectors of the model.
            theirs: Those of the guide.
            rows: Rows of this process.
        """
        offset = rank_offset(len(ours.own[0])) if self.gather else 0
        anchor, positive = ours.own[0][rows], ours.own[1][rows]
        found = torch.arange(len(ours.own[0]), device=anchor.device)[rows] + offset
        # From the same product as what it is compared with: a text that is in two rows must tie with itself.
        limit = cosines(theirs.own[0][rows], theirs.every[0]).gather(1, found[:, None])
        limit = limit - (self.margin if self.margin_strategy == "absolute" else limit.abs() * self.margin)
        blocks = []
        for number, (queries, candidates, guide_queries, guide_candidates) in enumerate(
            self._blocks(anchor, positive, ours, theirs, rows)
        ):
            suppressed = cosines(guide_queries, guide_candidates) > limit
            if number == 0:
                suppressed[torch.arange(len(found), device=found.device), found] = False
            blocks.append(cosines(queries, candidates).masked_fill(suppressed, -torch.inf))
        return functional.cross_entropy(torch.cat(blocks, dim=1) / self.temperature, found)

    def _blocks(
        self, anchor: Tensor, positive: Tensor, ours: Columns, theirs: Columns, rows: slice
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield what is compared with what, in the order of the columns of the logits."""
        guide_anchor, guide_positive = theirs.own[0][rows], theirs.own[1][rows]
        yield anchor, ours.every[0], guide_anchor, theirs.every[0]
        if self.contrast_anchors:
            yield anchor, ours.own[0], guide_anchor, theirs.own[0]
        if self.contrast_positives:
            yield positive, ours.every[0], guide_positive, theirs.every[0]
        for negative, guide_negative in zip(ours.every[1:], theirs.every[1:], strict=True):
            yield anchor, negative, guide_anchor, guide_negative


@dataclass(frozen=True)
class Columns:
    """The vectors of a batch: ``own`` of this process, ``every`` of all, without the queries."""

    own: list[Tensor]
    every: list[Tensor]


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosines ``[rows, others]`` of all rows with all others."""
    return functional.normalize(first, dim=-1, eps=1e-8) @ functional.normalize(second, dim=-1, eps=1e-8).T
