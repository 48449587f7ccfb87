"""Where a text may be cut: ends of paragraphs, sentences, lines and words, and between what reads as one character."""

from __future__ import annotations

import unicodedata
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fourfold.text.sentences import sentences

# First and last code point of each run of white space (as str.isspace), and of scripts without spaces between words.
_SPACE = [(9, 13), (28, 32), (133, 133), (160, 160), (5760, 5760), (8192, 8202), (8232, 8233), (8239, 8239)]
_SPACE += [(8287, 8287), (12288, 12288)]
_UNSPACED = [(0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF)]
_UNSPACED += [(0xFF01, 0xFF60), (0x20000, 0x3FFFF)]
# What closes a phrase in those scripts stays with it.
_CLOSING = set("、。，．！？；：」』）】〉》〕ーぁぃぅぇぉっゃゅょァィゥェォッャュョ")
_VOWELS = "\u0e33\u0eb3"  # letters to Unicode, but never without the one before
_JOINER = "\u200d"


class Places:
    """The places at which one text may be cut.

    Every place is an index at which a piece may stop: the character before it is no white space. The piece after it
    starts at :meth:`next_text`.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        self._codes = codes
        self._space = _within(codes, _SPACE)
        places = np.arange(len(text) + 1, dtype=np.int32)
        blank = np.append(self._space, False)
        # For each place the next one that holds no white space, and the nearest one before that follows none.
        self._next = np.minimum.accumulate(np.where(blank, len(text), places)[::-1])[::-1]
        self._back = np.maximum.accumulate(np.where(np.insert(self._space, 0, False), 0, places))
        self._next_blank = np.minimum.accumulate(np.where(blank, places, len(text))[::-1])[::-1]

    def next_text(self, place: int) -> int:
        """Return the next place that holds no white space; the text's length if none does."""
        return int(self._next[place])

    def next_texts(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return :meth:`next_text` of each place, int64 ``[places]``."""
        return self._next[places].astype(np.int64)

    def next_blank(self, place: int) -> int:
        """Return the next place that holds white space; the text's length if none does."""
        return int(self._next_blank[place])

    @cached_property
    def end(self) -> int:
        """Where the text's last character that is no white space ends; 0 if it has none."""
        return int(self._back[-1])

    @cached_property
    def paragraphs(self) -> NDArray[np.int64]:
        """Ends of paragraphs: an empty line follows."""
        return self._before_breaks(2)

    @cached_property
    def lines(self) -> NDArray[np.int64]:
        """Ends of lines."""
        return self._before_breaks(1)

    def _before_breaks(self, breaks: int) -> NDArray[np.int64]:
        """Return where runs of white space begin that hold at least so many line breaks."""
        starts = (self._space & ~np.insert(self._space[:-1], 0, False)).nonzero()[0]
        seen = np.insert(np.cumsum(self._codes == 10), 0, 0)
        return self._stops(starts[seen[self._next[starts]] - seen[starts] >= breaks])

    @cached_property
    def sentences(self) -> NDArray[np.int64]:
        """Ends of sentences and of items of lists."""
        return self._stops(np.cumsum([len(piece) for piece in sentences(self.text)], dtype=np.int64))

    @cached_property
    def words(self) -> NDArray[np.int64]:
        """Ends of words; in scripts without spaces the end of every character."""
        unspaced = _within(self._codes, _UNSPACED)
        ends = ~self._space[:-1] & (self._space[1:] | unspaced[1:] | unspaced[:-1])
        return ends.nonzero()[0] + 1

    def _stops(self, ends: list[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        stops = np.unique(self._back[np.asarray(ends, dtype=np.int64)]).astype(np.int64)
        return stops[(stops > 0) & (stops < self.end)]

    def within_word(self, place: int) -> bool:
        """Whether text stands on both sides of a place."""
        return 0 < place < len(self.text) and not self._space[place - 1] and not self._space[place]

    def last(self, stops: NDArray[np.int64], lowest: int, highest: int) -> int | None:
        """Return the last of ``stops`` from ``lowest`` to ``highest`` that does not part what reads as one."""
        i = int(np.searchsorted(stops, highest, side="right")) - 1
        while i >= 0 and stops[i] >= lowest:
            if not self._joined(int(stops[i]), lowest):
                return int(stops[i])
            i -= 1
        return None

    def first_start(self, stops: NDArray[np.int64], lowest: int, highest: int) -> int | None:
        """Return the first start of a piece after one of ``stops``, from ``lowest`` to before ``highest``."""
        # The piece after a stop starts at the stop or after the white space that follows it.
        i = int(np.searchsorted(stops, int(self._back[lowest]), side="left"))
        while i < len(stops) and stops[i] < highest:
            start = self.next_text(int(stops[i]))
            if start >= highest:
                return None
            if start >= lowest and not self._joined(start, lowest - 1):
                return start
            i += 1
        return None

    def last_character(self, lowest: int, highest: int) -> int:
        """Return the last place after ``lowest``, up to ``highest``, that parts nothing that reads as one character.

        If there is none, ``highest``, or one character where that is not above ``lowest``.
        """
        for place in range(highest, lowest, -1):
            if not self._joined(place, lowest):
                return place
        return max(highest, lowest + 1)

    def _joined(self, place: int, lowest: int) -> bool:
        """Whether the characters on both sides of a place read as one (the main rules of Unicode's UAX #29).

        Args:
            place: Between two characters.
            lowest: A place before it that is known to part characters; flags are counted in pairs from there.
        """
        text = self.text
        if not 0 < place < len(text) or text[place].isspace():
            return False
        before, after = text[place - 1], text[place]
        if after < "\u0300" and before < "\u0300":
            return False
        if after == _JOINER or before == _JOINER or after in _CLOSING:
            return not before.isspace()
        if unicodedata.category(after)[0] == "M" or after in _VOWELS or "\U0001f3fb" <= after <= "\U0001f3ff":
            return not before.isspace()
        if "\U000e0020" <= after <= "\U000e007f":
            return True
        if _is_flag(after) and _is_flag(before):
            start = place
            while start > max(lowest, 0) and _is_flag(text[start - 1]):
                start -= 1
            return (place - start) % 2 == 1
        return _hangul_joined(before, after) or ("\ud800" <= before < "\udc00" <= after <= "\udfff")


def _within(codes: NDArray[np.uint32], runs: list[tuple[int, int]]) -> NDArray[np.bool_]:
    """Return which code points lie in one of the runs."""
    edges = np.array([edge for first, last in sorted(runs) for edge in (first, last + 1)], dtype=np.uint32)
    return np.searchsorted(edges, codes, side="right") % 2 == 1


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _hangul_joined(before: str, after: str) -> bool:
    """Whether two characters belong to one Hangul syllable that is written in parts."""
    vowel, final = "\u1160" <= after <= "\u11a7", "\u11a8" <= after <= "\u11ff"
    if "\u1100" <= before <= "\u115f":
        return vowel or "\u1100" <= after <= "\u115f" or "\uac00" <= after <= "\ud7a3"
    if "\uac00" <= before <= "\ud7a3":
        return final or (vowel and (ord(before) - 0xAC00) % 28 == 0)
    return ("\u1160" <= before <= "\u11a7" and (vowel or final)) or ("\u11a8" <= before <= "\u11ff" and final)
