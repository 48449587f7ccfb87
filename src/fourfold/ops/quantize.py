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
_BLOCK = 4096


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
            if precision in ("int8", "uint8"):
                ranges = np.stack(_ranges(parts, ranges, calibration_embeddings))
            return [quantize_embeddings(part, precision, ranges) for part in parts]
    vectors = as_array(embeddings)
    if vectors.dtype in (np.uint8, np.int8):
        raise InputError("embeddings are quantised already: their dtype is one byte")
    if precision == "float32":
        return vectors.astype(np.float32)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 128).view(np.int8)  # as bytes, less 128
    low, high = _ranges([vectors], ranges, calibration_embeddings)
    levels = _levels(np.atleast_2d(vectors), low, high).reshape(vectors.shape)
    return levels if precision == "uint8" else (levels ^ 128).view(np.int8)


def _levels(vectors: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the level of each number, 0 to 255, of ``[rows, width]``; some rows at a time, as there may be many."""
    step = (high - low) / 255
    step = np.where(step == 0, 1, step)
    levels = np.empty(vectors.shape, dtype=np.uint8)
    for start in range(0, len(vectors), _BLOCK):
        some = slice(start, start + _BLOCK)
        levels[some] = np.clip(np.floor((vectors[some] - low) / step), 0, 255)
    return levels


def _ranges(parts: list[NDArray[Any]], ranges: Any, calibration: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the smallest and largest value of each dimension: as given, of the calibration, or of all parts."""
    if ranges is not None:
        low, high = as_array(ranges)
        return low, high
    width = parts[0].shape[-1]
    if calibration is not None:
        parts = [as_array(calibration)]
    count = sum(len(part) for part in parts if part.ndim > 1)
    if count == 1 or any(part.ndim < 2 for part in parts):
        raise InputError(
            "int8 and uint8 need the range of each dimension, and one vector has none: give ranges or more vectors"
        )
    if count < _FEW:
        logger.warning(
            "quantisation ranges come from only %d vectors; give calibration_embeddings for steadier ones", count
        )
    if count == 0:
        return np.zeros(width, np.float32), np.zeros(width, np.float32)
    filled = [part for part in parts if len(part)]
    low = np.min([part.min(axis=0) for part in filled], axis=0)
    return low, np.max([part.max(axis=0) for part in filled], axis=0)


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
