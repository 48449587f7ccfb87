"""Between torch's tensors and sparse rows of numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fourfold.containers import Terms, offsets_of
from fourfold.errors import InputTypeError, ShapeError


def terms_of(vectors: Tensor) -> Terms:
    """Return the entries that are not 0 of a batch of vectors, on the CPU; bfloat16, which numpy lacks, as float32.

    Args:
        vectors: ``[rows, width]``, dense or sparse.
    """
    vectors = vectors.detach()
    if vectors.dtype == torch.bfloat16:
        vectors = vectors.float()
    if vectors.device.type == "cpu" and vectors.layout == torch.strided:
        return Terms.of(vectors.numpy())
    if vectors.layout != torch.strided:
        vectors = as_coo(vectors)
        (row, term), weights = vectors.indices().cpu().numpy(), vectors.values().cpu().numpy()
        kept = weights != 0
        if not kept.all():
            row, term, weights = row[kept], term[kept], weights[kept]
    else:  # what leaves a device is the entries, not the zeros between them
        places = vectors.nonzero(as_tuple=True)
        weights = vectors[places].cpu().numpy()
        row, term = (place.cpu().numpy() for place in places)
    offsets = offsets_of(np.bincount(row, minlength=len(vectors)))
    return Terms(offsets, term.astype(np.int32), weights, vectors.shape[1])


def as_coo(vectors: Tensor) -> Tensor:
    """Return a tensor of any layout as a coalesced COO tensor of the same shape."""
    if vectors.layout == torch.sparse_coo:
        return vectors.coalesce()
    return vectors.to_sparse_coo().coalesce()


def stacked(vectors: Sequence[Tensor]) -> Tensor:
    """Return sparse COO vectors ``[width]`` as the rows of one tensor ``[rows, width]``, coalesced if each of them is.

    Raises:
        InputTypeError: If some are dense, or of another layout.
        ShapeError: If they differ in shape.
    """
    kinds = sorted({str(vector.layout) for vector in vectors})
    if kinds != ["torch.sparse_coo"]:
        raise InputTypeError(f"a list of sparse vectors must hold sparse COO tensors alone, got {' and '.join(kinds)}")
    shapes = {tuple(vector.shape) for vector in vectors}
    if len(shapes) > 1:
        raise ShapeError(f"sparse vectors in a list must be of one shape, got {sorted(shapes)[:3]}")
    if vectors[0].ndim != 1 or any(vector.requires_grad for vector in vectors):
        return torch.stack(list(vectors))
    # As torch.stack, which forgets that its vectors are coalesced; sorting them again takes far longer than this.
    counts = torch.tensor([vector._nnz() for vector in vectors], device=vectors[0].device)
    terms = torch.cat([vector._indices()[0] for vector in vectors])
    weights = torch.cat([vector._values() for vector in vectors])
    whole = all(vector.is_coalesced() for vector in vectors)
    indices = torch.stack([torch.repeat_interleave(counts), terms])
    shape = (len(vectors), vectors[0].shape[0])
    return torch.sparse_coo_tensor(indices, weights, shape, is_coalesced=whole, check_invariants=False)


def row_range(vectors: Tensor, start: int, stop: int) -> Tensor:
    """Return the rows of a coalesced COO tensor from ``start`` to before ``stop``, views of its entries."""
    indices = vectors.indices()
    ends = torch.tensor([start, stop], device=indices.device)
    first, last = torch.searchsorted(indices[0].contiguous(), ends).tolist()
    part = indices[:, first:last].clone()
    part[0] -= start
    return _coo(part, vectors.values()[first:last], (min(stop, len(vectors)) - start, vectors.shape[1]))


def coo(rows: Terms) -> Tensor:
    """Return sparse rows as a coalesced COO tensor ``[rows, width]`` over the same weights."""
    indices = torch.empty(2, len(rows.terms), dtype=torch.int64)
    indices.numpy()[0] = np.repeat(np.arange(len(rows)), rows.lengths)
    indices.numpy()[1] = rows.terms
    return _coo(indices, torch.from_numpy(rows.weights), (len(rows), rows.width))


def coo_rows(rows: Terms, *, apart: bool = False) -> list[Tensor]:
    """Return each row as a coalesced COO tensor ``[width]``.

    Args:
        rows: Sparse rows.
        apart: Whether each has memory of its own, so that keeping one does not keep all.
    """
    found = []
    for number in range(len(rows)):
        terms, weights = rows.row(number)
        values = torch.from_numpy(weights.copy() if apart else weights)
        found.append(_coo(torch.from_numpy(terms.astype(np.int64))[None], values, (rows.width,)))
    return found


def csr(rows: Terms) -> Tensor:
    """Return sparse rows as a CSR tensor ``[rows, width]`` over the same terms and weights."""
    small = len(rows.terms) < 2**31
    offsets, terms = torch.from_numpy(rows.offsets), torch.from_numpy(rows.terms)
    return torch.sparse_csr_tensor(
        offsets.int() if small else offsets,
        terms if small else terms.long(),
        torch.from_numpy(rows.weights),
        (len(rows), rows.width),
        check_invariants=False,
    )


def _coo(indices: Tensor, weights: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.sparse_coo_tensor(indices, weights, shape, is_coalesced=True, check_invariants=False)
