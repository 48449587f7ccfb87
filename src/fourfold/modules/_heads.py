"""Let the head of a transformers model, which expects one text a row, read a packed batch ``[1, tokens, width]``.

A classification head takes one state of each text: that of its first token, that of its last one, or the mean. Inside
:func:`one_state_a_text` these three operations mean the texts of the batch instead of its only row, so that the head
of any model runs on ``[texts, width]``; the model itself is not touched. Whether that gives the model's own scores is
decided by its numbers, in :func:`scores_packed`.

Where a head reads one token of each text, what follows the last attention is computed for those tokens alone: of a
model of six layers an eighth is never computed. That too is decided by the numbers, in :func:`thinning`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fourfold.errors import InputError
from fourfold.modules import _packed
from fourfold.ops import pooling
from fourfold.ops.attention import Packing
from fourfold.ops.pooling import Segments

_WHOLE = slice(None)
_ADDS = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__)
_SHAPES = (torch.reshape, Tensor.reshape, Tensor.view)
_SUMS = (torch.sum, Tensor.sum)


@dataclass(frozen=True)
class Thinning:
    """Which token of each text a head reads, and after which attention of a forward nothing else is needed.

    Attributes:
        last: Whether it is the last token that does not pad; else it is the first.
        layers: Number of attentions in a forward.
    """

    last: bool
    layers: int


class _OneState(TorchFunctionMode):
    """Reads ``x[:, 0]``, ``x[rows, last]`` and ``x.sum(dim=1)`` of packed states as the texts' own."""

    def __init__(self, ids: Tensor, packing: Packing, pad_id: int | None, thin: Thinning | None = None) -> None:
        super().__init__()
        self.attentions = 0
        self._ids, self._pad_id = ids, pad_id
        self._segments = Segments.from_offsets(packing.offsets_on(ids.device))
        self._texts = packing.texts_on(ids.device)
        # The state of a text without tokens is made up by the head's own operation.
        self._thin = thin if (packing.lengths > 0).all() else None
        self._kept: Tensor | None = None  # the tokens that are left, once the others are

    def see(self, attended: Tensor) -> Tensor:
        """Count an attention's output; of the last one only the tokens that the head reads are given on."""
        self.attentions += 1
        if self._thin is None or self.attentions < self._thin.layers:
            return attended
        self._kept = self._last()[self._texts] if self._thin.last else self._segments.first
        return attended.index_select(1, self._kept)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._kept is not None:
            args = self._thinned(func, args, self._kept)
        if args and isinstance(args[0], Tensor):
            if func is Tensor.__getitem__ and args[0].ndim == 3:
                taken = self._taken(args[0], args[1])
                if taken is not None:
                    return taken
            if func in _SUMS and args[0].shape[:2] == self._ids.shape and _along_tokens(args[1:], kwargs):
                return self._summed(args[0], keepdim=bool(kwargs.get("keepdim", False)))
        return func(*args, **kwargs)

    def _thinned(self, func: Callable[..., Any], args: tuple[Any, ...], kept: Tensor) -> tuple[Any, ...]:
        """Return arguments that fit: states of all tokens meet those of the tokens that are left in two places."""
        few, all_ = (1, len(kept)), tuple(self._ids.shape)
        if func in _ADDS and len(args) == 2 and all(isinstance(part, Tensor) for part in args):
            shapes = [tuple(part.shape[:2]) for part in args]
            if few in shapes and all_ in shapes:
                return tuple(
                    part.index_select(1, kept) if shape == all_ != few else part
                    for part, shape in zip(args, shapes, strict=True)
                )
        if func in _SHAPES and isinstance(args[0], Tensor) and tuple(args[0].shape[:2]) == few:
            sizes = tuple(args[1]) if len(args) == 2 and isinstance(args[1], (tuple, list)) else args[1:]
            if sizes[:2] == all_:
                return (args[0], *few, *sizes[2:])
        return args

    def _taken(self, states: Tensor, index: Any) -> Tensor | None:
        """Return each text's first or last state, if that is what an index means; ``[texts, width]``."""
        if not isinstance(index, tuple) or len(index) not in (2, 3) or (len(index) == 3 and index[2] != _WHOLE):
            return None
        row, place = index[:2]
        first = isinstance(row, slice) and row == _WHOLE and isinstance(place, int) and place == 0
        last = len(index) == 2 and isinstance(row, Tensor) and row.shape == (1,)
        if not first and not last:
            return None
        if self._kept is not None and states.shape[:2] == (1, len(self._kept)):
            return states[0]
        if states.shape[:2] != self._ids.shape:
            return None
        if first:
            return pooling.cls(states[0], self._segments)
        ends = replace(self._segments, last=self._last()[self._texts], count=self._segments.count[self._texts])
        return pooling.last(states[0], ends)

    def _last(self) -> Tensor:
        """Return the place of each text's last token that does not pad, as transformers' heads of decoders count.

        A token of the padding id counts as padding wherever it stands; a text of nothing else counts by its first one.
        """
        last = self._segments.last
        if self._pad_id is None:
            return last
        kept = self._ids[0, : len(self._segments.row)] != self._pad_id
        place = torch.where(kept, torch.arange(len(kept), device=kept.device), -1)
        found = torch.full_like(last, -1).scatter_reduce(0, self._segments.row, place, "amax")
        return torch.maximum(found, self._segments.first)

    def _summed(self, states: Tensor, *, keepdim: bool) -> Tensor:
        """Return the sums over each text ``[texts, ...]``; of a mask, which is all ones, the number of tokens."""
        if states.ndim == 2:
            sums = self._segments.count.to(states.dtype) if states.is_floating_point() else self._segments.count
        else:
            sums = pooling.total(states[0], self._segments)
        return sums.unsqueeze(1) if keepdim else sums


def _along_tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return args == (1,) or (not args and kwargs.get("dim") == 1)


def ends(packing: Packing, device: torch.device) -> Tensor:
    """Return the place ``[texts]`` of each text's last token in a packed batch.

    Raises:
        InputError: If a text has no token.
    """
    if (packing.lengths == 0).any():
        raise InputError("an input has no tokens, so that a language model has nothing to go on; leave empty texts out")
    return packing.offsets_on(device)[1:].long()[packing.texts_on(device)] - 1


@contextlib.contextmanager
def one_state_a_text(
    model: nn.Module, ids: Tensor, packing: Packing, thin: Thinning | None = None
) -> Iterator[_OneState]:
    """Run a block in which the head of ``model`` reads the texts of a packed batch.

    Args:
        model: A transformers model with a classification head.
        ids: ``[1, tokens]``.
        packing: The batch's layout.
        thin: What :func:`thinning` has found; a forward that autograd records is never thinned.
    """
    pad_id = getattr(_packed.unwrapped(model).config, "pad_token_id", None)
    reader = _OneState(ids, packing, pad_id, None if torch.is_grad_enabled() else thin)
    with _packed.attention_seen_by(reader.see), reader:
        yield reader


def scores_packed(model: nn.Module, start: int, vocabulary: int, pad_id: int) -> bool:
    """Whether a classification model gives packed texts the scores that it gives each alone, tried on short ones.

    Args:
        model: A model that :func:`~fourfold.modules._packed.prepare` accepted.
        start: Position of a text's first token.
        vocabulary: Number of ids that may be used.
        pad_id: The id that pads.
    """
    ids, packing = _packed.trial(model, vocabulary, pad_id)
    found = None if ids is None else _scores(model, start, ids, packing)
    if ids is None or found is None:
        return False
    texts = [part[None] for part in torch.tensor_split(ids, packing.offsets[1:-1].tolist())]
    with _packed.evaluated(model):
        alone = torch.cat([model(input_ids=text)[0] for text in texts])
    same_shape = found[0].shape == alone.shape
    return same_shape and _packed.close(found[0].float(), alone.float(), _packed.tolerance(model))


def thinning(model: nn.Module, start: int, vocabulary: int, pad_id: int) -> Thinning | None:
    """Return which tokens are needed after a model's last attention; None if all are, or if it cannot be told.

    The arguments are those of :func:`scores_packed`, which must have said yes.
    """
    model = _packed.unwrapped(model)
    ids, packing = _packed.trial(model, vocabulary, pad_id)
    plain = None if ids is None else _scores(model, start, ids, packing)
    if ids is None or plain is None or plain[1] == 0:
        return None
    scores, attentions = plain
    for thin in (Thinning(last=False, layers=attentions), Thinning(last=True, layers=attentions)):
        tried = _scores(model, start, ids, packing, thin)
        same_shape = tried is not None and tried[0].shape == scores.shape
        if tried and same_shape and _packed.close(tried[0].float(), scores.float(), _packed.tolerance(model)):
            return thin
    return None


def _scores(
    model: nn.Module, start: int, ids: Tensor, packing: Packing, thin: Thinning | None = None
) -> tuple[Tensor, int] | None:
    """Return the scores of packed ids ``[tokens]`` and the number of attentions; None if the model cannot make them."""
    arguments = _packed.inputs(model, ids, packing, None, start)
    try:
        with (
            _packed.evaluated(model),
            _packed.packed(packing),
            one_state_a_text(model, arguments["input_ids"], packing, thin) as reader,
        ):
            return model(**arguments)[0], reader.attentions
    except (RuntimeError, IndexError, ValueError):
        # A head that reads the batch in yet another way meets shapes that do not fit.
        return None
