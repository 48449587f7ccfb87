import numpy as np
import pytest
import torch
from tests.tolerances import FORMULA

from fourfold.errors import InputError
from fourfold.ops import vectors as ops

SPARSE = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, -4.0]])


def test_vectors_are_scaled_to_length_one_dense_and_sparse():
    rows = torch.randn(5, 7)
    rows[2] = 0
    scaled = ops.normalize_embeddings(rows)
    assert torch.allclose(scaled.norm(dim=1), torch.tensor([1.0, 1, 0, 1, 1]), atol=FORMULA)
    sparse = ops.normalize_embeddings(SPARSE.to_sparse())
    assert sparse.is_sparse
    assert torch.allclose(sparse.to_dense(), torch.tensor([[0, 1.0, 0], [0, 0, 0], [0.6, 0, -0.8]]), atol=FORMULA)
    assert torch.allclose(ops.normalize_embeddings(SPARSE[2].to_sparse()).to_dense(), torch.tensor([0.6, 0, -0.8]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scaling_keeps_the_type_and_does_not_overflow(dtype):
    rows = torch.full((2, 64), 300.0, dtype=dtype)
    for given in (rows, rows.to_sparse()):
        scaled = ops.normalize_embeddings(given)
        assert scaled.dtype == dtype
        assert torch.allclose(scaled.to_dense().double(), torch.tensor(0.125, dtype=torch.float64))


def test_the_largest_numbers_stay():
    rows = torch.tensor([[1.0, -3, 2], [0, 0.5, 0.1]])
    assert ops.select_max_active_dims(rows, 2).tolist() == [[0, -3, 2], [0, 0.5, pytest.approx(0.1)]]
    assert ops.select_max_active_dims(SPARSE.to_sparse(), 1)[2].tolist() == [0, 0, -4]
    assert ops.select_max_active_dims(rows, None) is rows
    assert torch.equal(ops.select_max_active_dims(rows, 50), rows)
    with pytest.raises(InputError, match="max_active_dims must be at least 1, got 0"):
        ops.select_max_active_dims(rows, 0)


def test_counting_uses_of_dimensions():
    for given in (SPARSE, SPARSE.to_sparse()):
        count = ops.compute_count_vector(given)
        assert count.dtype == torch.int32
        assert count.tolist() == [1, 1, 1]
    assert ops.compute_count_vector(SPARSE[1]).tolist() == [0, 0, 0]
    with pytest.raises(InputError, match=r"got the shape \[1, 1, 1\]"):
        ops.compute_count_vector(torch.ones(1, 1, 1))


def test_forms():
    assert ops.to_batch_tensor(np.ones(3, np.float16)).dtype == torch.float32
    assert ops.to_batch_tensor(np.ones(3)).shape == (1, 3)
    assert ops.to_batch(torch.ones(2, 3)).shape == (2, 3)
    assert ops.to_float_tensor(torch.ones(2, dtype=torch.long)).dtype == torch.long
    assert ops.to_array(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32
    assert ops.truncate_embeddings(np.ones((2, 8)), 3).shape == (2, 3)
    assert ops.to_scipy_coo(SPARSE.to_sparse()).toarray().tolist() == SPARSE.tolist()
