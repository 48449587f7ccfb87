"""Change the vocabulary of a tokenizer: leave tokens out, add words. For WordPiece, BPE, Unigram and whole words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer

from fourfold.errors import InputError

# What a text is tried with to see which special tokens a tokenizer puts around it.
_PROBES = ("a", "the", "1", "é", "字")
# Score of tokens that a Unigram model must hold and never choose.
_NEVER = -1e4


def surroundings(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts before and after a text."""
    for probe in _PROBES:
        inner = tokenizer.encode(probe, add_special_tokens=False).ids
        whole = tokenizer.encode(probe).ids
        for start in range(len(whole) - len(inner) + 1):
            if inner and whole[start : start + len(inner)] == inner:
                return whole[:start], whole[start + len(inner) :]
    return [], []


def without(tokenizer: Tokenizer, drop: Callable[[str], bool]) -> tuple[Tokenizer, list[int]]:
    """Return a copy that lacks some tokens, adds no special tokens, and cuts and pads nothing.

    Args:
        tokenizer: Not changed.
        drop: Says which tokens are left out. The token for unknown words stays.

    Returns:
        The copy, whose ids are consecutive in the old order, and the old id of each.
    """
    spec = json.loads(tokenizer.to_str())
    model = spec["model"]
    unknown = _unknown(model)
    ids = tokenizer.get_vocab(with_added_tokens=True)
    kept = [token for token in sorted(ids, key=ids.__getitem__) if token == unknown or not drop(token)]
    new = {token: number for number, token in enumerate(kept)}
    if model["type"] == "Unigram":
        scores = dict(map(tuple, model["vocab"]))
        model["vocab"] = [[token, scores.get(token, _NEVER)] for token in kept]
        model["unk_id"] = None if unknown is None else new[unknown]
    else:
        model["vocab"] = new
    if model.get("merges"):
        model["merges"] = _merges(model, new)
    spec["added_tokens"] = [
        {**added, "id": new[added["content"]]} for added in spec["added_tokens"] if added["content"] in new
    ]
    spec |= {"post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(spec)), [ids[token] for token in kept]


def _merges(model: dict[str, Any], kept: dict[str, int]) -> list[Any]:
    """Return the merges whose two parts and result are kept."""
    prefix = model.get("continuing_subword_prefix") or ""
    found = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if left in kept and right in kept and left + right.removeprefix(prefix) in kept:
            found.append(merge)
    return found


def unknown_token(tokenizer: Tokenizer) -> str | None:
    """Return the token that stands for what a tokenizer does not know, or None if it has none."""
    return _unknown(json.loads(tokenizer.to_str())["model"])


def _unknown(model: dict[str, Any]) -> str | None:
    if model["type"] == "Unigram":
        return None if model["unk_id"] is None else model["vocab"][model["unk_id"]][0]
    return model.get("unk_token") or None


def add_words(tokenizer: Tokenizer, words: Sequence[str]) -> list[str]:
    """Add words that are to be one token, wherever they stand alone in a text; phrases may hold spaces.

    Args:
        tokenizer: Is changed. New ids follow the old ones.
        words: What is empty, added before or one token already is left out; so is what the tokenizer's normalizer
            makes equal to another.

    Returns:
        The words that were added, in the order of their ids.

    Raises:
        InputError: If a word is no text.
    """
    unknown = unknown_token(tokenizer)
    added: dict[str, str] = {}
    for word in words:
        if not isinstance(word, str):
            raise InputError(f"vocabulary must hold words, got {word!r}")
        form = tokenizer.normalizer.normalize_str(word) if tokenizer.normalizer is not None else word
        if form.strip() and form not in added and not _has_token(tokenizer, word, unknown):
            added[form] = word
    # The space before a word goes with it; otherwise byte-level tokenizers would give it a token of its own.
    tokenizer.add_tokens([AddedToken(word, single_word=True, lstrip=True, normalized=True) for word in added.values()])
    return list(added.values())


def _has_token(tokenizer: Tokenizer, word: str, unknown: str | None) -> bool:
    tokens = tokenizer.encode(word, add_special_tokens=False).tokens
    return tokenizer.token_to_id(word) is not None or (len(tokens) == 1 and tokens[0] != unknown)
