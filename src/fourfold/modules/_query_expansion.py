"""Query expansion of late-interaction models: a short query gets mask tokens, whose vectors count as its own.

From ColBERT (Khattab and Zaharia, 2020, section 3.2).
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.nn import functional

from fourfold.errors import InputError, did_you_mean
from fourfold.modules._base import Features
from fourfold.notices import warn_once

logger = logging.getLogger(__name__)

QueryExpansion = dict[str, Any]
"""``strategy``, ``attend``, ``token`` and ``length``."""

_DEFAULTS: QueryExpansion = {"strategy": None, "attend": False, "token": None, "length": None}
FIXED, MIN = "fixed", "min"


def check(given: Any, query_length: int | None) -> QueryExpansion | None:
    """Return the setting with all its keys; None stays None.

    Args:
        given: ``strategy`` is ``"fixed"`` (every query has exactly ``length`` tokens) or ``"min"`` (at least);
            ``attend`` says whether the model attends to the added tokens, ``token`` which one is added.
        query_length: The longest query, which must not be shorter.

    Raises:
        InputError: If a key is unknown or a value unusable.
    """
    if given is None:
        return None
    if not isinstance(given, dict):
        raise InputError(f"query_expansion must be a dictionary or None, got {given!r}")
    for key in given:
        if key not in _DEFAULTS:
            raise InputError(f"query_expansion has the unknown key {key!r}.{did_you_mean(key, _DEFAULTS)}")
    expansion = {**_DEFAULTS, **given}
    strategy, length, token = expansion["strategy"], expansion["length"], expansion["token"]
    if strategy not in (FIXED, MIN):
        raise InputError(f"query_expansion['strategy'] must be 'fixed' or 'min', got {strategy!r}")
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise InputError(f"query_expansion['length'] must be an integer of at least 1, got {length!r}")
    if not isinstance(expansion["attend"], bool):
        raise InputError(f"query_expansion['attend'] must be True or False, got {expansion['attend']!r}")
    if token is not None and not isinstance(token, str):
        raise InputError(f"query_expansion['token'] must be a token of the vocabulary or None, got {token!r}")
    if query_length is not None and query_length < length:
        raise InputError(
            f"query_length={query_length} is below query_expansion['length']={length}, so no query could have it"
        )
    return expansion


def token_id(expansion: QueryExpansion, tokenizer: Any) -> int:
    """Return the id of the token that is added: the one named, else the mask token, else the end-of-text token.

    Raises:
        InputError: If the tokenizer does not know it.
    """
    token = expansion["token"]
    if token is None:
        for found in (tokenizer.mask_token_id, tokenizer.eos_token_id):
            if found is not None:
                return found
        raise InputError("query_expansion needs a 'token': this tokenizer has neither a mask nor an end-of-text token")
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or (found == tokenizer.unk_token_id and token != tokenizer.unk_token):
        raise InputError(f"query_expansion['token'] {token!r} is not in the tokenizer's vocabulary")
    return found


def set_length(options: dict[str, Any], expansion: QueryExpansion) -> None:
    """Set how many tokens of a query the tokenizer keeps and pads to, whatever its options ask for."""
    length = _longest(expansion, options.get("max_length"))
    if length is not None:
        options["max_length"] = length
    if expansion["strategy"] == FIXED:
        options["padding"] = "max_length"


def _longest(expansion: QueryExpansion, max_length: int | None) -> int | None:
    """Return how many tokens are kept where ``max_length`` is asked for; None is no limit of its own."""
    length = expansion["length"]
    if expansion["strategy"] == FIXED:
        if max_length not in (None, length):
            warn_once(
                logger, f"query_expansion makes every query {length} tokens long; max_length={max_length} is ignored"
            )
        return length
    if max_length is not None and max_length < length:
        warn_once(
            logger, f"query_expansion makes queries at least {length} tokens long; max_length={max_length} is raised"
        )
        return length
    return max_length


def expand(features: Features, expansion: QueryExpansion, token: int) -> Features:
    """Put the token into the free places of padded queries.

    Args:
        features: ``input_ids`` and ``attention_mask`` ``[rows, longest]``; widened by zeros to at least ``length``.
        expansion: The setting.
        token: The id to put.

    Returns:
        The features, with ``query_expansion_positions``, bool ``[rows, longest]``.
    """
    length = expansion["length"]
    missing = length - features["input_ids"].shape[1]
    if missing > 0:
        for key in ("input_ids", "attention_mask", "token_type_ids"):
            if key in features:
                features[key] = functional.pad(features[key], (0, missing))
    mask = features["attention_mask"]
    free = (mask == 0) & (torch.arange(mask.shape[1]) < length)
    if expansion["strategy"] == FIXED and not bool(free.any(dim=1).all()):
        warn_once(logger, f"a query fills all {length} tokens of query_expansion; what went beyond was cut")
    features["input_ids"] = features["input_ids"].masked_fill(free, token)
    if expansion["attend"]:
        features["attention_mask"] = mask.masked_fill(free, 1)
    features["query_expansion_positions"] = free
    return features
