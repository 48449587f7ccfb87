"""SPLADE pooling: the logits of a text's tokens become one weight for each word of the vocabulary.

A text's weight for a word is the largest of its tokens' weights (Formal et al. 2021, SPLADE v2, arXiv:2109.10086), or
their sum (SPLADE, arXiv:2107.05720). Logits of a batch, ``[tokens, words]``, are far larger than anything else in the
model, so :func:`pool_states` makes them from the states below in tiles of words and keeps one tile at a time, in
training too. The activations rise with the logit: of the largest logit only is the logarithm taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from fourfold.ops.pooling import Segments

STRATEGIES = ("max", "sum", "mean")

# Numbers of a tile of logits. On a CPU a tile should stay in the cache until it is pooled: of half a million to eight
# million numbers two were fastest, in float32 and in bfloat16. No block nears the 32 MB that glibc maps anew each time.
_TILE = {"cpu": 2_000_000}
_TILE_ELSEWHERE = 64_000_000
_FEWEST_WORDS = 256
# Where sums over few gradients are faster than dense products, and one in how many counts as few.
_SUMS_ON = {"cpu"}
_FEW = 8


@dataclass(frozen=True)
class Activation:
    """A function that rises with the logit and is 0 at 0; ``slope`` is its derivative."""

    of: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _log(logits: Tensor) -> Tensor:
    return logits.relu().log1p()


def _log_slope(logits: Tensor) -> Tensor:
    return (logits > 0) / (1 + logits.relu())


ACTIVATIONS = {
    "relu": Activation(_log, _log_slope),
    # Twice the logarithm, for longer tails (Geng et al. 2024, arXiv:2411.04403).
    "log1p_relu": Activation(
        lambda logits: _log(logits).log1p(), lambda logits: _log_slope(logits) / (1 + _log(logits))
    ),
    "identity": Activation(lambda logits: logits, torch.ones_like),
}


@dataclass(frozen=True, eq=False)
class VocabularyLogits:
    """Logits that have not been computed: the states below them, and the projection onto the vocabulary.

    Attributes:
        states: ``[..., width]``.
        weight: ``[words, width]``.
        bias: ``[words]``, or None.
    """

    states: Tensor
    weight: Tensor
    bias: Tensor | None

    def whole(self) -> Tensor:
        """Return the logits ``[..., words]``, which is what this object is there to avoid."""
        return functional.linear(self.states, self.weight, self.bias)


def whole(value: Any) -> Any:
    """Return a feature with every number in its place: logits that have not been computed yet, rows that are sparse."""
    if isinstance(value, VocabularyLogits):
        return value.whole()
    return value.to_dense() if isinstance(value, Tensor) and value.is_sparse else value


def pool(
    logits: Tensor, segments: Segments, *, strategy: str, activation: str, chunk_size: int | None = None
) -> Tensor:
    """Return the pooled weights of logits that are there, ``[rows, words]``; zeros for a row without tokens.

    Args:
        logits: ``[tokens, words]``, of any strides: nothing of this size is made besides.
        segments: Which tokens belong to which row.
        strategy: ``max``, ``sum`` or ``mean``.
        activation: A key of :data:`ACTIVATIONS`.
        chunk_size: Most tokens whose activations are held at a time, where they are summed; None is a row's.
    """
    count, rises = segments.count.tolist(), ACTIVATIONS[activation]
    tokens = None if segments.token is None else segments.token.tolist()
    rows, start = [], 0
    for length in count:
        chosen = _rows_of(logits, tokens, start, start + length)
        start += length
        if not length:
            rows.append(logits.new_zeros(logits.shape[1]))
        elif strategy == "max":
            rows.append(rises.of(chosen.amax(dim=0)))
        else:
            step = chunk_size if chunk_size and chunk_size > 0 else length
            parts = [_wide_sum(rises.of(part)) for part in chosen.split(step)]
            total = sum(parts[1:], parts[0])
            rows.append((total / length if strategy == "mean" else total).to(logits.dtype))
    return torch.stack(rows) if rows else logits.new_zeros(0, logits.shape[1])


def _rows_of(logits: Tensor, tokens: list[int] | None, start: int, stop: int) -> Tensor:
    """Return the logits of one text, a view wherever its tokens are neighbours."""
    if tokens is None or start == stop:
        return logits[start:stop]
    first, last = tokens[start], tokens[stop - 1]
    return logits[first : last + 1] if last - first == stop - start - 1 else logits[tokens[start:stop]]


def _wide_sum(values: Tensor) -> Tensor:
    return values.sum(dim=0, dtype=torch.float32 if values.element_size() < 4 else None)


def pool_states(logits: VocabularyLogits, segments: Segments, *, strategy: str, activation: str) -> Tensor:
    """Return the pooled weights of logits that are computed tile by tile on the way, ``[rows, words]``.

    Gradients reach the states, the weight and the bias; the way back holds no more than the way there.

    Args:
        logits: States ``[tokens, width]`` and the projection.
        segments: Which tokens belong to which row.
        strategy: ``max``, ``sum`` or ``mean``.
        activation: A key of :data:`ACTIVATIONS`.
    """
    layout, how = _Layout.of(segments), (strategy, ACTIVATIONS[activation])
    parts = (logits.states, logits.weight, logits.bias)
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in parts):
        return _Pooled.apply(segments.select(logits.states), *parts[1:], layout, *how)
    # What fills a packed batch up is multiplied too, so that products have few sizes; the layout knows nothing of it.
    states = logits.states if segments.token is None else segments.select(logits.states)
    return _forward(states, *parts[1:], layout, *how)


@dataclass(frozen=True)
class _Layout:
    """Texts whose tokens follow each other, as runs of neighbours of one length, and how many texts there are.

    Planned batches are sorted by length, so that runs are few and long.
    """

    runs: tuple[tuple[int, int, int, int], ...]  # first text, last text + 1, first token, tokens of each
    count: Tensor

    @classmethod
    def of(cls, segments: Segments) -> _Layout:
        counts = segments.count.tolist()
        runs: list[tuple[int, int, int, int]] = []
        token = start = 0
        for row in range(1, len(counts) + 1):
            if row == len(counts) or counts[row] != counts[start]:
                runs.append((start, row, token, counts[start]))
                token += (row - start) * counts[start]
                start = row
        return cls(tuple(runs), segments.count)

    @property
    def rows(self) -> int:
        return len(self.count)

    def blocks(self, values: Tensor) -> Iterator[tuple[int, int, int, Tensor]]:
        """Yield, for each run that has tokens, its texts, its first token and its part ``[texts, tokens, words]``."""
        for start, stop, token, length in self.runs:
            if length:
                part = values[token : token + (stop - start) * length]
                yield start, stop, token, part.view(stop - start, length, -1)

    def of_tokens(self) -> Tensor:
        """Return the row of each token, int64 ``[tokens]``."""
        return torch.repeat_interleave(torch.arange(self.rows, device=self.count.device), self.count)


def _tiles(states: Tensor, words: int) -> Iterator[slice]:
    numbers = _TILE.get(states.device.type, _TILE_ELSEWHERE)
    width = max(_FEWEST_WORDS, numbers // max(1, len(states)) // 64 * 64)
    for start in range(0, words, width):
        yield slice(start, min(start + width, words))


def _tile(states: Tensor, weight: Tensor, bias: Tensor | None, words: slice) -> Tensor:
    return functional.linear(states, weight[words], None if bias is None else bias[words])


def _forward(
    states: Tensor, weight: Tensor, bias: Tensor | None, layout: _Layout, strategy: str, rises: Activation
) -> Tensor:
    pooled: Tensor | None = None
    for words in _tiles(states, len(weight)):
        logits = _tile(states, weight, bias, words)
        if pooled is None:
            pooled = logits.new_full((layout.rows, len(weight)), -math.inf if strategy == "max" else 0.0)
        if strategy != "max":
            logits = rises.of(logits)
        for start, stop, _, block in layout.blocks(logits):
            # Written in place, a tile's part of the result would be a copy more.
            pooled[start:stop, words] = block.amax(dim=1) if strategy == "max" else _mean_or_sum(block, strategy)
    assert pooled is not None
    return _activated(pooled, layout, rises) if strategy == "max" else pooled


def _mean_or_sum(block: Tensor, strategy: str) -> Tensor:
    total = block.sum(dim=1, dtype=torch.float32 if block.element_size() < 4 else None)
    return (total / block.shape[1] if strategy == "mean" else total).to(block.dtype)


def _activated(raw: Tensor, layout: _Layout, rises: Activation) -> Tensor:
    pooled = rises.of(raw)
    empty = layout.count == 0
    return pooled.masked_fill_(empty[:, None], 0) if bool(empty.any()) else pooled


class _Pooled(torch.autograd.Function):
    """:func:`pool_states` with a way back that makes the logits' gradient tile by tile, too.

    Of the maximum it keeps which token it was; of a sum it keeps nothing, and computes the logits again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        layout: _Layout,
        strategy: str,
        rises: Activation,
    ) -> Tensor:
        ctx.layout, ctx.strategy, ctx.rises = layout, strategy, rises
        raw, token = None, None
        if strategy == "max":
            raw, token = _largest(states, weight, bias, layout)
            pooled = _activated(raw, layout, rises)
        else:
            pooled = _forward(states, weight, bias, layout, strategy, rises)
        # Under autocast the logits have another type than what they are made of, and maybe than what comes of them.
        ctx.dtype = _tile(states[:0], weight, bias, slice(1)).dtype
        ctx.save_for_backward(states, weight, bias, raw, token)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, raw, token = ctx.saved_tensors
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        wide = torch.promote_types(ctx.dtype, torch.float32)
        to_states = torch.zeros(states.shape, dtype=wide, device=states.device)
        to_weight = torch.empty_like(weight) if wants_weight else None
        to_bias = torch.empty_like(weight[:, 0]) if wants_bias else None
        row, left = ctx.layout.of_tokens(), states.to(ctx.dtype)
        for words in _tiles(states, len(weight)):
            count, right = words.stop - words.start, weight[words].to(ctx.dtype)
            grad = grads[0][:, words].to(wide)
            if token is not None:
                few = _Few.of(grad * ctx.rises.slope(raw[:, words].to(wide)), token[:, words], ctx.layout)
                tile = few if states.device.type in _SUMS_ON else few.many(len(states), count, ctx.dtype)
            else:
                share = grad if ctx.strategy == "sum" else grad / ctx.layout.count.clamp(min=1)[:, None]
                logits = functional.linear(left, right, None if bias is None else bias[words].to(ctx.dtype))
                many = _Many(ctx.rises.slope(logits) * share.to(ctx.dtype)[row])
                tile = many.few(wide) if states.device.type in _SUMS_ON else many
            if wants_states:
                to_states += tile.onto_tokens(right, len(states))
            if to_weight is not None:
                to_weight[words] = tile.onto_words(left, count)
            if to_bias is not None:
                to_bias[words] = tile.of_words(count)
        return to_states.to(states.dtype) if wants_states else None, to_weight, to_bias, None, None, None


@dataclass(frozen=True)
class _Many:
    """Gradients of a tile of logits, ``[tokens, words]``."""

    grads: Tensor

    def few(self, dtype: torch.dtype) -> _Many | _Few:
        """Return those that are not 0 where they are few, as where a trained model weighs few words."""
        if int(self.grads.count_nonzero()) * _FEW > self.grads.numel():
            return self
        token, word = self.grads.nonzero(as_tuple=True)
        return _Few(token, word, self.grads[token, word].to(dtype))

    def onto_tokens(self, weight: Tensor, tokens: int) -> Tensor:
        return self.grads @ weight

    def onto_words(self, states: Tensor, words: int) -> Tensor:
        return self.grads.T @ states

    def of_words(self, words: int) -> Tensor:
        return self.grads.sum(dim=0)


@dataclass(frozen=True)
class _Few:
    """The same where few are not 0: the maximum leaves one token of a text and word, its activation still fewer.

    On a CPU, sums over one in forty alone took a sixth of the time of dense products with all of them.
    """

    token: Tensor
    word: Tensor
    grads: Tensor

    @classmethod
    def of(cls, reached: Tensor, token: Tensor, layout: _Layout) -> _Few:
        row, word = reached.masked_fill(layout.count[:, None] == 0, 0).nonzero(as_tuple=True)
        return cls(token[row, word].long(), word, reached[row, word])

    def many(self, tokens: int, words: int, dtype: torch.dtype) -> _Many:
        tile = torch.zeros(tokens, words, dtype=dtype, device=self.grads.device)
        # A token belongs to one row, so that no place is written twice.
        tile[self.token, self.word] = self.grads.to(dtype)
        return _Many(tile)

    def onto_tokens(self, weight: Tensor, tokens: int) -> Tensor:
        return _weighted_sums(weight, self.word, self.grads, self.token, tokens)

    def onto_words(self, states: Tensor, words: int) -> Tensor:
        return _weighted_sums(states, self.token, self.grads, self.word, words)

    def of_words(self, words: int) -> Tensor:
        return self.grads.new_zeros(words).index_add_(0, self.word, self.grads)


def _weighted_sums(vectors: Tensor, chosen: Tensor, weights: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return each group's sum of the chosen vectors times their weights, ``[groups, width]``."""
    order = group.argsort(stable=True)
    count = torch.bincount(group, minlength=groups)
    starts = count.cumsum(0) - count
    return functional.embedding_bag(
        chosen[order], vectors.to(weights.dtype), starts, mode="sum", per_sample_weights=weights[order]
    )


def _largest(states: Tensor, weight: Tensor, bias: Tensor | None, layout: _Layout) -> tuple[Tensor, Tensor]:
    """Return each row's largest logit for each word, and the token that has it, int32; ``[rows, words]`` both."""
    raw: Tensor | None = None
    token = torch.zeros(layout.rows, len(weight), dtype=torch.int32, device=states.device)
    for words in _tiles(states, len(weight)):
        logits = _tile(states, weight, bias, words)
        if raw is None:
            raw = logits.new_full((layout.rows, len(weight)), -math.inf)
        for start, stop, first, block in layout.blocks(logits):
            raw[start:stop, words], place = block.max(dim=1)
            firsts = first + torch.arange(stop - start, device=place.device)[:, None] * block.shape[1]
            token[start:stop, words] = (place + firsts).int()
    assert raw is not None
    return raw, token
