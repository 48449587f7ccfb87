"""One face for the Rust tokenizer, wherever it came from."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fourfold.containers import Tokens
from fourfold.errors import FolderError, InputError
from fourfold.text.inputs import replace_surrogates
from fourfold.text.pairs import Cut, PairLayout, check_room, rows_of

# A text longer than this many characters a wanted token is cut before it is tokenised: a book costs as much as a page.
_CHARACTERS_PER_TOKEN = 32
# The cut counts only if the last kept token ends this far before it, so that it cannot have changed a token.
_CUT_MARGIN = 256
# So many texts become arrays at a time. The tokenizer keeps some hundred bytes a token beside the id: for a window of
# long texts that would be a gigabyte, in slices of this size it is some megabytes and takes no longer.
_AT_ONCE = 1024
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


@dataclass(frozen=True)
class Located:
    """The tokens of one text and where they stand in it.

    Attributes:
        ids: int32 ``[tokens]``, special tokens included.
        offsets: int64 ``[tokens, 2]``, index of each token's first character and after its last one.
        head: Number of special tokens in front.
        tail: Number of special tokens at the end.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    head: int
    tail: int

    def within(self, prefix: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return starts and stops of the tokens after a prefix of so many characters, counted from its end.

        A token that begins in the prefix and ends after it is among them.

        Args:
            prefix: Characters of the prefix.
            length: Characters after it.
        """
        offsets = self.offsets[self.head : len(self.ids) - self.tail]
        offsets = np.clip(offsets[offsets[:, 1] > prefix] - prefix if prefix else offsets, 0, length)
        return offsets[:, 0], offsets[:, 1]


class FastTokenizer:
    """Texts to packed ids with a ``tokenizers.Tokenizer``, from any number of threads.

    Args:
        base: The tokenizer; its own padding and truncation are not used.
        add_special_tokens: Whether to put the model's special tokens around each text.
        truncation_side: ``"right"`` keeps the start of a text that is too long, ``"left"`` its end.
        owned: Whether ``base`` may be changed; otherwise it is copied before its first use.
    """

    def __init__(
        self, base: Tokenizer, *, add_special_tokens: bool = True, truncation_side: str = "right", owned: bool = False
    ) -> None:
        self.add_special_tokens = add_special_tokens
        self.truncation_side = truncation_side
        self._base = base
        # Setting truncation while another thread encodes fails ("Already borrowed"), so each user takes one from here.
        self._idle: list[Tokenizer] = [base] if owned else []

    @contextlib.contextmanager
    def _borrowed(self, max_length: int | None, cut: Cut = "longest_first") -> Iterator[Tokenizer]:
        try:
            tokenizer = self._idle.pop()
        except IndexError:
            tokenizer = Tokenizer.from_str(self._base.to_str())
        tokenizer.no_padding()
        if max_length is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(max_length, strategy=cut, direction=self.truncation_side)
        try:
            yield tokenizer
        except BaseException as error:
            if "Truncation error" in str(error) and cut != "longest_first":
                raise InputError(f"truncation={cut!r} does not make an input short enough: {error}") from error
            # The Rust side raises plain exceptions, and panics over files that contradict themselves.
            if type(error) is Exception or type(error).__name__ == "PanicException":
                raise FolderError(f"tokenizer.json is broken; tokenising fails with: {error}") from error
            raise
        finally:
            self._idle.append(tokenizer)

    def encode(self, texts: Sequence[Any], max_length: int | None = None, cut: Cut = "longest_first") -> Tokens:
        """Return the token ids of texts or pairs of texts.

        Args:
            texts: Strings, or pairs of strings.
            max_length: Keep at most this many tokens of each, special tokens included; None keeps all.
            cut: Which text of a pair is cut, the longer one first or one of them alone.

        Raises:
            InputError: If ``max_length`` leaves no room for the special tokens, or for the text that is not cut.
        """
        pairs = [text for text in texts if not isinstance(text, str)]
        if pairs and len(pairs) == len(texts):
            layout = self._pair_layout
            if layout is not None and (max_length is None or max_length > layout.special):
                return self._joined(pairs, layout, max_length, cut)
        return self._tokens(texts, max_length, special=self.add_special_tokens, pairs=bool(pairs), strategy=cut)

    def _joined(self, pairs: Sequence[Any], layout: PairLayout, max_length: int | None, cut: Cut) -> Tokens:
        texts, rows = rows_of(pairs)
        # The text that stays whole must be seen to be too long, which may show by one token alone.
        seen = max_length if max_length is None or cut == "longest_first" else max_length + 1
        parts = self._tokens(texts, seen, special=False)
        whole = parts.lengths
        if max_length is not None and cut == "longest_first":
            # Where both texts of a pair have been cut, which one keeps an odd token depends on which was longer.
            unknown = np.unique(rows[(whole[rows] >= max_length).all(1)])
            if len(unknown):
                whole = whole.copy()
                whole[unknown] = self._tokens([texts[row] for row in unknown], None, special=False).lengths
        elif max_length is not None:
            check_room(texts, rows, whole, max_length - layout.special, int(cut == "only_second"))
        return layout.joined(parts, rows, max_length, whole=whole, left=self.truncation_side == "left", cut=cut)

    @cached_property
    def _pair_layout(self) -> PairLayout | None:
        with self._borrowed(None) as tokenizer:
            return PairLayout.of(tokenizer, special=self.add_special_tokens)

    def _tokens(
        self,
        texts: Sequence[Any],
        max_length: int | None,
        *,
        special: bool,
        pairs: bool = False,
        strategy: Cut = "longest_first",
    ) -> Tokens:
        with self._borrowed(_check_length(max_length), strategy) as tokenizer:
            cut = texts if self.truncation_side == "left" else _cut(tokenizer, texts, max_length)

            def run(batch: Sequence[Any]) -> Tokens:
                # The fast call forgets the segments of pairs where the tokenizer has no template for them.
                encode = tokenizer.encode_batch if pairs else tokenizer.encode_batch_fast
                encodings = encode(batch, add_special_tokens=special)
                return Tokens.of([e.ids for e in encodings], [e.type_ids for e in encodings] if pairs else None)

            parts = []
            for start in range(0, len(cut) or 1, _AT_ONCE):
                some = cut[start : start + _AT_ONCE]
                try:
                    parts.append(run(some))
                except (TypeError, UnicodeEncodeError):
                    # Python strings may hold lone surrogates, which no UTF-8 can carry.
                    parts.append(run([_each(replace_surrogates, text) for text in some]))
        return parts[0] if len(parts) == 1 else Tokens.joined(parts)

    def locate(self, texts: Sequence[str]) -> list[Located]:
        """Return all tokens of each text with their places, which are indices into the Python string."""
        with self._borrowed(None) as tokenizer:
            clean = [text if text.isascii() else replace_surrogates(text) for text in texts]
            encodings = tokenizer.encode_batch(clean, add_special_tokens=self.add_special_tokens)
        return [_located(*pair) for pair in zip(texts, encodings, strict=True)]

    def count(self, text: str) -> int:
        """Return the number of tokens of one text, special tokens included."""
        return len(self.encode([text]).ids)

    def tokens(self, ids: NDArray[np.int32]) -> list[str]:
        """Return the tokens that ids stand for; an empty string for an id that none has."""
        return [self._base.id_to_token(number) or "" for number in ids.tolist()]

    def prompt_length(self, prompt: str) -> int:
        """Return how many leading tokens a prompt takes: its tokens alone, without a closing special token."""
        with self._borrowed(None) as tokenizer:
            encoding = tokenizer.encode(replace_surrogates(prompt), add_special_tokens=self.add_special_tokens)
        closed = len(encoding.ids) > 0 and encoding.special_tokens_mask[-1] == 1
        return len(encoding.ids) - int(closed)


def _located(text: str, encoding: Any) -> Located:
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    # A surrogate pair became one character, so that all behind it moved.
    pairs = [] if text.isascii() else [match.start() - i for i, match in enumerate(_PAIR.finditer(text))]
    if pairs:
        offsets += np.searchsorted(np.array(pairs), offsets, side="left")
    special = np.array(encoding.special_tokens_mask, dtype=bool)
    solid = (~special).nonzero()[0]
    # A text without tokens keeps all its special tokens in front but the last.
    head, stop = (int(solid[0]), int(solid[-1]) + 1) if len(solid) else (max(len(special) - 1, 0),) * 2
    return Located(np.array(encoding.ids, dtype=np.int32), offsets, head, len(special) - stop)


def _cut(tokenizer: Tokenizer, texts: Sequence[Any], max_length: int | None) -> Sequence[Any]:
    """Return the texts with very long ones cut where it changes none of their first ``max_length`` tokens."""
    if max_length is None:
        return texts
    limit = max_length * _CHARACTERS_PER_TOKEN + _CUT_MARGIN
    if all(len(text) <= limit for text in texts):
        return texts
    return [_cut_one(tokenizer, text, limit) if isinstance(text, str) and len(text) > limit else text for text in texts]


def _cut_one(tokenizer: Tokenizer, text: str, limit: int) -> str:
    head = replace_surrogates(text[:limit])
    encoding = tokenizer.encode(head)
    truncated = bool(encoding.overflowing)
    ends = [
        end for (_, end), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not special
    ]
    return head if truncated and max(ends, default=0) <= len(head) - _CUT_MARGIN else text


def _check_length(max_length: int | None) -> int | None:
    if max_length is not None and max_length < 1:
        raise InputError(f"max_seq_length must be at least 1, got {max_length}")
    return max_length


def _each(function: Callable[[str], str], text: Any) -> Any:
    return function(text) if isinstance(text, str) else tuple(function(part) for part in text)
