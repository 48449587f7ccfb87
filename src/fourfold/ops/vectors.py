"""Small operations on vectors as tensors: convert, scale to length 1, shorten, keep the largest, count.

Where a function takes "vectors" it takes what :func:`~fourfold.ops.similarity.as_tensor` does: an array, a tensor, or a
list of either or of numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fourfold.errors import InputError
from fourfold.ops.similarity import Vectors, as_tensor, is_sparse
from fourfold.ops.sparse import as_coo

if TYPE_CHECKING:
    from scipy.sparse import coo_matrix

_SMALLEST_NORM = 1e-12


def to_float_tensor(vectors: Vectors) -> Tensor:
    """Return vectors as a tensor; half precision becomes float32, other types stay."""
    tensor = as_tensor(vectors)
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor


def to_batch(tensor: Tensor) -> Tensor:
    """Return a single vector ``[width]`` as ``[1, width]``, and other tensors as they are."""
    return tensor.unsqueeze(0) if tensor.ndim == 1 else tensor


def to_batch_tensor(vectors: Vectors) -> Tensor:
    """Return vectors as a tensor ``[rows, width]``, half precision as float32."""
    return to_batch(to_float_tensor(vectors))


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor as an array; numpy has no bfloat16, which becomes float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def row_norms(vectors: Tensor) -> Tensor:
    """Return the length of each row of ``[rows, width]``, dense or sparse, in float32 if the rows are of fewer bits."""
    if not is_sparse(vectors):
        return to_float_tensor(vectors).norm(dim=-1)
    vectors = as_coo(vectors)
    weights = to_float_tensor(vectors.values())
    return weights.new_zeros(len(vectors)).index_add(0, vectors.indices()[0], weights * weights).sqrt()


def normalize_embeddings(embeddings: Tensor) -> Tensor:
    """Return vectors scaled to length 1 along the last axis; zero vectors stay zero.

    Args:
        embeddings: ``[..., width]``, or ``[rows, width]`` or ``[width]`` if sparse. The result is a COO tensor if they
            are sparse.
    """
    if not is_sparse(embeddings):
        return functional.normalize(to_float_tensor(embeddings), dim=-1, eps=_SMALLEST_NORM).to(embeddings.dtype)
    embeddings = as_coo(embeddings)
    norms = row_norms(to_batch(embeddings)).clamp(min=_SMALLEST_NORM)
    indices, values = embeddings.indices(), to_float_tensor(embeddings.values())
    scaled = values / (norms[indices[0]] if embeddings.ndim == 2 else norms)
    return torch.sparse_coo_tensor(
        indices, scaled.to(embeddings.dtype), embeddings.shape, is_coalesced=True, check_invariants=False
    )


def truncate_embeddings(embeddings: Any, truncate_dim: int | None) -> Any:
    """Return the leading numbers of each vector.

    Args:
        embeddings: An array or tensor ``[..., width]``.
        truncate_dim: How many to keep; None keeps all.

    >>> truncate_embeddings(torch.ones(2, 8), 3).shape
    torch.Size([2, 3])
    """
    return embeddings[..., :truncate_dim]


def select_max_active_dims(embeddings: Any, max_active_dims: int | None) -> Any:
    """Return a dense tensor that keeps the numbers of largest absolute value in each row, with zeros elsewhere.

    Args:
        embeddings: An array or tensor ``[rows, width]`` or ``[width]``, dense or sparse.
        max_active_dims: How many a row keeps; None returns ``embeddings`` unchanged.

    Raises:
        InputError: If ``max_active_dims`` is below 1.

    >>> select_max_active_dims(torch.tensor([[1.0, -3.0, 2.0]]), 2).tolist()
    [[0.0, -3.0, 2.0]]
    """
    if max_active_dims is None:
        return embeddings
    if max_active_dims < 1:
        raise InputError(f"max_active_dims must be at least 1, got {max_active_dims}")
    dense = as_tensor(embeddings)
    dense = dense.to_dense() if is_sparse(dense) else dense
    kept = min(max_active_dims, dense.shape[-1])
    places = dense.abs().topk(kept, dim=-1).indices
    return torch.zeros_like(dense).scatter_(-1, places, dense.gather(-1, places))


def to_scipy_coo(x: Tensor) -> coo_matrix:
    """Return a sparse tensor ``[rows, width]`` as a scipy matrix; half precision, which scipy lacks, as float32."""
    from scipy.sparse import coo_matrix

    x = as_coo(x)
    rows, columns = x.indices().cpu().numpy()
    return coo_matrix((to_array(to_float_tensor(x.values())), (rows, columns)), shape=tuple(x.shape))


def compute_count_vector(embeddings: Tensor) -> Tensor:
    """Return in how many rows each dimension is not zero, int32 ``[width]``.

    Args:
        embeddings: ``[rows, width]`` or ``[width]``, dense or sparse.

    Raises:
        InputError: If the tensor has another rank.
    """
    if embeddings.ndim not in (1, 2):
        raise InputError(f"embeddings must be [rows, width] or [width], got the shape {list(embeddings.shape)}")
    if not is_sparse(embeddings):
        return to_batch(embeddings).count_nonzero(dim=0).int()
    embeddings = as_coo(embeddings)
    places = embeddings.indices()[-1][embeddings.values() != 0]
    return torch.bincount(places, minlength=embeddings.shape[-1]).int()
