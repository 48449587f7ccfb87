"""What a caller may hand to ``encode``: one input or a batch, and which texts are fit for a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fourfold.errors import InputError

Text = str | tuple[str, str] | list[str]
"""A text, or a pair of texts that the tokenizer joins."""


def is_single(value: Any) -> bool:
    """Whether ``value`` is one input rather than a batch of inputs.

    A string is one input, and so is a list of chat messages. Lists, tuples, dataset columns and arrays of strings are
    batches. Anything else counts as one input, and is refused later if no module takes it.
    """
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict) and {"role", "content"} <= value[0].keys()
    if isinstance(value, np.ndarray):
        return value.ndim == 0 or value.dtype.kind not in "UO"
    return not _is_sequence(value)


def is_single_pair(value: Any) -> bool:
    """Whether ``value`` is one input of a model that scores pairs, rather than a batch of them.

    What is told is the first item: a list, tuple, dataset column or array is a batch of pairs if that is one too, and
    one pair (or conversation) otherwise. Anything else is one input.

    >>> [is_single_pair(value) for value in (("a", "b"), ["a", "b"], [("a", "b")], [], "a")]
    [True, True, False, False, True]
    """
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "UO" or (value.ndim < 2 and value.size > 0)
    if not _is_sequence(value):
        return True
    return len(value) > 0 and not _is_sequence(value[0])


def _is_sequence(value: Any) -> bool:
    kind = type(value)
    return isinstance(value, (list, tuple)) or (kind.__name__ == "Column" and kind.__module__.startswith("datasets."))


def strings_as_lists(value: Any) -> Any:
    """Return an array of strings as a string or as lists of them, and anything else as it is."""
    return value.tolist() if isinstance(value, np.ndarray) and value.dtype.kind in "UO" else value


def as_list(batch: Any) -> list[Any]:
    """Return a batch as a list of inputs; a list is returned as it is, not copied."""
    if isinstance(batch, np.ndarray):
        return batch.tolist()
    return batch if isinstance(batch, list) else list(batch)


def check_stream(inputs: Any, window: int) -> None:
    """Check what a stream of inputs is made of.

    Raises:
        InputError: If ``inputs`` is one input or no iterable, or a window has no room for an input.
    """
    if isinstance(inputs, (str, bytes, dict)) or not isinstance(inputs, Iterable):
        raise InputError(f"encode_stream takes an iterable of inputs, got {type(inputs).__name__}; encode takes one")
    if window < 1:
        raise InputError(f"window must be at least 1, got {window}")


def is_pair(value: Any) -> bool:
    """Whether ``value`` is a pair of texts."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(part, str) for part in value)


def check_text(value: Any, position: int | None = None) -> Text:
    """Return ``value`` if it is a text or a pair of texts.

    Raises:
        InputError: Otherwise, naming the position in the batch and the type found.
    """
    if isinstance(value, dict) and len(value) == 1 and "text" in value:
        value = value["text"]
    if isinstance(value, str) or is_pair(value):
        return value
    where = "" if position is None else f" at position {position}"
    raise InputError(
        f"Unsupported input type{where}: {type(value).__name__} ({short(value)}); give a string or a pair of strings. "
        "Convert numbers with str(), and replace missing values (None, NaN) by '' or drop them."
    )


def short(value: Any) -> str:
    """Return how an error message shows a value."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def check_texts(values: Sequence[Any]) -> list[Any]:
    """Return ``values`` if each is a text or a pair of texts; raises :class:`~fourfold.errors.InputError` otherwise."""
    if all(type(value) is str for value in values):
        return values if isinstance(values, list) else list(values)
    return [check_text(value, i) for i, value in enumerate(values)]


def check_single_texts(values: Sequence[Any], module: str) -> list[str]:
    """Return ``values`` if each is one text; raises :class:`~fourfold.errors.InputError` for pairs and all else."""
    texts = check_texts(values)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{module} takes single texts, got a pair at position {position}; join its parts")
    return texts


def replace_surrogates(text: str) -> str:
    """Return ``text`` in a form that UTF-8 can carry: surrogate pairs joined, lone surrogates become U+FFFD.

    >>> replace_surrogates("a" + chr(0xD83D) + chr(0xDE00) + chr(0xDC80)) == "a" + chr(0x1F600) + chr(0xFFFD)
    True
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def character_count(value: Any) -> int:
    """Return a cheap estimate of an input's length, for sorting inputs that a model tokenises itself."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(character_count, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(character_count, value))
    return int(np.size(getattr(value, "shape", 1)))
