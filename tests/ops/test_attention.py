import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests import tolerances

from fourfold.ops.attention import CAUSAL, FULL, UNLIMITED, Packing, Window, grouped, varlen_fits, window_of

CPU = torch.device("cpu")
LENGTHS = [7, 7, 5, 3, 3, 3, 1]


def packing(lengths=LENGTHS):
    return Packing(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def states(heads=4, key_heads=4, size=8, tokens=29, seed=0):
    generator = torch.Generator().manual_seed(seed)
    make = lambda count: torch.randn(1, count, tokens, size, generator=generator)  # noqa: E731
    return make(heads), make(key_heads), make(key_heads)


def naive(query, key, value, lengths, allowed, scale=None):
    """Softmax over what is allowed, one text and one head at a time; ``[1, tokens, heads, size]``."""
    heads, size = query.shape[1], query.shape[-1]
    share = heads // key.shape[1]
    out, start = [], 0
    for length in filter(None, lengths):
        rows = slice(start, start + length)
        per_head = []
        for head in range(heads):
            q, k, v = query[0, head, rows], key[0, head // share, rows], value[0, head // share, rows]
            scores = q @ k.T * (size**-0.5 if scale is None else scale)
            mask = torch.tensor([[allowed(i, j) for j in range(length)] for i in range(length)])
            per_head.append(torch.softmax(scores.masked_fill(~mask, -math.inf), -1) @ v)
        out.append(torch.stack(per_head, 1))
        start += length
    return torch.cat(out)[None]


def inside(window):
    def allowed(i, j):
        return (window.left == UNLIMITED or i - j <= window.left) and (
            window.right == UNLIMITED or j - i <= window.right
        )

    return allowed


WINDOWS = {
    "full": FULL,
    "causal": CAUSAL,
    "both sides": Window(2, 2),
    "back only": Window(2, 0),
    "ahead only": Window(0, 3),
    "itself": Window(0, 0),
    "wider than any text": Window(50, 50),
    "causal by a wide window": Window(50, 0),
}


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("kind", WINDOWS)
def test_windows(kind, key_heads):
    q, k, v = states(key_heads=key_heads)
    window = WINDOWS[kind]
    got = grouped(q, k, v, packing(), window, None)
    torch.testing.assert_close(got, naive(q, k, v, LENGTHS, inside(window)), rtol=0, atol=tolerances.FORMULA)


def test_a_general_mask():
    q, k, v = states()
    mask = torch.rand(7, 7, generator=torch.Generator().manual_seed(1)) > 0.4
    mask |= torch.eye(7, dtype=torch.bool)
    want = naive(q, k, v, LENGTHS, lambda i, j: bool(mask[i, j]))
    torch.testing.assert_close(grouped(q, k, v, packing(), mask, None), want, rtol=0, atol=tolerances.FORMULA)


def test_the_scale_is_used():
    q, k, v = states()
    want = naive(q, k, v, LENGTHS, inside(FULL), scale=0.05)
    torch.testing.assert_close(grouped(q, k, v, packing(), FULL, 0.05), want, rtol=0, atol=tolerances.FORMULA)


def test_values_may_be_of_another_width():
    q, k, _ = states()
    v = torch.randn(1, 4, sum(LENGTHS), 3)
    want = naive(q, k, v, LENGTHS, inside(FULL))
    torch.testing.assert_close(grouped(q, k, v, packing(), FULL, None), want, rtol=0, atol=tolerances.FORMULA)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_texts_of_any_lengths_in_any_order(lengths):
    q, k, v = states(tokens=sum(lengths))
    got = grouped(q, k, v, packing(lengths), CAUSAL, None)
    assert got.shape == (1, sum(lengths), 4, 8)
    if sum(lengths):
        want = naive(q, k, v, lengths, inside(CAUSAL))
        torch.testing.assert_close(got, want, rtol=0, atol=tolerances.FORMULA)


def test_texts_do_not_see_each_other():
    q, k, v = states()
    before = grouped(q, k, v, packing(), FULL, None)
    changed = v.clone()
    changed[:, :, 7:14] += 100
    after = grouped(q, k, changed, packing(), FULL, None)
    assert torch.equal(before[:, :7], after[:, :7])
    assert torch.equal(before[:, 14:], after[:, 14:])
    assert not torch.allclose(before[:, 7:14], after[:, 7:14])


@pytest.mark.parametrize("kind", ["full", "causal", "both sides"])
def test_gradients_are_those_of_the_padded_batch(kind):
    window, longest = WINDOWS[kind], max(LENGTHS)
    flat = [s.requires_grad_() for s in states()]
    (grouped(*flat, packing(), window, None) ** 2).sum().backward()
    index = torch.cat([torch.arange(n) + longest * i for i, n in enumerate(LENGTHS)])
    twins = [s.detach().clone().requires_grad_() for s in flat]

    def spread(tensor):
        empty = torch.zeros(4, longest * len(LENGTHS), 8)
        return empty.index_copy(1, index, tensor[0]).reshape(4, len(LENGTHS), longest, 8).transpose(0, 1)

    real = torch.arange(longest)[None] < torch.tensor(LENGTHS)[:, None]
    mask = real[:, None, None, :] & window.mask(longest, CPU)
    mask = mask | torch.eye(longest, dtype=torch.bool)  # padding attends to itself, so that nothing is NaN
    out = torch.nn.functional.scaled_dot_product_attention(*map(spread, twins), attn_mask=mask)
    (out.transpose(1, 2)[real] ** 2).sum().backward()
    for ours, theirs in zip(flat, twins, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=tolerances.PACKED)


# -- windows -----------------------------------------------------------------------------------------------------------

sides = st.one_of(st.just(UNLIMITED), st.integers(0, 30))


@given(sides, sides, st.integers(1, 40))
def test_a_window_is_recognised_from_its_mask_function(left, right, length):
    window = Window(left, right)

    def allowed(q, k):
        good = torch.ones(torch.broadcast_shapes(q.shape, k.shape), dtype=torch.bool)
        good = good & (q - k <= left) if left != UNLIMITED else good
        return good & (k - q <= right) if right != UNLIMITED else good

    found = window_of(allowed, length, CPU)
    assert isinstance(found, Window)
    assert torch.equal(found.mask(length, CPU), window.mask(length, CPU))
    assert found == window.clipped(length)


@pytest.mark.parametrize(
    "allowed",
    [
        lambda q, k: (q // 4) == (k // 4),  # blocks
        lambda q, k: (k < 2) | ((q - k).abs() <= 1),  # a prefix that all see
        lambda q, k: (q - k) % 2 == 0,  # every second
        lambda q, k: (q < 0) & (k < 0),  # nothing
    ],
)
def test_what_is_no_window_comes_back_as_its_mask(allowed):
    found = window_of(allowed, 12, CPU)
    assert isinstance(found, torch.Tensor)
    index = torch.arange(12)
    assert torch.equal(found, allowed(index[:, None], index[None, :]).expand(12, 12))


def test_clipping_keeps_the_mask():
    for left in range(-1, 5):
        for right in range(-1, 5):
            for length in range(1, 6):
                window = Window(left, right)
                assert torch.equal(window.mask(length, CPU), window.clipped(length).mask(length, CPU))
    assert Window(4, 4).clipped(5).is_full
    assert Window(4, 0).clipped(5).is_causal
    assert not Window(3, 0).clipped(5).is_causal


# -- layout ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), max_size=12))
def test_runs_cover_all_tokens_in_runs_of_equal_length(lengths):
    layout, place = packing(lengths), 0
    for run in layout.runs:
        assert run.start == place
        assert run.length > 0
        place += run.rows * run.length
    assert place == sum(lengths)
    assert [run.length for run in layout.runs for _ in range(run.rows)] == [n for n in lengths if n]
    assert layout.longest == max(lengths, default=0)
    assert layout.positions.tolist() == [i for n in lengths for i in range(n)]


def test_sorted_texts_make_one_run_a_length():
    assert [run[:3] for run in packing(LENGTHS).runs] == [(0, 2, 7), (14, 1, 5), (19, 3, 3), (28, 1, 1)]


# -- what texts begin with, in a row of its own ------------------------------------------------------------------------

# Rows of 4, 7, 7, 2, 3, 1 and 5 tokens: the first stands before the next three, the fifth before the sixth.
AFTER = np.array([-1, 0, 0, 0, -1, 4, -1])
SHARED = Packing(np.array([0, 4, 11, 18, 20, 23, 24, 29]), after=AFTER, texts=np.array([1, 2, 3, 5, 6]))


def whole_texts(states):
    """Each text of SHARED with what it begins with, ``[1, heads, tokens, size]``, and their lengths."""
    parts, lengths = [], []
    for row in SHARED.texts:
        own = slice(*SHARED.offsets[row : row + 2])
        before = slice(*SHARED.offsets[AFTER[row] : AFTER[row] + 2]) if AFTER[row] >= 0 else slice(0, 0)
        parts += [states[:, :, before], states[:, :, own]]
        lengths.append(before.stop - before.start + own.stop - own.start)
    return torch.cat(parts, 2), lengths


@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("kind", ["causal", "back only", "itself", "causal by a wide window"])
def test_rows_attend_to_what_comes_before_them(kind, key_heads):
    q, k, v = states(key_heads=key_heads)
    (whole_q, lengths), (whole_k, _), (whole_v, _) = map(whole_texts, (q, k, v))
    want = naive(whole_q, whole_k, whole_v, lengths, inside(WINDOWS[kind]))[0]
    got = grouped(q, k, v, SHARED, WINDOWS[kind], None)[0]
    ends = np.cumsum(lengths)
    for row, end in zip(SHARED.texts, ends, strict=True):
        own = slice(*SHARED.offsets[row : row + 2])
        count = own.stop - own.start
        torch.testing.assert_close(got[own], want[end - count : end], rtol=0, atol=tolerances.FORMULA)


def test_a_general_mask_is_that_of_the_whole_text():
    q, k, v = states()
    mask = (torch.rand(11, 11, generator=torch.Generator().manual_seed(1)) > 0.4) | torch.eye(11, dtype=torch.bool)
    (whole_q, lengths), (whole_k, _), (whole_v, _) = map(whole_texts, (q, k, v))
    want = naive(whole_q, whole_k, whole_v, lengths, lambda i, j: bool(mask[i, j]))[0]
    got = grouped(q, k, v, SHARED, mask, None)[0]
    torch.testing.assert_close(got[4:11], want[4:11], rtol=0, atol=tolerances.FORMULA)
    torch.testing.assert_close(got[11:18], want[15:22], rtol=0, atol=tolerances.FORMULA)


def test_positions_and_lengths_count_what_comes_before():
    assert SHARED.positions.tolist() == [
        *range(4), *range(4, 11), *range(4, 11), 4, 5, 0, 1, 2, 3, *range(5)
    ]  # fmt: skip
    assert SHARED.longest == 11
    assert SHARED.whole == slice(0, 11)
    index, offsets = SHARED.keys_on(CPU)
    assert offsets.tolist() == [0, 4, 15, 26, 32, 35, 39, 44]
    assert index[4:15].tolist() == list(range(11))
    assert index[26:32].tolist() == [0, 1, 2, 3, 18, 19]


def test_masks_and_offsets_are_made_once():
    layout = packing()
    assert layout.mask(Window(1, 1), 3, CPU) is layout.mask(Window(1, 1), 3, CPU)
    assert layout.offsets_on(CPU) is layout.offsets_on(CPU)
    assert layout.offsets_on(CPU).dtype == torch.int32


def test_the_variable_length_kernel_is_not_for_the_cpu():
    assert not varlen_fits(states()[0].half(), FULL, 0.0)
