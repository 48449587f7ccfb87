import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourfold.containers import Terms
from fourfold.errors import InputTypeError, ShapeError
from fourfold.ops.sparse import as_coo, coo, coo_rows, csr, row_range, stacked, terms_of

dense = st.lists(st.lists(st.sampled_from([0.0, 0.0, 1.5, -2.0]), min_size=5, max_size=5), min_size=1, max_size=6).map(
    lambda rows: torch.tensor(rows)
)


@given(dense)
def test_tensors_of_every_layout_hold_the_same_terms(rows):
    for given_ in (rows, rows.to_sparse(), rows.to_sparse_csr(), rows.double(), rows.half()):
        terms = terms_of(given_)
        assert np.array_equal(terms.dense(), rows.numpy())
        assert (np.diff(terms.terms) > 0).sum() >= len(terms.terms) - len(rows)


@given(dense)
def test_terms_become_tensors(rows):
    terms = Terms.of(rows.numpy())
    for made in (coo(terms), csr(terms)):
        assert torch.equal(made.to_dense(), rows)
    assert coo(terms).is_coalesced()
    for one, row in zip(coo_rows(terms), rows, strict=True):
        assert torch.equal(one.to_dense(), row)


def test_tensors_share_the_memory_of_their_weights():
    terms = Terms.of(np.eye(3, dtype=np.float32))
    assert coo(terms).values().data_ptr() == terms.weights.ctypes.data
    assert csr(terms).values().data_ptr() == terms.weights.ctypes.data
    assert coo_rows(terms)[0].values().data_ptr() == terms.weights.ctypes.data
    assert coo_rows(terms, apart=True)[0].values().data_ptr() != terms.weights.ctypes.data


def test_entries_that_add_up_or_are_zero_are_one_or_none():
    rows = torch.sparse_coo_tensor([[0, 0, 1, 1], [2, 2, 0, 1]], [1.0, 2.0, 0.0, 5.0], (2, 3), check_invariants=False)
    assert terms_of(rows).dense().tolist() == [[0, 0, 3], [0, 5, 0]]
    assert len(terms_of(rows).terms) == 2


def test_bfloat16_is_kept_as_float32():
    terms = terms_of(torch.tensor([[0.0, 1.5, -0.0]], dtype=torch.bfloat16))
    assert (terms.weights.dtype, terms.weights.tolist()) == (np.float32, [1.5])


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (2, 4)])
def test_nothing_stays_nothing(shape):
    terms = terms_of(torch.zeros(shape))
    assert (len(terms), terms.width, len(terms.terms)) == (*shape, 0)
    assert coo(terms).shape == csr(terms).shape == shape


def test_vectors_become_coordinates_whatever_their_layout():
    row = torch.tensor([0.0, 2.0])
    for given_ in (row, row.to_sparse(), row[None].to_sparse_csr()):
        assert as_coo(given_).is_coalesced()
        assert as_coo(given_).to_dense().flatten().tolist() == [0, 2]


def test_vectors_are_stacked_as_torch_does():
    rows = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
    made = stacked(list(rows.to_sparse()))
    assert torch.equal(made.to_dense(), rows)
    twice = torch.sparse_coo_tensor([[2, 2]], [1.0, 1.5], (3,), check_invariants=False)
    assert stacked([twice, twice]).to_dense().tolist() == [[0, 0, 2.5]] * 2
    whole = [vector.coalesce() for vector in rows.to_sparse()]
    assert stacked(whole).is_coalesced()
    assert torch.equal(stacked(whole).coalesce().to_dense(), rows)
    matrices = stacked([rows.to_sparse(), rows.to_sparse()])
    assert torch.equal(matrices.to_dense(), torch.stack([rows, rows]))
    leaf = rows.clone().requires_grad_()
    stacked(list(leaf.to_sparse())).to_dense().sum().backward()
    assert leaf.grad.sum() == 3


def test_what_cannot_be_stacked_is_named():
    row = torch.tensor([0.0, 2.0])
    with pytest.raises(InputTypeError, match=r"torch\.sparse_coo and torch\.strided"):
        stacked([row.to_sparse(), row])
    with pytest.raises(ShapeError, match=r"\(1,\), \(2,\)"):
        stacked([row.to_sparse(), row[1:].to_sparse()])


@given(dense, st.integers(0, 7), st.integers(0, 7))
def test_ranges_of_rows(rows, start, count):
    sparse = rows.to_sparse()
    start = min(start, len(rows))
    part = row_range(sparse, start, start + count)
    assert part.is_coalesced()
    assert torch.equal(part.to_dense(), rows[start : start + count])
