"""How alike vectors are: all pairs, or row by row.

The formulas are written once for numpy arrays and torch tensors. :func:`compare` keeps the library of its inputs; the
named functions (``cos_sim``, ``pairwise_dot_score``, ...) are the contract's and return torch tensors whatever they
are given. Half precision is computed in float32, float64 stays float64. A zero vector has cosine 0 to everything.
Sparse tensors, on either side or both, are compared by their entries and give dense results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from fourfold.errors import InputError, did_you_mean
from fourfold.notices import warn_once

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Vectors = Any
"""An array or tensor ``[rows, width]`` or ``[width]``, or a list of either or of numbers; tensors may be sparse."""

_SMALLEST_NORM = 1e-12


def unit(v: Any) -> Any:
    """Return an array or tensor with its last axis scaled to length 1; zeros stay."""
    return v / ((v * v).sum(-1, keepdims=True) ** 0.5).clip(min=_SMALLEST_NORM)


def _distances(a: Any, b: Any, power: float) -> Any:
    if not isinstance(a, np.ndarray):
        import torch

        return torch.cdist(a, b, p=power)
    out = np.empty((len(a), len(b)), dtype=np.result_type(a, b))
    for row, vector in zip(out, a, strict=True):
        difference = b - vector
        row[:] = np.abs(difference).sum(-1) if power == 1 else np.sqrt((difference * difference).sum(-1))
    return out


def _euclidean(difference: Any) -> Any:
    return (difference * difference).sum(-1) ** 0.5


_ALL_PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "cosine": lambda a, b: unit(a) @ unit(b).T,
    "dot": lambda a, b: a @ b.T,
    "euclidean": lambda a, b: -_distances(a, b, 2.0),
    "manhattan": lambda a, b: -_distances(a, b, 1.0),
}
_PAIRWISE: dict[str, Callable[[Any, Any], Any]] = {
    "cosine": lambda a, b: (unit(a) * unit(b)).sum(-1),
    "dot": lambda a, b: (a * b).sum(-1),
    "euclidean": lambda a, b: -_euclidean(a - b),
    "manhattan": lambda a, b: -abs(a - b).sum(-1),
}


def compare(name: str, a: Vectors, b: Vectors, *, pairwise: bool = False) -> Any:
    """Return similarities in the library of the inputs.

    Args:
        name: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``; the last two are negative distances.
        a: ``[rows, width]`` or ``[width]``.
        b: As ``a``.
        pairwise: Compare row ``i`` of ``a`` with row ``i`` of ``b``, instead of every row with every row.

    Returns:
        ``[rows of a, rows of b]``, or ``[rows]`` if pairwise.
    """
    formulas = _PAIRWISE if pairwise else _ALL_PAIRS
    if name not in formulas:
        raise InputError(
            f"similarity must be one of {', '.join(formulas)}; got {name!r}.{did_you_mean(name, formulas)}"
        )
    first, second = _wide(a), _wide(b)
    if is_sparse(first) or is_sparse(second):
        from fourfold.ops.sparse_similarity import compare_sparse

        return compare_sparse(name, first, second, pairwise=pairwise)
    if not pairwise:
        first, second = (v[None] if v.ndim == 1 else v for v in (first, second))
    return formulas[name](first, second)


def _wide(vectors: Any) -> Any:
    if isinstance(vectors, np.ndarray):
        return vectors.astype(np.float32) if vectors.dtype == np.float16 else vectors
    if hasattr(vectors, "is_floating_point"):
        return vectors.float() if vectors.is_floating_point() and vectors.element_size() < 4 else vectors
    return np.asarray(vectors)


def is_sparse(vectors: Any) -> bool:
    """Whether vectors are a sparse tensor, of whatever layout."""
    return str(getattr(vectors, "layout", "torch.strided")) != "torch.strided"


def as_tensor(vectors: Vectors) -> torch.Tensor:
    """Return vectors as a torch tensor; a writable array is viewed, not copied. Sparse COO tensors become float32."""
    import torch

    if isinstance(vectors, torch.Tensor):
        return vectors.float() if vectors.is_sparse else vectors
    if isinstance(vectors, np.ndarray):
        return torch.from_numpy(vectors if vectors.flags.writeable else vectors.copy())
    if isinstance(vectors, (list, tuple)) and vectors and isinstance(vectors[0], torch.Tensor):
        if any(map(is_sparse, vectors)):
            from fourfold.ops.sparse import stacked

            return stacked(vectors).float()
        return torch.stack(list(vectors))
    if isinstance(vectors, (list, tuple)) and vectors and isinstance(vectors[0], np.ndarray):
        return torch.from_numpy(np.stack(vectors))
    return torch.as_tensor(vectors)


def _compare_tensors(name: str, a: Vectors, b: Vectors, pairwise: bool) -> torch.Tensor:
    return compare(name, as_tensor(a), as_tensor(b), pairwise=pairwise)


def cos_sim(a: Vectors, b: Vectors) -> torch.Tensor:
    """Return the cosine of every row of ``a`` with every row of ``b``, ``[rows of a, rows of b]``."""
    return _compare_tensors("cosine", a, b, False)


def dot_score(a: Vectors, b: Vectors) -> torch.Tensor:
    """Return the dot product of every row of ``a`` with every row of ``b``, ``[rows of a, rows of b]``."""
    return _compare_tensors("dot", a, b, False)


def euclidean_sim(a: Vectors, b: Vectors) -> torch.Tensor:
    """Return minus the Euclidean distance of every row of ``a`` to every row of ``b``, ``[rows of a, rows of b]``."""
    return _compare_tensors("euclidean", a, b, False)


def manhattan_sim(a: Vectors, b: Vectors) -> torch.Tensor:
    """Return minus the L1 distance of every row of ``a`` to every row of ``b``, ``[rows of a, rows of b]``."""
    return _compare_tensors("manhattan", a, b, False)


def pairwise_cos_sim(a: Vectors, b: Vectors) -> torch.Tensor:
    """Return the cosine of each row of ``a`` with the same row of ``b``, ``[rows]``."""
    return _compare_tensors("cosine", a, b, True)


def pairwise_dot_score(a: Vectors, b: Vectors) -> torch.Tensor:
    """Return the dot product of each row of ``a`` with the same row of ``b``, ``[rows]``."""
    return _compare_tensors("dot", a, b, True)


def pairwise_euclidean_sim(a: Vectors, b: Vectors) -> torch.Tensor:
    """Return minus the Euclidean distance of each row of ``a`` to the same row of ``b``, ``[rows]``."""
    return _compare_tensors("euclidean", a, b, True)


def pairwise_manhattan_sim(a: Vectors, b: Vectors) -> torch.Tensor:
    """Return minus the L1 distance of each row of ``a`` to the same row of ``b``, ``[rows]``."""
    return _compare_tensors("manhattan", a, b, True)


def pairwise_angle_sim(x: Vectors, y: Vectors) -> torch.Tensor:
    """Return how alike the angles of rows are, read as complex numbers, ``[rows]`` (Li and Li 2023, AnglE).

    The first half of a vector holds the real parts, the second the imaginary ones; a zero is added to an odd width.
    Sparse rows are made dense first, of which a warning tells once.

    Args:
        x: ``[rows, width]``.
        y: As ``x``.
    """
    from torch.nn import functional

    first, second = (_wide(as_tensor(vectors)) for vectors in (x, y))
    if is_sparse(first) or is_sparse(second):
        warn_once(logger, "pairwise_angle_sim makes sparse vectors dense, which takes 4 bytes a number")
        first, second = (v.to_dense() if is_sparse(v) else v for v in (first, second))
    first, second = (functional.normalize(v, dim=1) for v in (first, second))
    odd = first.shape[1] % 2
    a, b = functional.pad(first, (0, odd)).chunk(2, dim=1)
    c, d = functional.pad(second, (0, odd)).chunk(2, dim=1)
    return ((a * c + b * d).sum(dim=1) + (b * c - a * d).sum(dim=1)).abs()


class SimilarityFunction(Enum):
    """The ways to compare vectors; the value is the name that models save."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"  # noqa: PIE796 - an alias, by the contract
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def to_similarity_fn(similarity_function: str | SimilarityFunction) -> Callable[[Vectors, Vectors], torch.Tensor]:
        """Return the all-pairs function of a name or member; raises ``ValueError`` if unknown."""
        return _FUNCTIONS[_member(similarity_function)][0]

    @staticmethod
    def to_similarity_pairwise_fn(
        similarity_function: str | SimilarityFunction,
    ) -> Callable[[Vectors, Vectors], torch.Tensor]:
        """Return the row-by-row function of a name or member; raises ``ValueError`` if unknown."""
        return _FUNCTIONS[_member(similarity_function)][1]

    @staticmethod
    def possible_values() -> list[str]:
        """Return the names."""
        return [member.value for member in SimilarityFunction]


_FUNCTIONS = {
    SimilarityFunction.COSINE: (cos_sim, pairwise_cos_sim),
    SimilarityFunction.DOT_PRODUCT: (dot_score, pairwise_dot_score),
    SimilarityFunction.EUCLIDEAN: (euclidean_sim, pairwise_euclidean_sim),
    SimilarityFunction.MANHATTAN: (manhattan_sim, pairwise_manhattan_sim),
}


def _member(value: str | SimilarityFunction) -> SimilarityFunction:
    try:
        return SimilarityFunction(value)
    except ValueError:
        known = SimilarityFunction.possible_values()
        hint = did_you_mean(value, known)
        raise InputError(f"similarity function must be one of {', '.join(known)}; got {value!r}.{hint}") from None


def similarity_name(value: str | SimilarityFunction) -> str:
    """Return the name of a similarity given by name or member; raises ``ValueError`` if unknown."""
    return _member(value).value
