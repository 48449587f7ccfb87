import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fourfold.ops import splade
from fourfold.ops.pooling import Segments
from fourfold.ops.splade import ACTIVATIONS, STRATEGIES, VocabularyLogits, pool, pool_states

WIDTH, WORDS = 6, 700
lengths = st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any)


def plain(logits, counts, strategy, activation):
    """The formula as the papers give it: every logit is activated, then each text's are pooled."""
    functions = {
        "relu": lambda x: torch.log1p(torch.relu(x)),
        "log1p_relu": lambda x: torch.log1p(torch.log1p(torch.relu(x))),
        "identity": lambda x: x,
    }
    pools = {"max": lambda x: x.max(dim=0).values, "sum": lambda x: x.sum(dim=0), "mean": lambda x: x.mean(dim=0)}
    rows = functions[activation](logits).split(counts)
    return torch.stack([pools[strategy](row) if len(row) else logits.new_zeros(logits.shape[1]) for row in rows])


def drawn(counts, seed=0, dtype=torch.float64, bias=True):
    generator = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)  # noqa: E731
    return make(sum(counts), WIDTH), make(WORDS, WIDTH), make(WORDS) if bias else None


def offsets(counts):
    return Segments.from_offsets(torch.tensor(np.concatenate([[0], np.cumsum(counts)])))


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(splade, "_TILE", {"cpu": 1})  # so that there are three


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(counts=lengths)
@settings(max_examples=20)
def test_states_and_logits_pool_as_the_formula_says(strategy, activation, counts):
    states, weight, bias = drawn(counts)
    logits = VocabularyLogits(states, weight, bias)
    want = plain(logits.whole(), counts, strategy, activation)
    how = {"strategy": strategy, "activation": activation}
    torch.testing.assert_close(pool_states(logits, offsets(counts), **how), want)
    torch.testing.assert_close(pool(logits.whole(), offsets(counts), **how), want)
    torch.testing.assert_close(pool(logits.whole(), offsets(counts), **how, chunk_size=2), want)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_gradients_are_those_of_the_formula(strategy, activation, bias):
    counts = [3, 3, 0, 1, 5]
    tensors = [t for t in drawn(counts, bias=bias) if t is not None]
    upstream = torch.randn(len(counts), WORDS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grads = []
    for fused in (True, False):
        own = [tensor.clone().requires_grad_() for tensor in tensors]
        logits = VocabularyLogits(own[0], own[1], own[2] if bias else None)
        if fused:
            pooled = pool_states(logits, offsets(counts), strategy=strategy, activation=activation)
        else:
            pooled = plain(logits.whole(), counts, strategy, activation)
        (pooled * upstream).sum().backward()
        grads.append([tensor.grad for tensor in own])
    for ours, want in zip(*grads, strict=True):
        torch.testing.assert_close(ours, want)


def test_only_what_needs_a_gradient_gets_one():
    states, weight, bias = drawn([2, 1])
    weight.requires_grad_()
    pool_states(
        VocabularyLogits(states, weight, bias), offsets([2, 1]), strategy="max", activation="relu"
    ).sum().backward()
    assert weight.grad is not None
    assert states.grad is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_autocast_gives_gradients_of_each_tensors_own_type(strategy):
    states, weight, bias = (tensor.float().requires_grad_() for tensor in drawn([3, 2]))
    with torch.autocast("cpu", torch.bfloat16):
        logits = VocabularyLogits(states, weight, bias)
        pooled = pool_states(logits, offsets([3, 2]), strategy=strategy, activation="relu")
    assert pooled.dtype == torch.bfloat16
    pooled.float().sum().backward()
    want = [t.detach().clone().requires_grad_() for t in (states, weight, bias)]
    plain(torch.nn.functional.linear(*want), [3, 2], strategy, "relu").sum().backward()
    for ours, exact in zip((states, weight, bias), want, strict=True):
        assert ours.grad.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(ours.grad.flatten(), exact.grad.flatten(), dim=0) > 0.995


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_half_precision(strategy, dtype):
    states, weight, bias = drawn([3, 3, 4])
    want = plain(torch.nn.functional.linear(states, weight, bias), [3, 3, 4], strategy, "relu")
    logits = VocabularyLogits(states.to(dtype), weight.to(dtype), bias.to(dtype))
    for got in (
        pool_states(logits, offsets([3, 3, 4]), strategy=strategy, activation="relu"),
        pool(logits.whole(), offsets([3, 3, 4]), strategy=strategy, activation="relu"),
    ):
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), want, atol=0.06, rtol=0.02)


def test_padding_takes_no_part():
    states, weight, bias = drawn([6])
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]])
    logits = VocabularyLogits(states, weight, bias)
    want = plain(logits.whole()[[0, 1, 4]], [2, 1], "max", "relu")
    segments = Segments.from_mask(mask)
    how = {"strategy": "max", "activation": "relu"}
    torch.testing.assert_close(pool_states(logits, segments, **how), want)
    torch.testing.assert_close(pool(logits.whole(), segments, **how), want)
    gaps = Segments.from_mask(torch.tensor([[1, 0, 1, 1, 0, 1]]))
    torch.testing.assert_close(
        pool(logits.whole(), gaps, **how), plain(logits.whole()[[0, 2, 3, 5]], [4], "max", "relu")
    )


def test_no_more_than_a_tile_of_logits_is_ever_made(monkeypatch):
    monkeypatch.setattr(splade, "_TILE", {"cpu": 300 * 256})
    sizes = []
    real = torch.nn.functional.linear
    monkeypatch.setattr(splade.functional, "linear", lambda *args: sizes.append(real(*args).numel()) or real(*args))
    counts = [100] * 3
    states, weight, bias = (tensor.float().requires_grad_() for tensor in drawn(counts))
    for strategy in STRATEGIES:
        pool_states(
            VocabularyLogits(states, weight, bias), offsets(counts), strategy=strategy, activation="relu"
        ).sum().backward()
    assert max(sizes) <= 300 * 256
    assert len(sizes) >= 3 * len(STRATEGIES)
