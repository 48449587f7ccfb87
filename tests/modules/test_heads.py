"""Heads that read packed texts."""

import numpy as np
import pytest
import torch
from tests.support import needs_packing
from tests.tolerances import PACKED
from torch import nn

from fourfold.errors import InputError
from fourfold.modules import Transformer, _heads
from fourfold.ops.attention import Packing
from fourfold.testing import checkpoint

PACKING = Packing(np.array([0, 3, 4, 9]), filling=2)
STATES = torch.randn(1, 11, 4, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[5, 6, 7, 8, 5, 0, 6, 0, 0, 0, 0]])


def read(pad_id=None, packing=PACKING):
    return _heads._OneState(IDS, packing, pad_id)


def test_the_first_state_of_each_text():
    with read():
        assert torch.equal(STATES[:, 0], STATES[0].index_select(0, torch.tensor([0, 3, 4])))
        assert torch.equal(STATES[:, 0, :], STATES[:, 0])


@pytest.mark.parametrize(("pad_id", "places"), [(None, [2, 3, 8]), (0, [2, 3, 6]), (8, [2, 3, 8])])
def test_the_last_state_of_each_text(pad_id, places):
    with read(pad_id):
        got = STATES[torch.arange(1), torch.tensor([10])]
    assert torch.equal(got, STATES[0][places])
    with read(pad_id):
        assert torch.equal(STATES[torch.arange(1), -1], got)


def test_sums_over_each_text():
    wanted = torch.stack([STATES[0, start:stop].sum(0) for start, stop in ((0, 3), (3, 4), (4, 9))])
    with read():
        torch.testing.assert_close(STATES.sum(dim=1), wanted)
        torch.testing.assert_close(STATES.sum(1), wanted)
        torch.testing.assert_close(torch.sum(STATES, dim=1, keepdim=True), wanted[:, None])
        for mask in (torch.ones(1, 11, dtype=torch.bool), torch.ones(1, 11)):
            assert mask.sum(dim=1, keepdim=True).tolist() == [[3], [1], [5]]


def test_everything_else_means_what_it_meant():
    other = torch.randn(2, 11, 4)
    with read():
        assert other[:, 0].shape == (2, 4)
        assert STATES[:, 1].shape == STATES[:, -1].shape == (1, 4)
        assert STATES[:, 0:1].shape == (1, 1, 4)
        assert STATES[0, 0].shape == (4,)
        assert STATES[..., 0].shape == (1, 11)
        assert STATES.sum().ndim == 0
        assert STATES.sum(dim=2).shape == (1, 11)
        assert STATES.sum(dim=(0, 1)).shape == (4,)


def test_a_text_without_tokens_never_gets_a_neighbours_state():
    packing = Packing(np.array([0, 3, 3, 9]), filling=2)
    with read(packing=packing):
        assert not STATES[:, 0][1].any()
        assert not STATES[torch.arange(1), torch.tensor([10])][1].any()
        assert not STATES.sum(dim=1)[1].any()
    with pytest.raises(InputError, match="no tokens"):
        _heads.ends(packing, torch.device("cpu"))


class Odd(nn.Module):
    """A head that reads the batch in a way of its own."""

    def forward(self, states):
        return states.flatten(1)[:, :1]


@needs_packing
def test_a_head_of_another_kind_is_run_padded(tmp_path):
    checkpoint("roberta", tmp_path, head="labels", num_labels=1)
    module = Transformer(str(tmp_path), transformer_task="sequence-classification")
    assert module.packed
    module.model.classifier = Odd()
    module.unpad_inputs = None
    assert not module.packed


@needs_packing
@pytest.mark.parametrize(
    ("architecture", "last"), [("bert", False), ("modernbert", False), ("qwen3", True), ("gemma3", True)]
)
def test_what_no_head_reads_is_not_computed(tmp_path, architecture, last):
    checkpoint(architecture, tmp_path, head="labels", num_labels=2)
    module = Transformer(str(tmp_path), transformer_task="sequence-classification").eval()
    assert module._thinning.last is last
    texts = [("the query", "a document"), ("a", "the long text of the world"), ("x y", "z")]
    rows = []
    layer = max((part for part in module.model.modules() if isinstance(part, nn.ModuleList)), key=len)[-1]
    after_attention = [part for part in layer.modules() if isinstance(part, nn.Linear)][-1]
    after_attention.register_forward_hook(lambda part, args, out: rows.append(args[0].shape[-2]))
    features = module.pack(module.tokenise(texts))
    with torch.inference_mode():
        thinned = module(dict(features))["scores"]
        module.config.output_hidden_states = True
        whole = module(dict(features))
    torch.testing.assert_close(thinned, whole["scores"], rtol=0, atol=PACKED)
    assert whole["all_layer_embeddings"][-1].shape[1] == features["input_ids"].shape[1]
    assert rows == [len(texts), features["input_ids"].shape[1]]


@needs_packing
def test_modernbert_that_pools_the_mean_needs_every_token(tmp_path):
    checkpoint("modernbert", tmp_path, head="labels", num_labels=1, classifier_pooling="mean")
    module = Transformer(str(tmp_path), transformer_task="sequence-classification")
    assert module.packed
    assert module._thinning is None


@needs_packing
@pytest.mark.parametrize("architecture", ["bert", "modernbert", "qwen3"])
def test_gradients_of_packed_texts_are_those_of_padded_ones(tmp_path, architecture):
    checkpoint(architecture, tmp_path, head="labels", num_labels=2)
    module = Transformer(str(tmp_path), transformer_task="sequence-classification")
    texts = [("the query", "a document"), ("a", "the long text of the world"), ("x y", "z")]
    grads = []
    for features in (module.pack(module.tokenise(texts)), module.pad(module.tokenise(texts))):
        module.zero_grad()
        module(features)["scores"].square().sum().backward()
        grads.append({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        scale = max(1.0, float(grads[1][name].abs().max()))
        torch.testing.assert_close(grad / scale, grads[1][name] / scale, rtol=0, atol=PACKED)
