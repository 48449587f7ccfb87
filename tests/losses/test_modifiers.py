"""Losses around losses: what they share with the inner loss, and what they leave behind."""

import pytest
import torch
from tests.support import needs_packing
from tests.tolerances import GRADIENT

from fourfold.losses import (
    AdaptiveLayerLoss,
    GlobalOrthogonalRegularizationLoss,
    Matryoshka2dLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from fourfold.losses.matryoshka_loss import shrink
from fourfold.testing import tiny

COLUMNS = [["the query", "a text", "x"], ["the long text of the world " * 5, "a b", "short"]]


@pytest.fixture
def model():
    return tiny().eval()


def features(model):
    return [model.batch_features(column) for column in COLUMNS]


def test_widths_of_a_loss_of_several_parts(model):
    parts = MatryoshkaLoss(model, GlobalOrthogonalRegularizationLoss(model), [32, 8], [1, 0.5])(features(model), None)
    vectors = [model(column)["sentence_embedding"] for column in features(model)]
    inner = GlobalOrthogonalRegularizationLoss(model)
    found = [inner.compute_loss_from_embeddings([shrink(column, dim) for column in vectors]) for dim in (32, 8)]
    assert parts.keys() == {"gor_mean", "gor_second_moment"}
    for name, part in parts.items():
        assert part.item() == pytest.approx((found[0][name] + 0.5 * found[1][name]).item(), rel=GRADIENT, abs=1e-8)


@pytest.mark.parametrize("kind", ["widths", "layers", "both"])
def test_a_model_is_left_as_it_was_even_after_an_error(model, kind):
    class Failing(torch.nn.Module):
        def forward(self, columns, labels):
            model(dict(columns[0]))
            raise KeyError("on purpose")

    inner = Failing()
    loss = {
        "widths": lambda: MatryoshkaLoss(model, inner, [32, 8]),
        "layers": lambda: AdaptiveLayerLoss(model, inner),
        "both": lambda: Matryoshka2dLoss(model, inner, [32, 8]),
    }[kind]()
    wanted = model.encode(COLUMNS[0])
    with pytest.raises(KeyError):
        loss(features(model), None)
    assert "forward" not in vars(model)
    assert "forward" not in vars(model[0])
    assert not model[0].config.output_hidden_states
    assert (model.encode(COLUMNS[0]) == wanted).all()


@needs_packing
def test_each_text_runs_once_whatever_the_widths(model, monkeypatch):
    calls, real = [], model[0].forward
    monkeypatch.setattr(model[0], "forward", lambda *args, **kwargs: calls.append(1) or real(*args, **kwargs))
    MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [32, 16, 8, 4])(features(model), None)
    assert len(calls) == 1


def test_layers_are_drawn(model, monkeypatch):
    drawn = []
    monkeypatch.setattr("random.sample", lambda population, count: drawn.append((list(population), count)) or [1])
    AdaptiveLayerLoss(model, MultipleNegativesRankingLoss(model))(features(model), None)
    layers = model[0].config.num_hidden_layers
    assert drawn == [(list(range(layers)), 1)]
