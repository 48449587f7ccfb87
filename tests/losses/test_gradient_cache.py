"""GradCache: the gradients of a batch that never was in the memory at once."""

import pytest
import torch
from tests.tolerances import GRADIENT

from fourfold.errors import InputError
from fourfold.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MegaBatchMarginLoss,
    MultipleNegativesRankingLoss,
)
from fourfold.losses._columns import column_merging_disabled
from fourfold.losses._gradient_cache import RandContext, has_static_embedding_input, uses_gradient_cache
from fourfold.testing import tiny

COLUMNS = [
    ["the query", "a text", "x", "the world"],
    ["the long text of the world " * 5, "a b", "short", "y"],
    ["n", "the negative text", "of the", "a a a"],
]


def features(model):
    return [model.batch_features(column) for column in COLUMNS]


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def near(ours, theirs):
    scale = max(float(grad.abs().max()) for grad in theirs.values())
    assert ours.keys() == theirs.keys()
    return all(float((ours[name] - theirs[name]).abs().max()) <= GRADIENT * scale for name in theirs)


def trained(loss, columns, factor=1.0):
    loss.zero_grad(set_to_none=True)
    value = loss(columns, None)
    (value * factor).backward()
    return value.item(), gradients(loss.model)


def test_dropout_is_the_same_in_both_passes():
    """With mini-batches of whole columns the cache draws what the plain loss draws."""
    model = tiny().train()
    assert any(module.p > 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))
    torch.manual_seed(7)
    with column_merging_disabled():
        wanted = trained(MultipleNegativesRankingLoss(model), features(model))
    torch.manual_seed(7)
    got = trained(CachedMultipleNegativesRankingLoss(model, mini_batch_size=4), features(model))
    assert got[0] == pytest.approx(wanted[0], rel=GRADIENT)
    assert near(got[1], wanted[1])
    torch.manual_seed(8)
    other = trained(CachedMultipleNegativesRankingLoss(model, mini_batch_size=4), features(model))
    assert not near(other[1], wanted[1])


def test_the_losss_factor_reaches_the_gradients():
    model = tiny().eval()
    plain, cached = MultipleNegativesRankingLoss(model), CachedMultipleNegativesRankingLoss(model, mini_batch_size=3)
    assert near(trained(cached, features(model), 0.25)[1], trained(plain, features(model), 0.25)[1])


def test_two_forwards_before_one_backward():
    model = tiny().eval()
    loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=3)
    once = trained(loss, features(model))[1]
    loss.zero_grad(set_to_none=True)
    first, second = loss(features(model)), loss(features(model))
    (first + second).backward()
    assert near(gradients(model), {name: 2 * grad for name, grad in once.items()})


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_any_size_gives_the_same(size):
    model = tiny().eval()
    wanted = trained(MultipleNegativesRankingLoss(model), features(model))
    got = trained(CachedMultipleNegativesRankingLoss(model, mini_batch_size=size), features(model))
    assert got[0] == pytest.approx(wanted[0], rel=GRADIENT)
    assert near(got[1], wanted[1])


def test_autocast_gives_gradients():
    model = tiny().eval()
    loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(features(model))
    value.backward()
    assert all(torch.isfinite(grad).all() for grad in gradients(model).values())


def test_without_gradients_nothing_is_run_twice(monkeypatch):
    model, calls = tiny().eval(), []
    real = model.forward
    monkeypatch.setattr(model, "forward", lambda *args, **kwargs: calls.append(1) or real(*args, **kwargs))
    with torch.no_grad():
        value = CachedMultipleNegativesRankingLoss(model, mini_batch_size=2)(features(model))
    assert len(calls) == 6
    assert not value.requires_grad


def test_an_unused_column_is_named():
    model = tiny().eval()

    class First(CachedMultipleNegativesRankingLoss):
        def calculate_loss(self, reps, labels=None, *, with_backward=False):
            return super().calculate_loss(reps[:2], labels, with_backward=with_backward)

    with pytest.raises(InputError, match=r"columns \[2\]"):
        First(model)(features(model))


@pytest.mark.parametrize("tokens", [0, -3])
def test_a_budget_of_no_tokens(tokens):
    with pytest.raises(InputError, match="mini_batch_num_tokens"):
        CachedMultipleNegativesRankingLoss(tiny(), mini_batch_num_tokens=tokens)


def test_static_embeddings_are_refused():
    model = tiny("dense", "static")
    assert has_static_embedding_input(model)
    for make in (CachedMultipleNegativesRankingLoss, MegaBatchMarginLoss):
        with pytest.raises(InputError, match="StaticEmbedding"):
            make(model)
    MegaBatchMarginLoss(model, use_mini_batched_version=False)


def test_which_losses_use_it():
    model = tiny()
    assert uses_gradient_cache(CachedMultipleNegativesRankingLoss(model))
    assert not uses_gradient_cache(MultipleNegativesRankingLoss(model))
    assert not uses_gradient_cache(MegaBatchMarginLoss(model, use_mini_batched_version=False))


def test_settings_are_those_of_the_inner_loss():
    loss = CachedMultipleNegativesRankingLoss(tiny(), scale=5.0)
    loss.scale = 9.0
    assert loss.loss.scale == loss.scale == 9.0
    assert loss.temperature == pytest.approx(1 / 9)


def test_random_numbers_are_repeated_and_given_back():
    torch.manual_seed(0)
    context = RandContext(torch.zeros(1))
    first = torch.rand(3)
    after = torch.rand(3)
    torch.manual_seed(0)
    torch.rand(3)
    with context:
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.rand(3), after)


def test_a_step_of_widths_draws_some(monkeypatch):
    model = tiny().eval()
    drawn = []
    monkeypatch.setattr("random.sample", lambda population, count: drawn.append((list(population), count)) or [2, 0])
    loss = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [4, 8, 16, 32], n_dims_per_step=2)
    value = loss(features(model), None).item()
    assert drawn == [([0, 1, 2, 3], 2)]
    monkeypatch.undo()
    inner = MultipleNegativesRankingLoss(model)
    parts = [MatryoshkaLoss(model, inner, [dim])(features(model), None) for dim in (8, 32)]
    assert value == pytest.approx(sum(part.item() for part in parts), rel=GRADIENT)
