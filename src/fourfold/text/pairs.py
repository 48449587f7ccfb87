"""Pairs of texts to packed ids: each text is tokenised once, however many pairs it is part of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fourfold.containers import Tokens, offsets_of, runs_of
from fourfold.errors import InputError

Cut = Literal["longest_first", "only_first", "only_second"]
"""Which text of a pair that is too long is cut."""

# What the layout is learned from, and what it is tried on.
_PROBES = ("a", "b c")
_TRIALS = ((*_PROBES,), ("", "a"), ("a b", ""), ("", ""))


@dataclass(frozen=True)
class PairLayout:
    """What a tokenizer puts around the two texts of a pair.

    Attributes:
        around: Ids before, between and after the texts.
        types: Segment ids of what is before, of the first text, between, of the second text, and after.
    """

    around: tuple[list[int], list[int], list[int]]
    types: tuple[list[int], int, list[int], int, list[int]]

    @property
    def special(self) -> int:
        """Number of tokens that are not the texts' own."""
        return sum(map(len, self.around))

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, special: bool) -> PairLayout | None:
        """Return the layout of a tokenizer's pairs, or None if pairs are more than their texts side by side.

        Args:
            tokenizer: Neither cuts nor pads.
            special: Whether special tokens are put around the texts.
        """
        found = tokenizer.encode(*_PROBES, add_special_tokens=special)
        owners = found.sequence_ids
        if 0 not in owners or 1 not in owners:
            return None
        bounds = [0]
        for text in (0, 1):
            first = owners.index(text)
            bounds += [first, first + owners.count(text)]
        parts = [slice(start, stop) for start, stop in zip(bounds, [*bounds[1:], len(owners)], strict=True)]
        if any(owners[place] is not None for part in parts[::2] for place in range(len(owners))[part]):
            return None
        ids, types = ([row[part] for part in parts] for row in (found.ids, found.type_ids))
        layout = cls(
            (ids[0], ids[2], ids[4]), (types[0], types[1][0], types[2], types[3][0], types[4])
        )  # fmt: skip
        return layout if all(layout._fits(tokenizer, *trial, special=special) for trial in _TRIALS) else None

    def _fits(self, tokenizer: Tokenizer, first: str, second: str, *, special: bool) -> bool:
        """Whether the tokenizer makes of a pair what this layout makes of its texts."""
        texts = [tokenizer.encode(text, add_special_tokens=False).ids for text in (first, second)]
        wanted = tokenizer.encode(first, second, add_special_tokens=special)
        parts = Tokens.of(texts)
        got = self.joined(parts, np.array([[0, 1]]), None, whole=parts.lengths)
        types = np.zeros(len(got.ids), np.int32) if got.type_ids is None else got.type_ids
        return got.ids.tolist() == wanted.ids and types.tolist() == wanted.type_ids

    def joined(
        self,
        texts: Tokens,
        pairs: NDArray[np.int64],
        max_length: int | None,
        *,
        whole: NDArray[np.int64],
        left: bool = False,
        cut: Cut = "longest_first",
    ) -> Tokens:
        """Return pairs as packed ids.

        Args:
            texts: Ids of the texts alone; of each at least its first ``max_length``, or its last ones if ``left``.
            pairs: ``[pairs, 2]``, the row of each pair's texts.
            max_length: Most tokens of a pair. None cuts nothing.
            whole: ``[texts]``, how long each text was before it was cut.
            left: Whether texts are cut at their beginning.
            cut: Which text is cut; one that alone is cut must have room (:func:`check_room`).
        """
        lengths = whole[pairs]
        if max_length is not None and cut == "longest_first":
            lengths = longest_first(lengths, max_length - self.special)
        elif max_length is not None:
            lengths = one_alone(lengths, max_length - self.special, int(cut == "only_second"))
        starts = texts.offsets[:-1][pairs] + (texts.lengths[pairs] - lengths if left else 0)
        before, between, after = map(len, self.around)
        offsets = offsets_of(lengths.sum(1) + self.special)
        begin = np.stack([offsets[:-1] + before, offsets[:-1] + before + lengths[:, 0] + between], axis=1)
        ids, types = np.empty((2, int(offsets[-1])), np.int32)
        fixed = (offsets[:-1], begin[:, 1] - between, offsets[1:] - after)
        for at, some, kinds in zip(fixed, self.around, self.types[::2], strict=True):
            places = at[:, None] + np.arange(len(some))
            ids[places], types[places] = some, kinds
        for text in (0, 1):
            places = runs_of(begin[:, text], lengths[:, text])
            ids[places] = texts.ids[runs_of(starts[:, text], lengths[:, text])]
            types[places] = self.types[1 + 2 * text]
        return Tokens(ids, offsets, types if types.any() else None)


def longest_first(lengths: NDArray[np.int64], room: int) -> NDArray[np.int64]:
    """Return how many tokens of each text of a pair are kept where both share some room, ``[pairs, 2]``.

    The longer text gives up its tokens first; from where both are equally long each gets half, the one that was longer
    (the second, of equal ones) an odd token more.

    >>> longest_first(np.array([[3, 9], [3, 3], [8, 9], [9, 8]]), 7).tolist()
    [[3, 4], [3, 3], [3, 4], [4, 3]]
    """
    short, long = lengths.min(1), lengths.max(1)
    over = short + long > room
    halves = over & (2 * short > room)
    kept_long = np.where(halves, room - room // 2, np.where(over, room - short, long))
    kept_short = np.where(halves, room // 2, short)
    first_is_long = lengths[:, 0] > lengths[:, 1]
    return np.stack(
        [np.where(first_is_long, kept_long, kept_short), np.where(first_is_long, kept_short, kept_long)], axis=1
    )


def one_alone(lengths: NDArray[np.int64], room: int, which: int) -> NDArray[np.int64]:
    """Return how many tokens of each text of a pair are kept where one of them is cut, and the other never.

    Where the other leaves no room for a token of it, ``[pairs, 2]`` has a number below 1 in its place.

    >>> one_alone(np.array([[3, 9], [3, 3], [8, 1]]), 7, 1).tolist()
    [[3, 4], [3, 3], [8, -1]]
    """
    kept = lengths.copy()
    kept[:, which] -= np.maximum(lengths.sum(1) - room, 0)
    return kept


def check_room(
    texts: Sequence[str], pairs: NDArray[np.int64], lengths: NDArray[np.int64], room: int, which: int
) -> None:
    """Raise :class:`~fourfold.errors.InputError` for a pair that stays too long if one of its texts is cut."""
    kept = one_alone(lengths[pairs], room, which)[:, which]
    wrong = np.flatnonzero((kept < 1) & (kept < lengths[pairs][:, which]))
    if len(wrong):
        names = ("first", "second")
        other = texts[pairs[wrong[0], 1 - which]]
        raise InputError(
            f"truncation='only_{names[which]}' does not make a pair short enough: its {names[1 - which]} text, which "
            f"begins {other[:40]!r}, leaves the other none of the {room} tokens that both may have"
        )


def rows_of(pairs: Sequence[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the different texts of pairs, and for each pair the places of its texts among them, ``[pairs, 2]``.

    >>> rows_of([("q", "a"), ("q", "b")])
    (['q', 'a', 'b'], array([[0, 1],
           [0, 2]]))
    """
    place: dict[str, int] = {}
    rows = np.array([place.setdefault(text, len(place)) for pair in pairs for text in pair], dtype=np.int64)
    return list(place), rows.reshape(-1, 2)
