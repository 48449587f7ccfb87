"""Between torch's tensors and sparse rows of numpy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fourfold.containers import Terms


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
    offsets = np.zeros(len(vectors) + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=len(vectors)), out=offsets[1:])
    return Terms(offsets, term.astype(np.int32), weights, vectors.shape[1])


def as_coo(vectors: Tensor) -> Tensor:
    """Return a tensor of any layout as a coalesced COO tensor of the same shape."""
    if vectors.layout == torch.sparse_coo:
        return vectors.coalesce()
    return vectors.to_sparse_coo().coalesce()


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
