import numpy as np
import pytest
import torch

from fourfold.engine.collect import ListSink, RowSink, numpy_rows


def test_rows_land_where_they_belong():
    sink = RowSink(4, numpy_rows)
    sink.put(np.array([2, 0]), np.array([[2.0, 2], [0, 0]], dtype=np.float32))
    sink.put(np.array([1, 3]), np.array([[1.0, 1], [3, 3]], dtype=np.float32))
    np.testing.assert_array_equal(sink.result(), [[0, 0], [1, 1], [2, 2], [3, 3]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_the_first_batch_gives_the_dtype(dtype):
    sink = RowSink(1, numpy_rows)
    sink.put(np.array([0]), np.ones((1, 3), dtype=dtype))
    assert sink.result().dtype == dtype


def test_the_result_is_the_buffer_itself():
    buffers = []

    def allocate(shape, like):
        buffers.append(np.empty(shape, like.dtype))
        return buffers[-1]

    sink = RowSink(2, allocate)
    sink.put(np.array([0]), np.ones((1, 3)))
    sink.put(np.array([1]), np.ones((1, 3)))
    assert len(buffers) == 1
    assert sink.result() is buffers[0]


def test_tensors_are_collected_too():
    sink = RowSink(2, lambda shape, like: torch.empty(shape, dtype=like.dtype))
    sink.put(np.array([1, 0]), torch.tensor([[1.0], [0.0]]))
    assert sink.result().tolist() == [[0.0], [1.0]]


def test_a_result_without_a_batch_is_an_error():
    with pytest.raises(RuntimeError, match="no batch"):
        RowSink(1, numpy_rows).result()


def test_a_list_sink_refuses_outputs_that_do_not_match_their_rows():
    with pytest.raises(ValueError, match="zip"):
        ListSink(3).put(np.array([0, 1]), ["only one"])
