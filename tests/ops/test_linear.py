import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from tests import tolerances
from torch.nn import functional

from fourfold.ops import linear
from fourfold.ops.linear import fastest_linear

CPU = torch.device("cpu")


@pytest.fixture
def onednn(monkeypatch):
    """Take the other library whatever this machine prefers, and count its calls."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        pytest.skip("this torch has no oneDNN")
    calls = []
    plain = linear._onednn
    monkeypatch.setattr(linear, "onednn_wins", lambda: True)
    monkeypatch.setattr(linear, "_onednn", lambda *args: (calls.append(1), plain(*args))[1])
    return calls


def run(states, layer):
    with torch.inference_mode(), fastest_linear(CPU):
        return layer(states)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 16), (1, 16), (2, 3, 16), (1, 40, 16)])
def test_numbers_are_equal(onednn, bias, shape):
    layer, states = torch.nn.Linear(16, 24, bias=bias), torch.randn(shape)
    got = run(states, layer)
    assert len(onednn) == 1
    assert got.shape == (*shape[:-1], 24)
    with torch.no_grad():
        torch.testing.assert_close(got, layer(states), rtol=0, atol=tolerances.FORMULA)


def test_states_in_strides_are_fine(onednn):
    layer, states = torch.nn.Linear(16, 8), torch.randn(16, 6).T
    got = run(states, layer)
    with torch.no_grad():
        torch.testing.assert_close(got, layer(states), rtol=0, atol=tolerances.FORMULA)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_go_their_own_way(onednn, dtype):
    run(torch.randn(3, 16, dtype=dtype), torch.nn.Linear(16, 8, dtype=dtype))
    assert onednn == []


def test_gradients_are_never_lost(onednn):
    layer, states = torch.nn.Linear(16, 8), torch.randn(3, 16)
    with fastest_linear(CPU):
        layer(states).sum().backward()
    assert onednn == []
    assert layer.weight.grad is not None


def test_autocast_keeps_its_type(onednn):
    layer = torch.nn.Linear(16, 8)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), fastest_linear(CPU):
        assert layer(torch.randn(3, 16)).dtype == torch.bfloat16
    assert onednn == []


def test_it_ends_with_its_block(onednn):
    run(torch.randn(3, 16), torch.nn.Linear(16, 8))
    count = len(onednn)
    with torch.inference_mode():
        functional.linear(torch.randn(3, 16), torch.randn(8, 16))
    assert len(onednn) == count


def test_other_devices_are_left_alone(onednn):
    with torch.inference_mode():
        assert isinstance(fastest_linear(torch.device("cuda")), contextlib.nullcontext)


def test_the_trial_answers_once():
    linear.onednn_wins.cache_clear()
    assert linear.onednn_wins() in (True, False)
    assert linear.onednn_wins.cache_info().misses == 1


@given(some.integers(1, 1 << 20))
def test_sizes_are_few_and_hardly_larger(rows):
    steady = linear.steady_rows(rows)
    assert rows <= steady <= max(rows * 9 / 8, rows + 7)
    assert linear.steady_rows(steady) == steady


def test_an_octave_has_eight_sizes():
    assert len({linear.steady_rows(rows) for rows in range(1025, 2049)}) == 8
    assert len({linear.steady_rows(rows) for rows in range(2, 65)}) == 8


@pytest.mark.parametrize(
    ("tokens", "dtype", "wins", "plain"),
    [(128, torch.float32, True, True), (129, torch.float32, True, False), (129, torch.float32, False, True),
     (4, torch.bfloat16, True, False), (4, torch.float16, False, False), (4000, torch.float64, True, True),
     (4000, None, True, True)],
)  # fmt: skip
def test_a_batch_that_gains_nothing_runs_as_it_is(monkeypatch, tokens, dtype, wins, plain):
    monkeypatch.setattr(linear, "onednn_wins", lambda: wins)
    assert linear.runs_plain(tokens, dtype) is plain


@pytest.mark.parametrize("rows", [64, 65, 100, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_added_is_cut_off_again(onednn, rows, dtype):
    layer, states = torch.nn.Linear(16, 8, dtype=dtype), torch.randn(1, rows, 16).to(dtype)
    got = run(states, layer)
    assert got.shape == (1, rows, 8)
    with torch.no_grad():
        tolerance = tolerances.FORMULA if dtype == torch.float32 else tolerances.BFLOAT
        torch.testing.assert_close(got, layer(states), rtol=0, atol=tolerance)
