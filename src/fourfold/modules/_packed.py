"""Run an unchanged transformers model on packed texts: ``[1, tokens]`` ids with explicit positions.

Everything in a transformer except attention works token by token. So one attention function, registered with
transformers, is all that packing needs; it learns the batch's layout from a context variable, and what each layer may
attend to from the model's own mask function, read once a batch. Outside a packed forward it is transformers' ordinary
SDPA.

Whether a model can be run so is decided by its numbers (:func:`runs_packed`), not by a list of names.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fourfold.containers import Tokens, offsets_of
from fourfold.ops.attention import CAUSAL, FULL, Packing, Window, grouped, varlen, varlen_fits, window_of

logger = logging.getLogger(__name__)

ATTENTION = "fourfold"

_packing: ContextVar[Packing | None] = ContextVar("packing", default=None)
_seen_by: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("seen_by", default=None)


@dataclass
class _Allowed:
    """What a mask function said, in the place where transformers hands masks to layers.

    It holds the layout too: with gradient checkpointing a layer runs again in the backward pass, after its batch.
    """

    window: Window | Tensor
    packing: Packing


@cache
def register() -> None:
    """Register the packed attention and its mask with transformers, once a process."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, _mask)


@contextlib.contextmanager
def packed(packing: Packing) -> Iterator[None]:
    """Make every registered attention inside the block work on this packed batch."""
    token = _packing.set(packing)
    try:
        yield
    finally:
        _packing.reset(token)


@contextlib.contextmanager
def attention_seen_by(see: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put what each packed attention inside the block gives, ``[1, tokens, heads, size]``, through a function."""
    token = _seen_by.set(see)
    try:
        yield
    finally:
        _seen_by.reset(token)


def _mask(**kwargs: Any) -> Any:
    from transformers.masking_utils import causal_mask_function, sdpa_mask

    packing = _packing.get()
    if packing is None:
        return sdpa_mask(**kwargs)
    function: Any = kwargs.get("mask_function", causal_mask_function)
    device = torch.device(kwargs.get("device", "cpu"))
    zero = torch.zeros((), dtype=torch.long, device=device)
    # What the longest text may attend to holds for all, since windows are relative; it lies at its own place in the
    # batch.
    start = packing.whole.start
    allowed = window_of(lambda q, k: function(zero, zero, q + start, k + start), packing.longest, device)
    return _Allowed(allowed, packing)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    packing = attention_mask.packing if isinstance(attention_mask, _Allowed) else _packing.get()
    if packing is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
        )
    if isinstance(attention_mask, _Allowed):
        window = attention_mask.window
    else:
        causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
        window = CAUSAL if causal else FULL
    if isinstance(window, Window) and varlen_fits(query, window, dropout):
        attended = varlen(query, key, value, packing, window, scaling)
    else:
        attended = grouped(query, key, value, packing, window, scaling, dropout)
    see = _seen_by.get()
    return attended if see is None else see(attended), None


def prepare(model: nn.Module) -> bool:
    """Give a transformers model the packed attention; return False if it has no attention interface."""
    import transformers

    ours = type(model).__module__.startswith("transformers.")
    if not isinstance(model, transformers.PreTrainedModel) or not ours or not getattr(model, "_supports_sdpa", False):
        return False
    if model.config._attn_implementation not in ("sdpa", ATTENTION) or "position_ids" not in parameters(model):
        return False
    if not model._can_set_attn_implementation():
        return False
    register()
    model.set_attn_implementation(ATTENTION)
    return True


def decide(
    model: nn.Module,
    wanted: bool | None,
    start: int,
    pad_id: int,
    same_numbers: Callable[[nn.Module, int, int, int], bool] | None = None,
) -> bool:
    """Return whether a model's texts run packed, and give it the attention for it.

    Args:
        model: A transformers model.
        wanted: True packs whatever the numbers say, False never packs, None packs if the numbers are the same.
        start: Position of a text's first token.
        pad_id: The id that pads.
        same_numbers: Compares packed with padded texts, as :func:`runs_packed` does, which None means.
    """
    model = unwrapped(model)
    name = type(model).__name__
    if wanted is False:
        restore(model)
        return False
    if any(parameter.is_meta for parameter in model.parameters()) or not prepare(model):
        if wanted:
            logger.warning("unpad_inputs=True: %s has no attention interface, texts are padded", name)
        return False
    config: Any = model.config
    same = (same_numbers or runs_packed)(model, start, config.get_text_config().vocab_size, pad_id)
    if not same and wanted:
        logger.warning("unpad_inputs=True: %s gives other numbers for packed texts than for padded ones", name)
        return True
    if not same:
        restore(model)
    return same


def is_prepared(model: Any) -> bool:
    """Whether a model's attention is ours now; somebody may have set another since it was loaded."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None) == ATTENTION


@contextlib.contextmanager
def layout_of(features: Mapping[str, Any], ours: bool) -> Iterator[Packing | None]:
    """Run a block on the layout that features describe, and yield it; None if there is none.

    Args:
        features: ``packing``, or ``cu_seq_lens_q`` int ``[rows + 1]`` of texts flattened elsewhere; without these the
            features are padded.
        ours: Whether the model's attention is ours; another kind, such as flash attention, reads the features itself.
    """
    offsets = features.get("cu_seq_lens_q")
    if offsets is None or not ours:
        yield None
        return
    packing = features.get("packing") or Packing(offsets.cpu().long().numpy())
    with packed(packing):
        yield packing


def unwrapped(model: Any) -> Any:
    """Return the transformers model inside what wraps one: a compiled module, or a model of peft."""
    model = getattr(model, "_orig_mod", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def restore(model: Any) -> None:
    """Give a model that cannot run packed its ordinary attention back."""
    if is_prepared(model):
        model.set_attn_implementation("sdpa")


@cache
def _parameters_of(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def parameters(model: nn.Module) -> frozenset[str]:
    """Return the names of the arguments that a model's forward declares."""
    forward: Any = type(unwrapped(model)).forward
    return _parameters_of(forward)


def first_position(model: nn.Module) -> int:
    """Return the position of a text's first token: 0, or after the padding index where learned positions reserve it."""
    for module in model.modules():
        positions = getattr(module, "position_embeddings", None)
        if isinstance(positions, nn.Embedding) and positions.padding_idx is not None:
            return positions.padding_idx + 1
    return 0


def inputs(model: nn.Module, ids: Tensor, packing: Packing, type_ids: Tensor | None, start: int) -> dict[str, Tensor]:
    """Return a packed batch as the arguments of a transformers model's forward.

    Args:
        model: The model, for the arguments that it takes.
        ids: ``[tokens]``.
        packing: The batch's layout.
        type_ids: ``[tokens]`` segment ids, or None where all are 0.
        start: Position of a text's first token.
    """
    positions = torch.from_numpy(packing.positions).to(ids.device) + start
    features = {"input_ids": ids[None].long(), "position_ids": positions[None]}
    if "token_type_ids" in parameters(model):
        features["token_type_ids"] = (
            torch.zeros_like(features["input_ids"]) if type_ids is None else type_ids[None].long()
        )
    return features


def features(model: nn.Module, tokens: Tokens, packing: Packing, start: int) -> dict[str, Any]:
    """Return packed ids as features: a model's arguments, and the layout for whoever reads the result.

    Args:
        model: The model, for the arguments that it takes.
        tokens: The ids.
        packing: Their layout, with filling at the end.
        start: Position of a text's first token.
    """
    filled = len(tokens.ids) + packing.filling
    ids, types = (_filled(part, filled) for part in (tokens.ids, tokens.type_ids))
    return {**inputs(model, ids, packing, types, start), **layout(torch.from_numpy(tokens.offsets).int(), packing)}


def layout(offsets: Tensor, packing: Packing) -> dict[str, Any]:
    """Return the features that say which token of a packed batch is whose.

    Args:
        offsets: int32 ``[rows + 1]``, where each text begins, and the end of the last.
        packing: The same for our attention, with any filling at the end.
    """
    return {
        "cu_seq_lens_q": offsets,
        "cu_seq_lens_k": offsets,
        "max_length_q": packing.longest,
        "max_length_k": packing.longest,
        "packing": packing,
    }


def _filled(part: NDArray[np.int32] | None, count: int) -> Any:
    """Return ids as a tensor of ``count`` numbers, zeros at its end."""
    if part is None:
        return None
    return torch.from_numpy(
        part if len(part) == count else np.concatenate([part, np.zeros(count - len(part), np.int32)])
    )


def runs_packed(model: nn.Module, start: int, vocabulary: int, pad_id: int) -> bool:
    """Whether a model gives the same states for packed as for padded texts, tried on three short ones.

    Args:
        model: A model that :func:`prepare` accepted.
        start: Position of a text's first token.
        vocabulary: Number of ids that may be used.
        pad_id: The id that pads.
    """
    ids, packing = trial(model, vocabulary, pad_id)
    if ids is None:
        return False
    lengths, device = packing.lengths, ids.device
    mask = torch.arange(int(lengths.max()))[None, :] < torch.from_numpy(lengths)[:, None]
    padded = torch.full(mask.shape, pad_id if pad_id < vocabulary else 0)  # which id pads makes no difference
    padded[mask] = ids.cpu()
    with evaluated(model):
        arguments = inputs(model, ids, packing, None, start)
        with packed(packing):
            ours = model(**arguments)[0]
        theirs = model(input_ids=padded.to(device), attention_mask=mask.long().to(device))[0][mask.to(device)]
    if ours.shape[1:] != theirs.shape or ours.shape[0] != 1:
        return False
    return close(ours[0].float(), theirs.float(), tolerance(model))


def trial(model: nn.Module, vocabulary: int, pad_id: int) -> tuple[Tensor | None, Packing]:
    """Return the ids ``[tokens]`` and the layout of three short texts, on the model's device, to try it on.

    Where the model's config tells a window, one text is longer than it. No ids come back if none may be used.

    Args:
        model: A transformers model.
        vocabulary: Number of ids that may be used.
        pad_id: The id that pads, which is not among them.
    """
    packing = Packing(offsets_of([max(9, _window(model) + 7), 5, 2]))
    usable = np.setdiff1d(np.arange(min(vocabulary, 5000)), [pad_id])
    if len(usable) == 0:
        return None, packing
    ids = np.random.default_rng(0).choice(usable, int(packing.offsets[-1]))
    return torch.from_numpy(ids).to(next(model.parameters()).device), packing


@contextlib.contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Try a model inside the block, in evaluation mode and without gradients; it is left as it was."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def tolerance(model: nn.Module) -> float:
    """Return the share of the largest number by which two ways of running a model may differ."""
    return 1e-4 if next(model.parameters()).dtype.itemsize >= 4 else 6e-2


def _window(model: nn.Module) -> int:
    config = getattr(model.config, "text_config", None) or model.config
    sizes = [getattr(config, name, None) for name in ("sliding_window", "local_attention", "attention_window")]
    fitting = [size for size in sizes if isinstance(size, int) and size <= 1024]
    longest = getattr(config, "max_position_embeddings", None) or 512
    return min(max(fitting, default=0), max(longest - 9, 0))


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Whether two results differ by less than a share of the largest number."""
    scale = theirs.abs().max().clamp(min=1e-6)
    return bool(((ours - theirs).abs().max() / scale < tolerance).item())
