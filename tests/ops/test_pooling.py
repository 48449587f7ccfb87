import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests import tolerances

from fourfold.ops import pooling
from fourfold.ops.pooling import Segments

FUNCTIONS = {
    "cls": pooling.cls,
    "last": pooling.last,
    "max": pooling.maximum,
    "mean": pooling.mean,
    "mean_sqrt": pooling.mean_sqrt,
    "weighted": pooling.weighted_mean,
}


def naive(mode, tokens, mask, skip=0):
    """The formulas of the contract, one row and one number at a time."""
    rows = []
    for row, real in zip(tokens.tolist(), mask.tolist(), strict=True):
        start = real.index(1) if 1 in real else 0
        taking = [bool(m) and i >= start + skip for i, m in enumerate(real)] if skip else [bool(m) for m in real]
        places = [i for i, t in enumerate(taking) if t]
        width = range(len(row[0]))
        if mode == "cls":
            rows.append(row[places[0]] if places else row[0])
        elif mode == "last":
            rows.append(row[places[-1]] if places else [0.0 for _ in width])
        elif mode == "max":
            rows.append([max((row[i][d] for i in places), default=-math.inf) for d in width])
        else:
            weights = [i + 1 - start if mode == "weighted" else 1 for i in places]
            divisor = max(sum(weights), 1e-9)
            divisor = math.sqrt(divisor) if mode == "mean_sqrt" else divisor
            rows.append([sum(row[i][d] * w for i, w in zip(places, weights, strict=True)) / divisor for d in width])
    return torch.tensor(rows)


def padded(mode, tokens, mask, skip=0):
    return FUNCTIONS[mode](tokens.reshape(-1, tokens.shape[-1]), Segments.from_mask(mask, skip))


def masks(side):
    lengths, longest = [5, 1, 3, 4], 5
    rows = [[1] * n + [0] * (longest - n) for n in lengths]
    return torch.tensor([row[::-1] for row in rows] if side == "left" else rows)


def random_tokens(mask, width=6, seed=0):
    return torch.randn(*mask.shape, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("skip", [0, 1, 2, 4, 9])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", FUNCTIONS)
def test_formulas(mode, side, skip):
    mask = masks(side)
    tokens = random_tokens(mask)
    torch.testing.assert_close(
        padded(mode, tokens, mask, skip), naive(mode, tokens, mask, skip), rtol=0, atol=tolerances.FORMULA
    )


@pytest.mark.parametrize("mode", FUNCTIONS)
@given(data=st.data())
def test_masks_with_holes(mode, data):
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 6)))
    bits = st.lists(st.integers(0, 1), min_size=shape[1], max_size=shape[1])
    mask = torch.tensor(data.draw(st.lists(bits, min_size=shape[0], max_size=shape[0])))
    skip = data.draw(st.integers(0, 3))
    tokens = random_tokens(mask, 3)
    want = naive(mode, tokens, mask, skip)
    torch.testing.assert_close(padded(mode, tokens, mask, skip), want, rtol=0, atol=tolerances.FORMULA)


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_masks_of_any_type(kind):
    mask = masks("right")
    tokens = random_tokens(mask)
    assert torch.equal(padded("mean", tokens, mask.to(kind)), padded("mean", tokens, mask))


@pytest.mark.parametrize("skip", [0, 1, 2, 4])
@pytest.mark.parametrize("mode", FUNCTIONS)
def test_packed_is_padded(mode, skip):
    mask = masks("right")
    tokens = random_tokens(mask)
    flat, offsets = tokens[mask == 1], torch.tensor([0, 5, 6, 9, 13])
    got = FUNCTIONS[mode](flat, Segments.from_offsets(offsets, skip))
    want = padded(mode, tokens, mask, skip)
    torch.testing.assert_close(got, want, rtol=0, atol=tolerances.FORMULA)


@pytest.mark.parametrize(
    ("mode", "want"),
    [("max", -math.inf), ("mean", 0.0), ("mean_sqrt", 0.0), ("weighted", 0.0), ("last", 0.0)],
)
def test_a_row_without_tokens(mode, want):
    mask = torch.tensor([[1, 1], [0, 0]])
    got = padded(mode, torch.ones(2, 2, 3), mask)
    assert got[1].tolist() == [want] * 3
    packed = FUNCTIONS[mode](torch.ones(2, 3), Segments.from_offsets(torch.tensor([0, 2, 2])))
    assert packed[1].tolist() == [want] * 3


def test_cls_of_a_row_without_tokens_is_its_first_place():
    tokens = torch.arange(8.0).reshape(2, 2, 2)
    assert padded("cls", tokens, torch.tensor([[1, 1], [0, 0]]))[1].tolist() == [4.0, 5.0]


@pytest.mark.parametrize("mode", ["mean", "mean_sqrt", "weighted"])
def test_a_divisor_replaces_the_count(mode):
    mask = masks("right")
    tokens = random_tokens(mask)
    segments = Segments.from_mask(mask)
    flat = tokens.reshape(-1, 6)
    divisor = torch.tensor([2.0, 0.5, 4.0, 0.0])
    got = FUNCTIONS[mode](flat, segments, divisor)
    weights = torch.arange(1, 6.0)[None, :, None] if mode == "weighted" else 1.0
    total = (tokens * mask[..., None] * weights).sum(1)
    scale = divisor.clamp(min=1e-9)
    scale = scale.sqrt() if mode == "mean_sqrt" else scale
    torch.testing.assert_close(got, total / scale[:, None], rtol=1e-5, atol=tolerances.FORMULA)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", FUNCTIONS)
def test_half_precision_sums_in_float32_and_keeps_its_type(mode, dtype):
    mask = torch.ones(1, 4096, dtype=torch.int64)
    tokens = torch.full((1, 4096, 2), 1.001).to(dtype)
    got = padded(mode, tokens, mask)
    assert got.dtype == dtype
    # 4096 ones cannot be added up one by one in eight or eleven bits.
    want = tokens[0, 0].float() * (64 if mode == "mean_sqrt" else 1)
    torch.testing.assert_close(got[0].float(), want, rtol=tolerances.BFLOAT, atol=0)


@pytest.mark.parametrize("mode", ["mean", "max", "weighted", "cls", "last"])
def test_values_that_are_not_numbers_stay_in_their_row(mode):
    mask = masks("right")
    tokens = random_tokens(mask)
    tokens[0] = torch.nan
    got = padded(mode, tokens, mask)
    assert got[0].isnan().all()
    assert not got[1:].isnan().any()


def test_gradients_reach_exactly_the_tokens_that_take_part():
    mask = masks("right")
    tokens = random_tokens(mask).requires_grad_()
    padded("mean", tokens, mask, 1).sum().backward()
    taking = (tokens.grad.abs().sum(-1) > 0).int()
    want = mask.clone()
    want[:, 0] = 0
    assert torch.equal(taking, want.int())


def test_segments_tell_position_from_the_first_real_token():
    segments = Segments.from_mask(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]), skip=1)
    assert segments.position.tolist() == [2, 2, 3]
    assert segments.row.tolist() == [0, 1, 1]
    assert segments.count.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["cls", "last", "mean", "mean_sqrt", "weighted_mean"])
@pytest.mark.parametrize("offsets", [[0, 2, 2], [0, 0, 2], [0, 0, 0]])
@pytest.mark.parametrize("skip", [0, 1, 3])
def test_a_packed_row_without_tokens_is_zero_and_takes_nothing_from_its_neighbours(name, offsets, skip):
    hidden = torch.arange(1.0, 1 + 3 * offsets[-1]).reshape(-1, 3)
    pool = getattr(pooling, name)
    got = pool(hidden, Segments.from_offsets(torch.tensor(offsets), skip))
    for row, (start, end) in enumerate(itertools.pairwise(offsets)):
        if start == end:
            assert not got[row].any()
        else:
            alone = pool(hidden[start:end], Segments.from_offsets(torch.tensor([0, end - start]), skip))
            assert torch.equal(got[row], alone[0])
