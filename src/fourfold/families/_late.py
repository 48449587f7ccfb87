"""Late chunking: a whole text runs through the model, and the token vectors of each span are pooled by themselves.

Günther et al. 2024, "Late Chunking", arXiv:2409.04701. A span's vector then knows what stands around the span. A text
that is longer than the model takes runs in windows of the model's length. A span is pooled from one window, in which
an eighth of the window's tokens stands on either side of it wherever there is text and room; only a span that is longer
than a window takes its token vectors from several, as the paper's "long late chunking" does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourfold.backends.torch import TorchBackend
from fourfold.containers import Tokens
from fourfold.engine.collect import ListSink, Sink
from fourfold.engine.plan import Budget
from fourfold.engine.run import Finish, LocalRunner, run
from fourfold.errors import InputError
from fourfold.modules._base import Features
from fourfold.modules.pooling import Pooling
from fourfold.ops.linear import fastest_linear
from fourfold.text.tokenizer import Located

Ranges = NDArray[np.int64]

# Tokens around a span, as a part of the window.
_CONTEXT = 8
# What one token of a span says cannot stand for the span, unless the model was trained so, at the text's own ends.
_ONE_TOKEN = ("cls", "lasttoken")


# -- plans: numpy only -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """A part of a text as the model sees it, and the spans that are pooled from it.

    Attributes:
        ids: int32 ``[tokens]``, special tokens and prompt included.
        spans: int64 ``[spans, 2]``, first token and the one after the last.
        rows: int64 ``[spans]``, the row of each span's vector in the whole result.
    """

    ids: NDArray[np.int32]
    spans: Ranges
    rows: Ranges


@dataclass(frozen=True)
class Whole:
    """A whole text's tokens.

    Attributes:
        text: The text.
        located: Its tokens, prompt in front.
        prompt: Characters of the prompt.
        skip: Leading tokens that are pooled into no span: the prompt's, if the model leaves them out.
        longest: Most tokens of a window; None is no limit.
    """

    text: str
    located: Located
    prompt: int
    skip: int
    longest: int | None

    def windows(self, offsets: Ranges, first_row: int) -> Iterator[Window | list[Window]]:
        """Yield windows that cover all spans; a list of windows covers one span that is longer than a window.

        Args:
            offsets: The spans in characters, ``[spans, 2]``.
            first_row: Row of the first span in the whole result.
        """
        starts, stops = self.located.within(self.prompt, len(self.text))
        count, tail = len(starts), self.located.tail
        head = len(self.located.ids) - tail - count
        room = count if self.longest is None else self.longest - head - tail
        if room < 1 <= count:
            raise InputError(f"the prompt and special tokens leave no room in the {self.longest} tokens of the model")
        spans = self._tokens(offsets, np.maximum.accumulate(starts), np.maximum.accumulate(stops))
        long = spans[:, 1] - spans[:, 0] > room
        for start, stop, members in plan_windows(spans, ~long, count, room):
            yield self._window(start, stop, head, spans[members], first_row + members)
        for member in long.nonzero()[0]:
            first, last = spans[member].tolist()
            parts = plan_parts(first, last, count, room)
            rows = np.array([first_row + member])
            yield [self._window(start, stop, head, np.array([kept]), rows) for start, stop, kept in parts]

    def _tokens(self, offsets: Ranges, starts: Ranges, stops: Ranges) -> Ranges:
        """Return each span in tokens of the text: those of which it holds a character, at least one."""
        begin, end = len(self.text) - len(self.text.lstrip()), len(self.text.rstrip())
        spans = np.empty_like(offsets)
        for i, (start, stop) in enumerate(offsets.tolist()):
            while stop > start and self.text[stop - 1].isspace():
                stop -= 1  # a token may begin with the space before its word
            first = 0 if start <= begin else int(np.searchsorted(stops, start, side="right"))
            last = len(starts) if stop >= end else int(np.searchsorted(starts, stop, side="left"))
            if first >= last and len(starts):
                # White space, or characters that the tokenizer drops: the token next to them stands for them.
                first = min(first, len(starts) - 1)
                last = first + 1
            spans[i] = first, last
        return spans

    def _window(self, start: int, stop: int, head: int, spans: Ranges, rows: Ranges) -> Window:
        """Return the window of the text's tokens ``start`` to ``stop``; spans are in tokens of the text."""
        ids, tail, count = self.located.ids, self.located.tail, len(self.located.ids) - head - self.located.tail
        window = np.concatenate([ids[:head], ids[head + start : head + stop], ids[len(ids) - tail :]])
        inside = spans + (head - start)
        # The special tokens and the prompt belong to the spans at the text's ends, as they do to a text alone.
        inside[spans[:, 0] == 0, 0] = 0
        inside[spans[:, 1] == count, 1] += tail
        if start == 0:
            inside = np.maximum(inside, self.skip)
        return Window(window, inside, rows)


def plan_windows(spans: Ranges, wanted: NDArray[np.bool_], count: int, room: int) -> Iterator[tuple[int, int, Ranges]]:
    """Yield start and stop of windows, and which spans are pooled from each; every wanted span is in one.

    Args:
        spans: ``[spans, 2]`` in tokens.
        wanted: ``[spans]``, which ones count; none of these is longer than ``room``.
        count: Tokens of the text.
        room: Most tokens of a window.

    >>> spans = np.array([[0, 40], [40, 80], [80, 120]])
    >>> [(a, b, m.tolist()) for a, b, m in plan_windows(spans, spans[:, 0] >= 0, 120, 96)]
    [(0, 96, [0, 1]), (24, 120, [2])]
    """
    context = room // _CONTEXT
    order = np.lexsort((spans[:, 1], spans[:, 0]))
    pending = order[wanted[order]].tolist()
    at = 0
    while at < len(pending):
        first, last = spans[pending[at]].tolist()
        start = max(min(max(first - context, 0), max(count - room, 0)), last - room)
        stop = min(start + room, count)
        limit = stop if stop == count else stop - context
        end = at + 1
        while end < len(pending) and spans[pending[end], 1] <= limit:
            end += 1
        yield start, stop, np.array(pending[at:end])
        at = end


def plan_parts(first: int, last: int, count: int, room: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield start and stop of windows, and the tokens kept from each, that together are ``first`` to ``last``."""
    context = room // _CONTEXT
    done = first
    while done < last:
        start = max(done - context, 0)
        stop = min(start + room, count)
        yield start, stop, (done, min(stop, last))
        done = stop


# -- running -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowBatch:
    """Windows that run together."""

    tokens: Tokens
    spans: list[Ranges]
    prefixes: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> Ranges:
        """Tokens of each window."""
        return self.tokens.lengths

    def take(self, rows: Ranges) -> WindowBatch:
        """Return the given windows in the given order."""
        return WindowBatch(self.tokens.take(rows), [self.spans[i] for i in rows.tolist()])


class SpanBackend:
    """Runs windows through a model up to its pooling; what follows runs on spans.

    Args:
        backend: Runs the model.

    Raises:
        InputError: If the model does not pool token vectors, or pools by one token.
    """

    def __init__(self, backend: TorchBackend) -> None:
        self._backend = backend
        self._model = backend.model
        self.packed = backend.packed
        self.best_tokens, self.out_of_memory = backend.best_tokens, backend.out_of_memory
        self._position = next((i for i, module in enumerate(self._model) if isinstance(module, Pooling)), -1)
        if self._position < 0 or not backend.tokenises:
            names = ", ".join(type(module).__name__ for module in self._model)
            raise InputError(
                f"late=True pools the token vectors of a text model with a Pooling module; this one has {names}. "
                "Give late=False"
            )
        modes = [mode for mode in self.pooling.modes if mode in _ONE_TOKEN]
        if modes:
            raise InputError(
                f"late=True needs a model that pools all tokens of a text; this one takes one token ({modes[0]}), "
                "which says nothing of a span. Give late=False"
            )

    @property
    def pooling(self) -> Pooling:
        """The model's pooling module."""
        return self._model[self._position]

    def prepare(self, items: Sequence[Window]) -> WindowBatch:
        """Pack windows."""
        return WindowBatch(Tokens.of([item.ids for item in items]), [item.spans for item in items])  # type: ignore[misc]

    def run(self, batch: WindowBatch) -> Features:
        """Return what pooling and the modules after it make of each span, ``sentence_embedding`` ``[spans, width]``."""
        return self.pooled(*self.vectors(batch))

    def vectors(self, batch: WindowBatch) -> tuple[Tensor, Ranges]:
        """Return the token vectors of all spans one after another, ``[tokens, width]``, and how many each has."""
        features = self._through(self._backend.features(batch.tokens), slice(self._position))
        if "token_weights_sum" in features:
            raise InputError("late=True does not know what the words of a span weigh (WordWeights); give late=False")
        vectors = features["token_embeddings"]
        if "cu_seq_lens_q" in features:
            flat = vectors[0]
        else:
            flat = vectors[features["attention_mask"].bool()]
        spans = [some + start for some, start in zip(batch.spans, batch.tokens.offsets[:-1], strict=True)]
        index = [np.arange(start, stop) for some in spans for start, stop in some.tolist()]
        chosen = torch.from_numpy(np.concatenate(index)).to(flat.device)
        return flat[chosen], np.array([len(part) for part in index])

    def pooled(self, vectors: Tensor, counts: Ranges) -> Features:
        """Return the features of spans whose token vectors stand one after another."""
        offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])).int().to(vectors.device)
        features: Features = {
            "token_embeddings": vectors[None], "cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets,
            "max_length_q": int(counts.max()), "max_length_k": int(counts.max()), "modality": "text",
        }  # fmt: skip
        return self._through(features, slice(self._position, None))

    def _through(self, features: Features, part: slice) -> Features:
        """Run some of the model's modules, as the model itself would."""
        with torch.inference_mode(), fastest_linear(self._model.device):
            for name, module in list(self._model.named_children())[part]:
                features = module(features, **self._model._forward_kwargs(name, module, self._backend.kwargs))
        return features


class _SpanSink(Sink):
    """Hands the vectors of a batch of windows to their spans' rows."""

    def __init__(self, inner: Sink, rows: list[Ranges]) -> None:
        self._inner, self._rows = inner, rows

    def put(self, rows: Ranges, output: Any) -> None:
        self._inner.put(np.concatenate([self._rows[row] for row in rows.tolist()]), output)


def encode_late(
    backend: SpanBackend,
    windows: Iterable[Window | list[Window]],
    sink: Sink,
    budget: Budget,
    *,
    finish: Finish,
    progress: bool,
) -> None:
    """Put the vectors of all spans into ``sink``.

    Args:
        backend: Runs windows.
        windows: Of all texts, as :meth:`Whole.windows` yields them.
        sink: Takes the vectors.
        budget: What one batch may hold.
        finish: Turns features of spans into vectors.
        progress: Whether to show a bar that counts windows.
    """
    short: list[Window] = []
    long: list[list[Window]] = []
    for item in windows:
        if isinstance(item, Window):
            short.append(item)
        else:
            long.append(item)
    if short:
        spans = _SpanSink(sink, [window.rows for window in short])
        run(short, backend, spans, LocalRunner(backend, budget, finish), progress=progress)
    for parts in long:
        # One at a time: the token vectors of a span are all held until it is pooled.
        found: ListSink[Tensor] = ListSink(len(parts))
        run(parts, backend, found, LocalRunner(_TokensOnly(backend), budget))
        vectors = torch.cat(found.items)
        features = backend.pooled(vectors, np.array([len(vectors)]))
        sink.put(parts[0].rows, finish(features, backend.prepare(parts[:1])))


class _TokensOnly:
    """Runs windows for the token vectors of their spans, not pooled."""

    def __init__(self, backend: SpanBackend) -> None:
        self._vectors = backend.vectors
        self.packed, self.best_tokens = backend.packed, backend.best_tokens
        self.prepare, self.out_of_memory = backend.prepare, backend.out_of_memory

    def run(self, batch: WindowBatch) -> list[Tensor]:
        vectors, counts = self._vectors(batch)
        return [part.clone() for part in vectors.split(counts.tolist())]
