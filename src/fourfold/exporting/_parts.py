"""The modules of a model as a graph can hold them: over padded texts, without a look at the numbers.

A tracer follows shapes, not values, so what the modules ask of a batch (which tokens are real, how many there are) is
arithmetic on the mask here. The formulae are those of :mod:`fourfold.ops`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.modules import _packed
from fourfold.modules._base import Features
from fourfold.ops.splade import ACTIVATIONS

_LEAST = 1e-9


class Backbone(nn.Module):
    """A ``Transformer`` module: ids to the feature that it writes.

    Args:
        module: The module.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        entry = module.modality_config.get("text")
        if entry is None or entry["method"] != "forward" or not isinstance(entry["method_output_name"], str):
            raise InputError(
                "a whole graph needs a model that reads plain texts by its forward; this one reads "
                f"{', '.join(map(str, module.modality_config))}. Export it without whole"
            )
        self.model = _packed.unwrapped(module.model)
        self.output = entry["method_output_name"]
        self.name = module.module_output_name
        # Of a language model only the last position is read: texts end there, since they are padded on the left.
        self.last_alone = module.transformer_task == "text-generation"

    def forward(self, features: Features) -> Features:
        """Write the model's output."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        given = {name: features[name] for name in names if features.get(name) is not None}
        if self.last_alone:
            given["logits_to_keep"] = 1
        return {**features, self.name: getattr(self.model(**given), self.output)}


class Pooling(nn.Module):
    """A ``Pooling`` module over ``[rows, tokens, width]`` and a mask."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.modes = module.modes
        self.include_prompt = module.include_prompt

    def forward(self, features: Features) -> Features:
        """Write ``sentence_embedding``."""
        hidden, mask = features["token_embeddings"], features["attention_mask"]
        place = mask.cumsum(1)  # 1-based among the real tokens
        if not self.include_prompt:
            mask = mask * (place > features["prompt_length"]).long()
        weights = {mode: mask * place if mode == "weightedmean" else mask for mode in self.modes}
        pooled = [_POOLED[mode](hidden, weights[mode]) for mode in self.modes]
        return {**features, "sentence_embedding": pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)}


def _at(hidden: Tensor, place: Tensor) -> Tensor:
    return hidden.gather(1, place[:, None, None].expand(-1, 1, hidden.shape[2])).squeeze(1)


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return _at(hidden, mask.argmax(1))


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    place = (mask * torch.arange(1, mask.shape[1] + 1)).argmax(1)
    return _at(hidden, place) * mask.amax(1, keepdim=True).to(hidden.dtype)


def _maximum(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill((mask == 0)[:, :, None], -torch.inf).amax(1)


def _total(hidden: Tensor, weights: Tensor) -> Tensor:
    return torch.bmm(weights.to(hidden.dtype)[:, None, :], hidden).squeeze(1)


def _mean(hidden: Tensor, weights: Tensor) -> Tensor:
    return _total(hidden, weights) / weights.sum(1, keepdim=True).to(hidden.dtype).clamp(min=_LEAST)


def _mean_sqrt(hidden: Tensor, mask: Tensor) -> Tensor:
    return _total(hidden, mask) / mask.sum(1, keepdim=True).to(hidden.dtype).clamp(min=_LEAST).sqrt()


_POOLED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _first, "lasttoken": _last, "max": _maximum, "mean": _mean, "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _mean,
}  # fmt: skip


class Splade(nn.Module):
    """A ``SpladePooling`` module over logits ``[rows, tokens, words]`` and a mask."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.strategy = module.pooling_strategy
        self.activation = module.activation_function

    def forward(self, features: Features) -> Features:
        """Write ``sentence_embedding``, a weight for each word."""
        logits, mask = features["token_embeddings"], features["attention_mask"]
        real, activation = mask[:, :, None] == 1, ACTIVATIONS[self.activation].of
        if self.strategy == "max":
            # No activation lets a smaller logit pass a larger one, so that one number a word is enough.
            pooled = activation(logits.masked_fill(~real, -torch.inf).amax(1))
            pooled = pooled.masked_fill(mask.amax(1, keepdim=True) == 0, 0)
        else:
            pooled = activation(logits).masked_fill(~real, 0).sum(1)
            if self.strategy == "mean":
                pooled = pooled / mask.sum(1, keepdim=True).to(pooled.dtype).clamp(min=_LEAST)
        return {**features, "sentence_embedding": pooled}


class Table(nn.Module):
    """A ``StaticEmbedding`` module over padded ids."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(module.embedding.weight.detach().float(), requires_grad=False)

    def forward(self, features: Features) -> Features:
        """Write ``sentence_embedding``, the mean of the real tokens' vectors."""
        vectors = torch.nn.functional.embedding(features["input_ids"], self.weight)
        return {**features, "sentence_embedding": _mean(vectors, features["attention_mask"])}


class TokenWeights(nn.Module):
    """A ``SparseStaticEmbedding`` module over padded ids."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(module.weight.detach().float(), requires_grad=False)

    def forward(self, features: Features) -> Features:
        """Write ``sentence_embedding``, the weight of each token that a text holds."""
        ids, real = features["input_ids"], features["attention_mask"].to(self.weight.dtype)
        held = real.new_zeros(ids.shape[0], self.weight.shape[0]).scatter_add(1, ids, real)
        weights, before = (held > 0).to(real.dtype) * self.weight, features.get("sentence_embedding")
        return {**features, "sentence_embedding": weights if before is None else before * weights}


class AsItIs(nn.Module):
    """A module that knows nothing of texts: it maps vectors, whatever they are of."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, features: Features) -> Features:
        """Write what the module writes."""
        return self.module(dict(features))


_FORMS: dict[str, type[nn.Module]] = {
    "Transformer": Backbone, "MLMTransformer": Backbone, "Pooling": Pooling, "SpladePooling": Splade,
    "StaticEmbedding": Table, "SparseStaticEmbedding": TokenWeights,
    **dict.fromkeys(("Dense", "Dropout", "LayerNorm", "LogitScore", "Normalize", "SparseAutoEncoder"), AsItIs),
}  # fmt: skip


def traced(module: nn.Module) -> nn.Module:
    """Return a module in the form that a graph can hold.

    Raises:
        InputError: If there is none.
    """
    name = type(module).__name__
    if name not in _FORMS or not type(module).__module__.startswith("fourfold."):
        raise InputError(
            f"a whole graph cannot hold the module {name}; it may hold {', '.join(_FORMS)}. Export the model without "
            "whole: then the transformer alone becomes a graph"
        )
    return _FORMS[name](module)
