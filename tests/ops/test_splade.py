import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests import tolerances
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fourfold.ops import splade
from fourfold.ops.pooling import Segments
from fourfold.ops.splade import VocabularyLogits

TOKENS, WIDTH, WORDS = 17, 6, 700
LENGTHS = (4, 4, 0, 1, 5, 3)

# The formulas of the contract for a number, and ours.
SCALAR = {
    "relu": lambda x: math.log1p(max(x, 0)),
    "log1p_relu": lambda x: math.log1p(math.log1p(max(x, 0))),
    "identity": lambda x: x,
}
ACTIVATE = {
    "relu": lambda x: torch.log1p(torch.relu(x)),
    "log1p_relu": lambda x: torch.log1p(torch.log1p(torch.relu(x))),
    "identity": lambda x: x,
}
every = pytest.mark.parametrize(
    ("strategy", "activation"), [(s, a) for s in splade.STRATEGIES for a in splade.ACTIVATIONS]
)


@pytest.fixture(autouse=True)
def several_tiles(monkeypatch):
    """Tiles so small that the vocabulary takes three, the last one narrower."""
    monkeypatch.setitem(splade._TILE, "cpu", 256 * TOKENS)


def numbers(*shape, seed=0, scale=1.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def offsets(lengths=LENGTHS):
    return torch.tensor([0, *lengths]).cumsum(0)


def parts(bias=True, seed=0, words=WORDS):
    states = numbers(TOKENS, WIDTH, seed=seed)
    weight = numbers(words, WIDTH, seed=seed + 1)
    return states, weight, numbers(words, seed=seed + 2) if bias else None


def plain(logits, segments, strategy, activation, *, late=False):
    """The activation of every logit first, then one row after another; whatever autograd makes of that.

    In half precision logits that differ may have one activation: which of them is the largest is told ``late``.
    """
    last = ACTIVATE[activation] if late and strategy == "max" else (lambda pooled: pooled)
    values = segments.select(logits) if late and strategy == "max" else ACTIVATE[activation](segments.select(logits))
    rows = []
    for start, count in zip(segments.starts.tolist(), segments.count.tolist(), strict=True):
        own = values[start : start + count]
        if not count:
            rows.append(values.new_zeros(values.shape[1]))
        elif strategy == "max":
            rows.append(last(own.max(dim=0).values))
        else:
            rows.append(own.sum(dim=0) / (count if strategy == "mean" else 1))
    return torch.stack(rows)


def fused(states, weight, bias, segments, strategy, activation):
    return splade.pool_states(
        VocabularyLogits(states, weight, bias), segments, strategy=strategy, activation=activation
    )


# -- the formulas ------------------------------------------------------------------------------------------------------


@every
@given(data=st.data())
def test_formulas_one_number_at_a_time(strategy, activation, data):
    lengths = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    logits = numbers(sum(lengths), 3, seed=data.draw(st.integers(0, 99)), scale=3)
    got = splade.pool(
        logits, Segments.from_offsets(offsets(lengths)), strategy=strategy, activation=activation,
        chunk_size=data.draw(st.sampled_from([None, 0, 1, 2, 100])),
    )  # fmt: skip
    assert got.shape == (len(lengths), 3)
    for row, count, own in zip(got.tolist(), lengths, logits.split(lengths), strict=True):
        for word, value in enumerate(row):
            each = [SCALAR[activation](x) for x in own[:, word].tolist()]
            if not each:
                wanted = 0.0
            else:
                wanted = max(each) if strategy == "max" else sum(each) / (count if strategy == "mean" else 1)
            assert value == pytest.approx(wanted, abs=tolerances.FORMULA_LARGE)


@every
@pytest.mark.parametrize("bias", [True, False])
def test_fused_is_unfused(strategy, activation, bias):
    states, weight, bias = parts(bias)
    segments = Segments.from_offsets(offsets())
    logits = functional.linear(states, weight, bias)
    want = splade.pool(logits, segments, strategy=strategy, activation=activation)
    got = fused(states, weight, bias, segments, strategy, activation)
    torch.testing.assert_close(got, want, rtol=0, atol=tolerances.FORMULA_LARGE)
    torch.testing.assert_close(got, plain(logits, segments, strategy, activation), rtol=0, atol=1e-5)


@every
@pytest.mark.parametrize("side", ["right", "left", "holes"])
@pytest.mark.parametrize("grad", [True, False])
def test_padded_is_packed(strategy, activation, side, grad):
    longest = 9
    mask = torch.zeros(len(LENGTHS), longest, dtype=torch.int64)
    for row, length in enumerate(LENGTHS):
        place = {"right": range(length), "left": range(longest - length, longest), "holes": range(0, 2 * length, 2)}
        mask[row, [p % longest for p in place[side]]] = 1
    states, weight, bias = parts()
    spread = torch.full((len(LENGTHS), longest, WIDTH), 1e3)
    spread[mask == 1] = states
    spread = spread.reshape(-1, WIDTH).requires_grad_(grad)
    packed, flat = Segments.from_offsets(offsets()), Segments.from_mask(mask)
    want = fused(states, weight, bias, packed, strategy, activation)
    for got in (
        fused(spread, weight, bias, flat, strategy, activation),
        splade.pool(functional.linear(spread, weight, bias), flat, strategy=strategy, activation=activation),
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=tolerances.FORMULA_LARGE)
        if grad:
            spread.grad = None
            got.sum().backward()
            assert not spread.grad[mask.flatten() == 0].any()


@every
def test_filling_takes_no_part(strategy, activation):
    states, weight, bias = parts()
    segments = Segments.from_offsets(offsets())
    filled = torch.cat([states, torch.full((5, WIDTH), 1e3)])
    for training in (False, True):
        want, got = (
            fused(some.clone().requires_grad_(training), weight, bias, segments, strategy, activation)
            for some in (states, filled)
        )
        torch.testing.assert_close(got, want, rtol=0, atol=tolerances.FORMULA)


@every
@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)], ids=str)
@pytest.mark.parametrize("grad", [True, False])
def test_no_tokens_are_zeros(strategy, activation, lengths, grad):
    _, weight, bias = parts()
    states = torch.zeros(0, WIDTH, requires_grad=grad)
    segments = Segments.from_offsets(offsets(lengths))
    got = fused(states, weight, bias, segments, strategy, activation)
    assert torch.equal(got, torch.zeros(len(lengths), WORDS))
    assert torch.equal(splade.pool(torch.zeros(0, WORDS), segments, strategy=strategy, activation=activation), got)
    if grad:
        got.sum().backward()
        assert states.grad.shape == states.shape


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(strategy, activation, dtype):
    states, weight, bias = (part.to(dtype) for part in parts())
    segments = Segments.from_offsets(offsets())
    want = plain(functional.linear(states.float(), weight.float(), bias.float()), segments, strategy, activation)
    for got in (
        fused(states, weight, bias, segments, strategy, activation),
        splade.pool(functional.linear(states, weight, bias), segments, strategy=strategy, activation=activation),
    ):
        assert got.dtype == dtype
        limit = (tolerances.HALF if dtype == torch.float16 else tolerances.BFLOAT) * float(want.abs().max())
        torch.testing.assert_close(got.float(), want, rtol=0, atol=limit)


def test_activations_rise_and_are_zero_at_zero():
    values = torch.linspace(-3, 3, 601)
    for activation in splade.ACTIVATIONS.values():
        assert (activation.of(values).diff() >= 0).all()
        assert activation.of(torch.zeros(1)) == 0


@pytest.mark.parametrize("name", splade.ACTIVATIONS)
def test_the_slope_is_the_derivative(name):
    values = numbers(50).double().requires_grad_()
    ACTIVATE[name](values).sum().backward()
    torch.testing.assert_close(splade.ACTIVATIONS[name].slope(values.detach()).double(), values.grad)


def test_whole_logits_of_states_of_any_shape():
    states, weight, bias = parts()
    logits = VocabularyLogits(states.view(1, TOKENS, WIDTH), weight, bias).whole()
    assert torch.equal(logits, functional.linear(states, weight, bias)[None])


# -- gradients ---------------------------------------------------------------------------------------------------------


def gradients(pooled, leaves, seed=9):
    pooled.backward(numbers(*pooled.shape, seed=seed).to(pooled.dtype))
    return [leaf.grad for leaf in leaves]


@every
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_those_of_the_whole_logits(strategy, activation, bias, tied):
    """``tied``: the states come from the weight itself, as where a model's embeddings are its vocabulary's too."""
    found = []
    for whole in (True, False):
        states, weight, shift = parts(bias)
        leaves = [part.requires_grad_() for part in (weight, *([shift] if bias else []), *([] if tied else [states]))]
        ids = torch.arange(TOKENS) * 3
        used = torch.tanh(weight[ids]) * states if tied else states
        segments = Segments.from_offsets(offsets())
        if whole:
            pooled = plain(functional.linear(used, weight, shift), segments, strategy, activation)
        else:
            pooled = fused(used, weight, shift, segments, strategy, activation)
        found.append(gradients(pooled, leaves))
    for want, got in zip(*found, strict=True):
        assert want.abs().sum() > 0
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@every
@pytest.mark.parametrize("frozen", ["states", "weight", "bias", "all but bias"])
def test_what_is_frozen_gets_no_gradient(strategy, activation, frozen):
    leaves = dict(zip(("states", "weight", "bias"), parts(), strict=True))
    for name, leaf in leaves.items():
        leaf.requires_grad_(name == "bias" if frozen == "all but bias" else name != frozen)
    pooled = fused(*leaves.values(), Segments.from_offsets(offsets()), strategy, activation)
    pooled.sum().backward()
    for leaf in leaves.values():
        assert (leaf.grad is not None) == leaf.requires_grad


@every
def test_gradients_in_double_precision_are_numerically_right(strategy, activation):
    states, weight, bias = (part.double().requires_grad_() for part in parts(words=5))
    segments = Segments.from_offsets(offsets())

    def function(*leaves):
        return fused(*leaves, segments, strategy, activation)

    assert torch.autograd.gradcheck(function, (states, weight, bias))


@every
def test_gradients_under_autocast(strategy, activation):
    found = []
    for whole in (True, False):
        leaves = [part.requires_grad_() for part in parts()]
        segments = Segments.from_offsets(offsets())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if whole:
                pooled = plain(functional.linear(*leaves), segments, strategy, activation, late=True)
            else:
                pooled = fused(*leaves, segments, strategy, activation)
        found.append([pooled.detach().float(), *gradients(pooled, leaves)])
    for want, got in zip(*found, strict=True):
        assert got.dtype == want.dtype == torch.float32
        limit = tolerances.BFLOAT * float(want.abs().max())
        torch.testing.assert_close(got, want, rtol=0, atol=limit)


@every
def test_gradients_with_checkpointing(strategy, activation):
    found = []
    for through in (False, True):
        leaves = [part.requires_grad_() for part in parts()]
        arguments = (*leaves, Segments.from_offsets(offsets()), strategy, activation)
        pooled = checkpoint(fused, *arguments, use_reentrant=False) if through else fused(*arguments)
        found.append(gradients(pooled, leaves))
    for want, got in zip(*found, strict=True):
        assert torch.equal(got, want)


def test_gradients_have_no_gradients_of_their_own():
    states, weight, bias = (part.requires_grad_() for part in parts())
    pooled = fused(states, weight, bias, Segments.from_offsets(offsets()), "max", "relu")
    (first,) = torch.autograd.grad((pooled**2).sum(), states, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


# -- memory ------------------------------------------------------------------------------------------------------------


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The most numbers of any tensor that an operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, torch.Tensor):
                self.numbers = max(self.numbers, value.numel())
        return out


@every
@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_larger_than_a_tile_the_weight_or_the_result(strategy, activation, training):
    lengths = [20] * 6
    states, weight = numbers(120, WIDTH), numbers(4000, WIDTH, seed=1)
    tile = 256 * len(states)
    allowed = max(tile, weight.numel(), len(lengths) * len(weight))
    assert allowed < len(states) * len(weight) / 4
    leaves = [part.requires_grad_(training) for part in (states, weight)]
    with Largest() as seen:
        pooled = fused(*leaves, None, Segments.from_offsets(offsets(lengths)), strategy, activation)
        if training:
            pooled.sum().backward()
    assert 0 < seen.numbers <= allowed
