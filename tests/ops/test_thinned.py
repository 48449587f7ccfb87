import pytest
import torch
from tests.tolerances import FORMULA
from torch.nn import functional

from fourfold.ops.thinned import CheapDropout, attention, dropout, kept


def states(rows=2, heads=3, length=5, size=4):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, heads, length, size, generator=generator, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_nothing_dropped_is_plain_attention(causal, masked, scale):
    if causal and masked:
        return
    mask = torch.ones(5, 5, dtype=torch.bool).triu(-1) if masked else None
    found, wanted = states(), states()
    one = attention(*found, mask, causal=causal, scale=scale, dropout=0.0)
    other = functional.scaled_dot_product_attention(*wanted, attn_mask=mask, is_causal=causal, scale=scale)
    torch.testing.assert_close(one, other, atol=FORMULA, rtol=FORMULA)
    one.square().sum().backward()
    other.square().sum().backward()
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.99])
def test_the_expected_output_stays(dropout):
    query, key, value = (part.detach() for part in states(length=6))
    value = value.abs()
    torch.manual_seed(1)
    many = torch.stack([
        attention(query, key, value, None, causal=False, scale=None, dropout=dropout) for _ in range(4000)
    ])  # fmt: skip
    wanted = functional.scaled_dot_product_attention(query, key, value)
    spread = many.std(dim=0) / len(many) ** 0.5
    assert ((many.mean(dim=0) - wanted).abs() < 5 * spread + 1e-3).all()


def test_the_share_that_is_kept():
    torch.manual_seed(0)
    for wanted in (0.0, 0.1, 0.37, 0.9999):
        share = kept(torch.Size([700, 801]), wanted, torch.device("cpu")).float().mean().item()
        assert share == pytest.approx(1 - wanted, abs=3e-3)


def test_neighbours_are_independent():
    torch.manual_seed(0)
    drawn = kept(torch.Size([400_000]), 0.5, torch.device("cpu")).float() - 0.5
    for distance in range(1, 9):
        assert (drawn[distance:] * drawn[:-distance]).mean().abs() < 5 * 0.25 / 400_000**0.5


def test_the_seed_decides():
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(kept(torch.Size([7, 9]), 0.3, torch.device("cpu")))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_states():
    torch.manual_seed(0)
    found = torch.randn(400, 300, requires_grad=True)
    out = dropout(found, 0.25)
    left = out != 0
    torch.testing.assert_close(out[left], found[left] / 0.75)
    assert left.float().mean().item() == pytest.approx(0.75, abs=0.01)
    out.sum().backward()
    torch.testing.assert_close(found.grad, left / 0.75)


def test_dropout_inside_the_block():
    layer, states = torch.nn.Dropout(0.5), torch.ones(8, 9)
    with CheapDropout():
        torch.manual_seed(3)
        inside = layer(states)
        assert torch.equal(layer.eval()(states), states)
        assert torch.equal(functional.dropout(states, 0.0), states)
        assert not functional.dropout(states, 1.0).any()
    torch.manual_seed(3)
    assert torch.equal(inside, dropout(states, 0.5))
    torch.manual_seed(3)
    assert not torch.equal(layer.train()(states), inside)
