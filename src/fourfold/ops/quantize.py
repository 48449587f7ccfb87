"""Make vectors smaller: one byte or one bit a number."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import InputError, did_you_mean

logger = logging.getLogger(__name__)

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
_FEW = 100


def check_precision(precision: str | None) -> str:
    """Return the precision; None means float32. Raises :class:`~fourfold.errors.InputError` if unknown."""
    if precision is None:
        return "float32"
    if precision not in PRECISIONS:
        hint = did_you_mean(precision, PRECISIONS)
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}.{hint}")
    return precision


def quantize_embeddings(
    embeddings: Any, precision: str, ranges: NDArray[Any] | None = None, calibration_embeddings: Any = None
) -> Any:
    """Return vectors in a smaller form.

    Args:
        embeddings: ``[rows, width]``, an array, a tensor or a list of vectors; or a list of such matrices, which share
            their ranges.
        precision: ``float32`` only converts; ``int8`` and ``uint8`` give 256 levels between a dimension's smallest and
            largest value; ``binary`` (int8) and ``ubinary`` (uint8) give one bit a dimension, eight to a byte, high
            bit first.
        ranges: ``[2, width]``, the smallest and largest value of each dimension, for ``int8`` and ``uint8``.
        calibration_embeddings: Vectors to take the ranges from, where ``ranges`` is None; else ``embeddings``
            themselves.

    Returns:
        ``[rows, width]``, or ``[rows, ceil(width / 8)]`` for the binary forms; a list of those for a list of matrices.

    Raises:
        InputError: If the precision is unknown, or ranges would come from a single vector.
    """
    check_precision(precision)
    if isinstance(embeddings, (list, tuple)):
        if len(embeddings) == 0:
            return []
        parts = [as_array(part) for part in embeddings]
        if parts[0].ndim == 2:
            whole = quantize_embeddings(np.concatenate(parts), precision, ranges, calibration_embeddings)
            return np.split(whole, np.cumsum([len(part) for part in parts[:-1]]))
    vectors = as_array(embeddings)
    if vectors.dtype in (np.uint8, np.int8):
        raise InputError("embeddings are quantised already: their dtype is one byte")
    if precision == "float32":
        return vectors.astype(np.float32)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    low, high = _ranges(vectors, ranges, calibration_embeddings)
    step = (high - low) / 255
    step = np.where(step == 0, 1, step)
    levels = np.clip(np.floor((vectors - low) / step), 0, 255)
    return levels.astype(np.uint8) if precision == "uint8" else (levels - 128).astype(np.int8)


def _ranges(vectors: NDArray[Any], ranges: Any, calibration: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    if ranges is not None:
        low, high = as_array(ranges)
        return low, high
    source = vectors if calibration is None else as_array(calibration)
    if source.ndim < 2 or len(source) == 1:
        raise InputError(
            "int8 and uint8 need the range of each dimension, and one vector has none: give ranges or more vectors"
        )
    if len(source) < _FEW:
        logger.warning(
            "quantisation ranges come from only %d vectors; give calibration_embeddings for steadier ones", len(source)
        )
    if len(source) == 0:
        return np.zeros(vectors.shape[-1], np.float32), np.zeros(vectors.shape[-1], np.float32)
    return source.min(axis=0), source.max(axis=0)


def as_array(value: Any) -> NDArray[Any]:
    """Return vectors as a numpy array; bfloat16 tensors become float32."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    if isinstance(value, (list, tuple)) and value:
        return np.stack([as_array(row) for row in value])
    return np.asarray(value)
