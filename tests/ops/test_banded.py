"""Attention near the diagonal gives what attention with the whole mask gives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests import tolerances
from torch.nn import functional

from fourfold.ops.attention import Packing, Window, grouped
from fourfold.ops.banded import band_mask, banded, block_size, pays

CPU = torch.device("cpu")


def states(texts, heads, key_heads, length, size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(texts, count, length, size, generator=generator) for count in (heads, key_heads, key_heads)]


def plain(q, k, v, window, scale=None):
    mask = window.mask(q.shape[2], CPU)
    shared = k.shape[1] != q.shape[1]
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=shared)


@given(
    length=st.integers(1, 900), left=st.integers(0, 140), right=st.integers(0, 140), texts=st.integers(1, 3),
    key_heads=st.sampled_from([1, 2, 4]), seed=st.integers(0, 3),
)  # fmt: skip
def test_it_is_the_exact_window(length, left, right, texts, key_heads, seed):
    q, k, v = states(texts, 4, key_heads, length, seed=seed)
    got = banded(q, k, v, left, right, band_mask(length, left, right, CPU), 0.3, 0.0)
    torch.testing.assert_close(got, plain(q, k, v, Window(left, right), 0.3), rtol=0, atol=tolerances.FORMULA)


def test_only_long_texts_are_worth_it():
    assert not pays(383, 64, 64)
    assert pays(384, 64, 64)
    assert not pays(1024, 511, 0)
    assert pays(4096, 511, 0)
    assert block_size(2, 0) == 128


def test_a_packed_batch_takes_either_way_by_length():
    lengths = [1000, 1000, 300, 3]
    packing = Packing(torch.tensor([0, *lengths]).cumsum(0).numpy())
    q, k, v = states(1, 4, 2, sum(lengths))
    window = Window(20, 7)
    got = grouped(q, k, v, packing, window, None)
    start = 0
    for length in lengths:
        part = slice(start, start + length)
        want = plain(q[:, :, part], k[:, :, part], v[:, :, part], window).transpose(1, 2)
        torch.testing.assert_close(got[:, part], want, rtol=0, atol=tolerances.FORMULA)
        start += length
    assert {mask.ndim for mask in packing._masks.values()} == {2, 4}


def test_gradients_are_those_of_the_whole_mask():
    window = Window(30, 10)
    grads = []
    for near in (True, False):
        q, k, v = (part.requires_grad_() for part in states(2, 2, 2, 700))
        out = banded(q, k, v, 30, 10, band_mask(700, 30, 10, CPU), None, 0.0) if near else plain(q, k, v, window)
        (out**2).sum().backward()
        grads.append([part.grad for part in (q, k, v)])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerances.FORMULA_LARGE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays(dtype):
    q, k, v = (part.to(dtype) for part in states(1, 2, 2, 800))
    out = banded(q, k, v, 9, 9, band_mask(800, 9, 9, CPU), None, 0.0)
    assert out.dtype == dtype
    torch.testing.assert_close(out, plain(q, k, v, Window(9, 9)), rtol=0, atol=tolerances.BFLOAT)


def test_memory_follows_the_window_and_not_the_square():
    mask = band_mask(100_000, 64, 64, CPU)
    assert mask.numel() < 100_000 * 3 * 128
