"""Vectors of the chunks of long texts: which chunks, and whose vectors are whose. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import ChunkedText
from fourfold.errors import InputError
from fourfold.text.chunks import cut
from fourfold.text.inputs import as_list, is_single
from fourfold.text.tokenizer import FastTokenizer, Located

Offsets = NDArray[np.int64]
Spans = Sequence[Sequence[int]]

# Texts are tokenised together up to so many characters: enough for all processors, little to hold.
_CHARACTERS = 1 << 20
# A tokenizer that knows no limit states one of this size or more.
NO_LIMIT = 10**9


@dataclass(frozen=True)
class Cutting:
    """How a call wants its texts cut.

    Attributes:
        tokenizer: The model's, or None if it cannot tell where tokens stand.
        longest: Most tokens that the model takes; None is no limit.
        size: Most tokens of a chunk, special tokens and prompt included; None is ``longest``.
        overlap: Most tokens that a chunk repeats of the one before.
        spans: The caller's own spans, for each text; they take the place of size and overlap.
        prompt: What the model puts before each chunk.
    """

    tokenizer: FastTokenizer | None
    longest: int | None
    size: int | None = None
    overlap: int = 0
    spans: Sequence[Spans] | None = None
    prompt: str = ""

    @classmethod
    def of(cls, inputs: Any, tokenizer: FastTokenizer | None, longest: float | None, **wanted: Any) -> Cutting:
        """Return how one text or a batch is cut.

        Args:
            inputs: A text or a batch; a single text has a single list of spans.
            tokenizer: The model's.
            longest: The model's ``max_seq_length``.
            **wanted: ``size``, ``overlap``, ``spans`` and ``prompt``.
        """
        if isinstance(inputs, str) and wanted["spans"] is not None:
            wanted["spans"] = [wanted["spans"]]
        limit = None if longest is None or longest >= NO_LIMIT else int(longest)
        return cls(tokenizer, limit, **wanted)

    def __post_init__(self) -> None:
        if self.spans is not None and (self.size is not None or self.overlap):
            raise InputError("spans are given, so size and overlap have no meaning; give either")
        if self.size is not None and self.longest is not None and self.size > self.longest:
            raise InputError(f"size must be at most the {self.longest} tokens that the model takes, got {self.size}")

    @property
    def _limit(self) -> int | None:
        return self.longest if self.size is None else self.size

    def offsets(self, texts: Sequence[str]) -> list[Offsets]:
        """Return the chunks of each text, int64 ``[chunks, 2]``."""
        if self.spans is None and self._limit is not None:
            return [offsets for offsets, _ in self.located(texts)]
        return [self._of(text, spans, None) for text, spans in self._beside(texts)]

    def located(self, texts: Sequence[str]) -> Iterator[tuple[Offsets, Located]]:
        """Yield the chunks of each text with the tokens of the whole text, prompt in front."""
        tokenizer = self.needed_tokenizer()
        for group in _groups(self._beside(texts)):
            found = tokenizer.locate([self.prompt + text for text, _ in group])
            for (text, spans), located in zip(group, found, strict=True):
                yield self._of(text, spans, located), located

    def needed_tokenizer(self) -> FastTokenizer:
        """Return the tokenizer; raises :class:`~fourfold.errors.InputError` if there is none."""
        if self.tokenizer is None:
            raise InputError(
                "this model's tokenizer does not tell where tokens stand in a text; a tokenizers.Tokenizer or a fast "
                "transformers tokenizer does. Give spans without late=True, or encode the chunks of fourfold.text.split"
            )
        return self.tokenizer

    def _beside(self, texts: Sequence[str]) -> Iterator[tuple[str, Spans | None]]:
        if self.spans is None:
            return zip(texts, repeat(None))
        if len(self.spans) != len(texts):
            raise InputError(f"spans must hold one list for each of the {len(texts)} texts, got {len(self.spans)}")
        return zip(texts, self.spans, strict=True)

    def _of(self, text: str, spans: Spans | None, located: Located | None) -> Offsets:
        if spans is not None:
            return _checked(spans, text)
        if self._limit is None:
            return np.array([[0, len(text)]], dtype=np.int64)
        chunks = cut(
            text, size=self._limit, overlap=self.overlap, tokenizer=self.tokenizer, located=located, prefix=self.prompt
        )
        return np.array([(chunk.start, chunk.stop) for chunk in chunks], dtype=np.int64)


def chunked(inputs: Any, encode: Callable[[list[str]], tuple[list[Offsets], Any]]) -> ChunkedText | list[ChunkedText]:
    """Return the chunks of one text, or of each text of a batch.

    Args:
        inputs: A text or a batch of texts.
        encode: From texts to the chunks of each and the vectors of all, in order.

    Raises:
        InputError: If an input is no string.
    """
    single = is_single(inputs)
    texts = [inputs] if single else as_list(inputs)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"encode_chunks takes a string or a list of strings, got {type(text).__name__} at {i}")
    if not texts:
        return []
    offsets, vectors = encode(texts)
    ends = np.cumsum([0, *map(len, offsets)])
    rows = [vectors[a:b] for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    found = [ChunkedText(*parts) for parts in zip(texts, rows, offsets, strict=True)]
    return found[0] if single else found


def each_alone(cutting: Cutting, texts: list[str], encode: Callable[[list[str]], Any]) -> tuple[list[Offsets], Any]:
    """Return the chunks of each text and the vectors of all, each chunk encoded as a text of its own."""
    offsets = cutting.offsets(texts)
    pieces = [text[a:b] for text, some in zip(texts, offsets, strict=True) for a, b in some.tolist()]
    # A batch without any chunk still has a width.
    return offsets, encode(pieces) if pieces else encode([""])[:0]


def _groups(pairs: Iterable[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    group: list[tuple[str, Any]] = []
    characters = 0
    for pair in pairs:
        group.append(pair)
        characters += len(pair[0])
        if characters >= _CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _checked(spans: Spans, text: str) -> Offsets:
    """Return a caller's spans of one text as int64 ``[spans, 2]``."""
    given = np.asarray(spans if len(spans) else np.empty((0, 2), dtype=np.int64))
    if given.ndim != 2 or given.shape[1] != 2 or given.dtype.kind not in "iu":
        raise InputError(f"spans of a text must be pairs of whole numbers, start and stop, got {spans!r}"[:200])
    wrong = (given[:, 0] < 0) | (given[:, 0] >= given[:, 1]) | (given[:, 1] > len(text))
    if wrong.any():
        i = int(wrong.argmax())
        raise InputError(
            f"span {i} must have 0 <= start < stop <= {len(text)}, the text's length; got {tuple(given[i].tolist())}"
        )
    return given.astype(np.int64)
