"""Run once what texts begin with, where only the last token of each is read and attention looks back only.

That holds for language models that score by their next token, and for classifiers that read the last state. Whether a
model gives the same numbers so is tried when texts first share anything worth it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from fourfold.containers import Prefixes, Tokens
from fourfold.modules import _packed
from fourfold.text.prefixes import shared_prefixes


def with_prefixes(module: Any, tokens: Tokens) -> Tokens:
    """Return tokens with what the rows share, as far as the module may compute that once.

    Args:
        module: A :class:`~fourfold.modules.transformer.Transformer` that reads the last token of each text.
        tokens: The rows.
    """
    # A classifier looks for the last token that does not pad, which must not lie in what is shared.
    classifies = module.transformer_task == "sequence-classification"
    if classifies and bool((tokens.ids == module.model.config.pad_token_id).any()):
        return tokens
    prefixes = shared_prefixes(tokens)
    if prefixes is None or not module.shares_prefixes():
        return tokens
    return replace(tokens, prefixes=prefixes)


def same_numbers(module: Any, vocabulary: int, pad_id: int) -> bool:
    """Whether a module gives texts that begin alike the same output together as whole ones, tried on short ones.

    Args:
        module: A module that runs packed.
        vocabulary: Number of ids that may be used.
        pad_id: The id that pads.
    """
    ids, packing = _packed.trial(module.model, vocabulary, pad_id)
    if ids is None:
        return False
    begun, *ends = np.split(ids.cpu().numpy().astype(np.int32), packing.offsets[1:-1])
    begun = begun[: -len(ends[0])]
    whole = Tokens.of([[*begun, *end] for end in ends])
    lengths = np.full(len(ends), len(begun), dtype=np.int64)
    shared = replace(whole, prefixes=Prefixes(np.ones_like(lengths), lengths))
    try:
        with _packed.evaluated(module.model):
            ours, theirs = (_output(module, tokens) for tokens in (shared, whole))
    except (RuntimeError, IndexError, ValueError):
        return False  # a model that reads a batch's layout in yet another way
    return ours.shape == theirs.shape and _packed.close(ours, theirs, _packed.tolerance(module.model))


def _output(module: Any, tokens: Tokens) -> Tensor:
    device = next(module.model.parameters()).device
    features = module.pack(tokens)
    for name, value in features.items():
        if isinstance(value, Tensor):
            features[name] = value.to(device)
    return module(features)[module.module_output_name].float()
