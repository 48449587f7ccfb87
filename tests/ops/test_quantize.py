import logging

import numpy as np
import pytest
import torch

from fourfold.errors import InputError
from fourfold.ops.quantize import check_precision, quantize_embeddings


def vectors(rows=120, width=10, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


@pytest.mark.parametrize(("precision", "dtype", "shift"), [("uint8", np.uint8, 0), ("int8", np.int8, -128)])
def test_levels_between_smallest_and_largest(precision, dtype, shift):
    given = vectors()
    got = quantize_embeddings(given, precision)
    assert got.dtype == dtype
    low, high = given.min(0), given.max(0)
    for i in range(len(given)):
        for d in range(given.shape[1]):
            step = (high[d] - low[d]) / np.float32(255)
            level = min(max(int(np.floor((given[i, d] - low[d]) / step)), 0), 255)
            assert got[i, d] == level + shift
    assert got.min() == shift


def test_a_dimension_without_spread_gives_the_lowest_level():
    assert quantize_embeddings(np.ones((200, 2), np.float32), "uint8").max() == 0


def test_ranges_may_be_given_and_clip():
    ranges = np.array([[0.0, 0.0], [255.0, 2.55]], np.float32)
    got = quantize_embeddings(np.array([[10.5, 9.0], [-4.0, 1.0]], np.float32), "uint8", ranges)
    assert got.tolist() == [[10, 255], [0, 100]]


def test_calibration_gives_the_ranges():
    given, calibration = vectors(3), vectors(500, seed=1)
    want = quantize_embeddings(given, "int8", np.stack([calibration.min(0), calibration.max(0)]))
    np.testing.assert_array_equal(quantize_embeddings(given, "int8", calibration_embeddings=calibration), want)


def test_one_vector_has_no_range():
    for one in (vectors(1), vectors(1)[0]):
        with pytest.raises(InputError, match="range of each dimension"):
            quantize_embeddings(one, "int8")


def test_few_vectors_warn(caplog):
    with caplog.at_level(logging.WARNING):
        quantize_embeddings(vectors(100), "int8")
    assert caplog.text == ""
    quantize_embeddings(vectors(99), "int8")
    assert "only 99 vectors" in caplog.text


@pytest.mark.parametrize("width", [1, 7, 8, 9, 16])
def test_one_bit_a_dimension_high_bit_first(width):
    given = vectors(5, width)
    given[0, 0] = 0.0  # not above zero
    got = quantize_embeddings(given, "ubinary")
    assert got.dtype == np.uint8
    assert got.shape == (5, -(-width // 8))
    for row, bits in zip(given, got, strict=True):
        text = "".join(f"{byte:08b}" for byte in bits)
        assert text[:width] == "".join("1" if x > 0 else "0" for x in row)
        assert set(text[width:]) <= {"0"}
    signed = quantize_embeddings(given, "binary")
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed.astype(int), got.astype(int) - 128)


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_one_vector_has_bits(precision):
    assert quantize_embeddings(vectors(1)[0], precision).shape == (2,)


@pytest.mark.parametrize(
    "form", [torch.from_numpy, list, lambda v: list(torch.from_numpy(v))], ids=["tensor", "arrays", "tensors"]
)
@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary"])
def test_forms(form, precision):
    given = vectors()
    np.testing.assert_array_equal(quantize_embeddings(form(given), precision), quantize_embeddings(given, precision))


def test_bfloat16_becomes_float32():
    got = quantize_embeddings(torch.ones(2, 3, dtype=torch.bfloat16), "float32")
    assert got.dtype == np.float32


def test_float32_is_a_copy():
    given = vectors()
    assert not np.shares_memory(quantize_embeddings(given, "float32"), given)


@pytest.mark.parametrize(
    ("precision", "width"), [("int8", 10), ("uint8", 10), ("binary", 2), ("ubinary", 2), ("float32", 10)]
)
def test_no_rows_keep_their_width(precision, width):
    assert quantize_embeddings(np.empty((0, 10), np.float32), precision).shape == (0, width)


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_matrices_of_several_texts_share_their_ranges(precision):
    parts = [vectors(60), vectors(70, seed=1)]
    got = quantize_embeddings(parts, precision)
    assert isinstance(got, list)
    np.testing.assert_array_equal(np.concatenate(got), quantize_embeddings(np.concatenate(parts), precision))
    assert [len(part) for part in got] == [60, 70]


def test_nothing_stays_nothing():
    assert quantize_embeddings([], "int8") == []


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_bytes_are_quantised_already(dtype):
    with pytest.raises(Exception, match="quantised already"):
        quantize_embeddings(np.zeros((2, 3), dtype), "int8")


@pytest.mark.parametrize("wrong", ["float16", "int4", "", "Int8"])
def test_unknown_precisions_are_refused(wrong):
    with pytest.raises(InputError, match="precision must be one of float32, int8"):
        quantize_embeddings(vectors(), wrong)
    assert check_precision(None) == "float32"
