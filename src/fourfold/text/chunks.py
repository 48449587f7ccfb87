"""Cut long texts into chunks that fit a model, with overlap, at the ends of paragraphs, sentences or words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fourfold.errors import InputError
from fourfold.text._places import Places

if TYPE_CHECKING:
    from fourfold.text.tokenizer import FastTokenizer, Located


@dataclass(frozen=True)
class Chunk:
    """A piece of a text.

    Attributes:
        text: The piece, ``whole[start:stop]``.
        start: Index of its first character in the whole text.
        stop: Index after its last character.
        tokens: What the tokenizer makes of the piece alone, special tokens included; None without a tokenizer.
    """

    text: str
    start: int
    stop: int
    tokens: int | None = None


def split(text: str, *, size: int, overlap: int = 0, tokenizer: Any = None) -> list[Chunk]:
    """Cut a text into chunks of at most ``size`` tokens, or characters, in order.

    A text that fits is one chunk, exactly as it is. Otherwise each chunk is filled up and then cut back to the last end
    of a paragraph within its second half; if there is none, of a sentence there; if there is none, of a line there;
    else to the last end of a word. Only a word that is longer than a chunk is cut inside, there between what reads as
    one character, or one token for a tokenizer. White space between chunks belongs to none; everything else does.

    The text is tokenised once. The first word of each chunk is counted anew, since some tokenizers make something else
    of a word without the space before it; so is a whole chunk that is cut inside a word or a token.

    Args:
        text: The text.
        size: Most tokens of a chunk, the tokenizer's special tokens included; most characters without a tokenizer.
        overlap: Most tokens or characters of a chunk that the next one repeats. The repeated part starts with a
            sentence if one starts in the first half of it, else with a word.
        tokenizer: A ``tokenizers.Tokenizer`` or a fast transformers tokenizer, such as ``model.tokenizer``; None counts
            characters.

    Raises:
        InputError: If the text is no string, the size leaves no room beside special tokens, the overlap is not below
            what a chunk holds, or the tokenizer cannot tell where tokens stand.

    >>> [chunk.text for chunk in split("One sentence. And one more. The end.", size=20)]
    ['One sentence.', 'And one more.', 'The end.']
    >>> split("to be or not to be", size=12, overlap=6)[1]
    Chunk(text='or not to be', start=6, stop=18, tokens=None)
    """
    if not isinstance(text, str):
        raise InputError(f"text must be a string, got {type(text).__name__}")
    fast = None if tokenizer is None else fast_tokenizer(tokenizer)
    located = None if fast is None else fast.locate([text])[0]
    return cut(text, size=size, overlap=overlap, tokenizer=fast, located=located)


def cut(
    text: str,
    *,
    size: int,
    overlap: int = 0,
    tokenizer: FastTokenizer | None = None,
    located: Located | None = None,
    prefix: str = "",
) -> list[Chunk]:
    """Do what :func:`split` does with a text that is tokenised already.

    Args:
        text: The text.
        size: Most tokens or characters of a chunk.
        overlap: Most of them that the next chunk repeats.
        tokenizer: What made ``located``; None counts characters.
        located: The tokens of ``prefix + text``.
        prefix: A prompt that stands before every chunk, and counts.
    """
    if not isinstance(size, int) or size < 1:
        raise InputError(f"size must be a whole number of at least 1, got {size!r}")
    if not isinstance(overlap, int) or overlap < 0:
        raise InputError(f"overlap must be a whole number of at least 0, got {overlap!r}")
    fixed = 0 if tokenizer is None else tokenizer.count(prefix)
    room = size - fixed
    if room < 1:
        raise InputError(f"size {size} leaves no room: special tokens and the prompt take {fixed}")
    if overlap >= room:
        raise InputError(f"overlap must be less than the {room} that a chunk of size {size} holds, got {overlap}")
    total = len(text) if located is None else len(located.ids) - fixed
    if total <= room:
        ranges: Iterator[tuple[int, int, int]] = iter([(0, len(text), total)])
    else:
        places = Places(text)
        scale: _Scale = _Characters(len(text))
        if tokenizer is not None and located is not None:
            scale = _Tokens(text, places, tokenizer, located, prefix, fixed)
        ranges = _ranges(places, scale, room, overlap)
    return [Chunk(text[a:b], a, b, None if located is None else count + fixed) for a, b, count in ranges]


@lru_cache(maxsize=8)
def _copy(tokenizer: Any, _: int) -> FastTokenizer:
    from fourfold.text.tokenizer import FastTokenizer

    return FastTokenizer(tokenizer)


def fast_tokenizer(tokenizer: Any) -> FastTokenizer:
    """Return the tokenizer behind a ``tokenizers.Tokenizer`` or a fast transformers tokenizer.

    Raises:
        InputError: If it is of another kind.
    """
    from tokenizers import Tokenizer

    from fourfold.text.tokenizer import FastTokenizer

    if isinstance(tokenizer, FastTokenizer):
        return tokenizer
    base = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(base, Tokenizer):
        raise InputError(
            "tokenizer must be a tokenizers.Tokenizer or a fast transformers tokenizer, which know where tokens stand; "
            f"got {type(tokenizer).__name__}"
        )
    # A tokenizer that grew is another one; its size is the cheap sign of that.
    return _copy(base, base.get_vocab_size())


class _Scale(Protocol):
    """How much stands between two places of a text."""

    def count(self, start: int, stop: int) -> int:
        """Return how much stands there, in company of the rest."""

    def reach(self, start: int, room: int) -> int:
        """Return the farthest place up to which ``room`` reaches."""

    def back(self, stop: int, room: int) -> int:
        """Return the first place from which no more than ``room`` stands before ``stop``."""

    def alone(self, start: int, stop: int) -> int:
        """Return how much it is as a text of its own."""


@dataclass(frozen=True)
class _Characters:
    """Every character counts one."""

    length: int

    def count(self, start: int, stop: int) -> int:
        return stop - start

    def reach(self, start: int, room: int) -> int:
        return min(start + room, self.length)

    def back(self, stop: int, room: int) -> int:
        return stop - room

    def alone(self, start: int, stop: int) -> int:
        return stop - start


class _Tokens:
    """Every token counts where its first character that is no white space stands."""

    def __init__(
        self, text: str, places: Places, tokenizer: FastTokenizer, located: Located, prefix: str, fixed: int
    ) -> None:
        self._text, self._places, self._tokenizer = text, places, tokenizer
        self._prefix, self._fixed = prefix, fixed
        starts, stops = located.within(len(prefix), len(text))
        solid = places.next_texts(starts)
        self._starts = np.maximum.accumulate(np.where(solid < stops, solid, starts))
        self._stops = np.maximum.accumulate(stops)

    def count(self, start: int, stop: int) -> int:
        first, last = np.searchsorted(self._starts, [start, stop])
        return int(last - first)

    def reach(self, start: int, room: int) -> int:
        after = int(np.searchsorted(self._starts, start)) + room
        return int(self._starts[after]) if after < len(self._starts) else len(self._text)

    def back(self, stop: int, room: int) -> int:
        end = int(np.searchsorted(self._starts, stop))
        if room >= end:
            return 0
        # Tokens that begin at one place are parts of one character.
        return int(self._starts[end - room - 1]) + 1

    def alone(self, start: int, stop: int) -> int:
        last = int(np.searchsorted(self._starts, stop)) - 1
        parted = self._places.within_word(stop) or (last >= 0 and int(self._stops[last]) > stop)
        head = min(self._places.next_blank(start), stop)
        if start == 0 and not parted:
            return self.count(start, stop)
        if parted or head == stop:
            return self._anew(start, stop)
        return self.count(head, stop) + self._anew(start, head)

    def _anew(self, start: int, stop: int) -> int:
        return self._tokenizer.count(self._prefix + self._text[start:stop]) - self._fixed


def _ranges(places: Places, scale: _Scale, room: int, overlap: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, stop and count of each chunk of a text that is longer than one."""
    if places.end == 0:
        yield 0, 0, 0
        return
    start, before = places.next_text(0), 0
    while True:
        found = _fill(places, scale, room, start, before)
        if found is None:  # what comes next does not fit beside what is repeated
            start = places.next_text(before)
            found = _fill(places, scale, room, start, start)
            assert found is not None  # without overlap there is always room for something
        stop, count = found
        yield start, stop, count
        if stop >= places.end:
            return
        start, before = _next_start(places, scale, start, stop, overlap), stop


def _fill(places: Places, scale: _Scale, room: int, start: int, before: int) -> tuple[int, int] | None:
    """Return where the chunk that begins at ``start`` stops, and its count; None if it cannot pass ``before``."""
    wanted = room
    while wanted > 0:
        limit = scale.reach(start, wanted)
        stop = places.end if limit >= places.end else _stop(places, scale, start, before, limit, wanted)
        if stop is None:
            return None
        count = scale.alone(start, stop)
        if count <= room:
            return stop, count
        # Alone it is more than in company: less must do.
        wanted -= count - room
    # One character may be more tokens than there is room for.
    return (start + 1, scale.alone(start, start + 1)) if before <= start else None


def _stop(places: Places, scale: _Scale, start: int, before: int, limit: int, room: int) -> int | None:
    lowest = max(start, before) + 1
    half = max(lowest, scale.reach(start, room // 2))
    for stops in (places.paragraphs, places.sentences, places.lines):
        stop = places.last(stops, half, limit)
        if stop is not None:
            return stop
    stop = places.last(places.words, lowest, limit)
    if stop is None and before <= start:
        stop = places.last_character(start, limit)
    return stop


def _next_start(places: Places, scale: _Scale, start: int, stop: int, overlap: int) -> int:
    """Return where the chunk after the one from ``start`` to ``stop`` begins."""
    following = places.next_text(stop)
    lowest = max(scale.back(stop, overlap), start + 1)
    if overlap == 0 or lowest >= stop:
        return following
    middle = max(scale.back(stop, overlap // 2), lowest + 1)
    for stops, highest in ((places.paragraphs, middle), (places.sentences, middle), (places.words, stop)):
        found = places.first_start(stops, lowest, highest)
        if found is not None:
            return found
    return following
