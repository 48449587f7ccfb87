import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import needs_packing

from fourfold.modules import _packed
from fourfold.ops.attention import CAUSAL, FULL, Packing, Window, grouped
from fourfold.testing import checkpoint

LAYOUT = Packing(np.array([0, 5, 8, 9]))


def states():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 2, 9, 4, generator=generator) for _ in range(3)]


class Layer(torch.nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.is_causal = causal


@pytest.mark.parametrize(
    ("causal", "argument", "window"),
    [(True, None, CAUSAL), (False, None, FULL), (True, False, FULL), (False, True, CAUSAL)],
)
def test_a_layer_without_a_mask_says_itself_whether_it_looks_ahead(causal, argument, window):
    q, k, v = states()
    with _packed.packed(LAYOUT):
        got, weights = _packed._attention(Layer(causal), q, k, v, None, is_causal=argument)
    assert weights is None
    torch.testing.assert_close(got, grouped(q, k, v, LAYOUT, window, None), rtol=0, atol=tolerances.SAME)


def test_a_layers_own_window_wins():
    q, k, v = states()
    with _packed.packed(LAYOUT):
        got, _ = _packed._attention(Layer(True), q, k, v, _packed._Allowed(Window(1, 1), LAYOUT))
    torch.testing.assert_close(got, grouped(q, k, v, LAYOUT, Window(1, 1), None), rtol=0, atol=tolerances.SAME)


def test_the_layout_ends_with_its_block_even_after_an_error():
    def fail():
        with _packed.packed(LAYOUT):
            assert _packed._packing.get() is LAYOUT
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert _packed._packing.get() is None


@pytest.fixture
def model(tmp_path):
    import transformers

    return transformers.AutoModel.from_pretrained(checkpoint("bert", tmp_path)).eval()


@needs_packing
def test_the_self_check_sees_a_model_whose_numbers_differ(model, monkeypatch):
    assert _packed.prepare(model)
    assert _packed.runs_packed(model, 0, 60, 0)
    # Positions that are one too high are the kind of mistake that it is for.
    assert not _packed.runs_packed(model, 1, 60, 0)


def test_the_self_check_leaves_the_mode_as_it_was(model):
    _packed.prepare(model)
    for mode in (True, False):
        model.train(mode)
        _packed.runs_packed(model, 0, 60, 0)
        assert model.training is mode


@needs_packing
def test_the_ordinary_attention_can_be_given_back(model):
    _packed.prepare(model)
    assert model.config._attn_implementation == _packed.ATTENTION
    _packed.restore(model)
    assert model.config._attn_implementation == "sdpa"


def test_what_is_no_transformers_model_is_not_prepared():
    assert not _packed.prepare(torch.nn.Linear(2, 2))
