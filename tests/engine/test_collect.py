import numpy as np
import pytest
import torch

from fourfold.containers import Terms
from fourfold.engine.collect import ListSink, RowSink, TermsSink, numpy_rows


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


def test_sparse_rows_are_put_in_order_window_by_window():
    rng = np.random.default_rng(0)
    whole = np.where(rng.random((40, 7)) < 0.4, rng.random((40, 7)), 0).astype(np.float32)
    sink = TermsSink(40, [range(10), range(10, 25), range(25, 40)])
    batches = [np.arange(10)[::-1], *np.array_split(rng.permutation(np.arange(10, 25)), 4), np.arange(25, 40)]
    for rows in batches:
        sink.put(rows, Terms.of(whole[rows]))
    result = sink.result()
    assert np.array_equal(result.dense(), whole)
    assert result.weights.dtype == np.float32


def test_windows_may_be_finished_in_another_order():
    whole = np.eye(6, dtype=np.float16)
    sink = TermsSink(6, [range(2), range(2, 4), range(4, 6)])
    for rows in ([4, 5], [3, 2], [0], [1]):
        sink.put(np.array(rows), Terms.of(whole[rows]))
    assert np.array_equal(sink.result().dense(), whole)
    assert sink.result().weights.dtype == np.float16


def test_sparse_rows_that_are_not_all_there_are_an_error():
    sink = TermsSink(2, [range(2)])
    sink.put(np.array([1]), Terms.of(np.eye(1)))
    with pytest.raises(RuntimeError, match="only 0 of 2 rows"):
        sink.result()
