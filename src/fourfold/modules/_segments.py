"""Which tokens of a batch belong to which text, read from packed or padded features."""

from __future__ import annotations

import torch
from torch import Tensor

from fourfold.modules._base import Features
from fourfold.ops.pooling import Segments


def segments_of(features: Features, tokens: Tensor, skip: int | Tensor = 0) -> Segments:
    """Return the segments of ``tokens.reshape(-1, width)``.

    Args:
        features: Packed (``cu_seq_lens_q``) or padded (``attention_mask``, which counts as all ones where it is absent
            or of another length).
        tokens: ``[1, tokens, width]`` packed, with any filling after the last text, or ``[rows, longest, width]``.
        skip: Number of leading tokens of each text that take no part, one for all or ``[rows]``.
    """
    if "cu_seq_lens_q" in features:
        return Segments.from_offsets(features["cu_seq_lens_q"], skip)
    mask = features.get("attention_mask")
    if mask is None or mask.shape[1] != tokens.shape[1]:
        mask = torch.ones(tokens.shape[:2], dtype=torch.int64, device=tokens.device)
    return Segments.from_mask(mask, skip)
