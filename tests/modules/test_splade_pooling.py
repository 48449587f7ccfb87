import json

import pytest
import torch
from tests import tolerances
from torch import nn

from fourfold.errors import InputError, MissingFeatureError
from fourfold.modules import SpladePooling
from fourfold.ops.splade import VocabularyLogits


def logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pooled(module, features):
    return module(dict(features))["sentence_embedding"]


def test_the_largest_logit_of_a_text_counts():
    tokens = torch.tensor([[[1.0, -2, 3], [2, -1, 0], [9, 9, 9]]])
    got = pooled(SpladePooling(), {"token_embeddings": tokens, "attention_mask": torch.tensor([[1, 1, 0]])})
    torch.testing.assert_close(got, torch.tensor([[2.0, 0, 3]]).log1p())


def test_sums_and_means():
    tokens = torch.tensor([[[1.0, -2, 3], [2, -1, 0], [9, 9, 9]]])
    features = {"token_embeddings": tokens, "attention_mask": torch.tensor([[1, 1, 0]])}
    total = torch.tensor([[1.0, 0, 3]]).log1p() + torch.tensor([[2.0, 0, 0]]).log1p()
    torch.testing.assert_close(pooled(SpladePooling("sum"), features), total)
    torch.testing.assert_close(pooled(SpladePooling("mean"), features), total / 2)
    torch.testing.assert_close(
        pooled(SpladePooling("max", "log1p_relu"), features), torch.tensor([[2.0, 0, 3]]).log1p().log1p()
    )
    torch.testing.assert_close(pooled(SpladePooling("max", "identity"), features), torch.tensor([[2.0, -1, 3]]))


def test_a_text_without_tokens_has_no_weights():
    features = {"token_embeddings": logits(2, 3, 5), "attention_mask": torch.tensor([[0, 0, 0], [1, 0, 0]])}
    for strategy in ("max", "sum", "mean"):
        got = pooled(SpladePooling(strategy, "identity"), features)
        assert not got[0].any()
        assert got[1].any()


def test_without_a_mask_every_position_counts():
    tokens = logits(2, 3, 5)
    want = pooled(SpladePooling(), {"token_embeddings": tokens, "attention_mask": torch.ones(2, 3)})
    assert torch.equal(pooled(SpladePooling(), {"token_embeddings": tokens}), want)


@pytest.mark.parametrize("strategy", ["max", "sum", "mean"])
@pytest.mark.parametrize("chunk_size", [None, -1, 0, 1, 2, 3, 100])
def test_chunks_change_nothing(strategy, chunk_size):
    features = {"token_embeddings": logits(3, 7, 5), "attention_mask": torch.ones(3, 7)}
    want = pooled(SpladePooling(strategy), features)
    got = pooled(SpladePooling(strategy, chunk_size=chunk_size), features)
    torch.testing.assert_close(got, want, rtol=0, atol=tolerances.FORMULA)


def test_chunks_bound_what_is_held():
    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if "log1p" in str(func):
                self.largest = max(self.largest, out.numel())
            return out

    for chunk_size, most in ((None, 64 * 9), (4, 4 * 9)):
        with Seen() as seen:
            SpladePooling("sum", chunk_size=chunk_size)({"token_embeddings": logits(2, 64, 9)})
        assert seen.largest == most


def test_the_width_is_found_out():
    module = SpladePooling()
    assert module.get_embedding_dimension() is None
    module({"token_embeddings": logits(1, 2, 5)})
    assert module.get_embedding_dimension() == module.embedding_dimension == 5


def test_the_chunk_size_is_not_saved(tmp_path):
    module = SpladePooling("sum", "log1p_relu", 7, chunk_size=3)
    module.save(str(tmp_path))
    config = {"pooling_strategy": "sum", "activation_function": "log1p_relu", "embedding_dimension": 7}
    assert json.loads((tmp_path / "config.json").read_text()) == config
    assert SpladePooling.load(str(tmp_path)).chunk_size is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling_strategy": "maximum"}, r"pooling_strategy must be one of max, sum, mean; got 'maximum'"),
        ({"activation_function": "rely"}, r"activation_function must be one of .*; got 'rely'\. Did you mean 'relu'"),
        ({"pooling_strategy": None}, r"pooling_strategy must be .*got None"),
    ],
    ids=str,
)
def test_unknown_names_are_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        SpladePooling(**arguments)


def test_logits_that_are_missing_are_an_error():
    with pytest.raises(MissingFeatureError, match=r"SpladePooling reads the feature 'token_embeddings'"):
        SpladePooling()({"attention_mask": torch.ones(1, 2)})


@pytest.mark.parametrize("deferred", [True, False])
def test_out_of_memory_tells_what_to_do(monkeypatch, caplog, deferred):
    from fourfold.ops import splade

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(splade, "pool", fail)
    monkeypatch.setattr(splade, "pool_states", fail)
    layer = nn.Linear(4, 5)
    tokens = VocabularyLogits(logits(1, 2, 4), layer.weight, layer.bias) if deferred else logits(1, 2, 5)
    with pytest.raises(torch.OutOfMemoryError, match="no memory"):
        SpladePooling()({"token_embeddings": tokens})
    assert "chunk_size" in caplog.text


# -- logits that have not been computed --------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["max", "sum", "mean"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu", "identity"])
@pytest.mark.parametrize("training", [True, False])
def test_logits_left_out_give_what_whole_ones_do(strategy, activation, training):
    layer, states = nn.Linear(4, 600), logits(1, 9, 4).requires_grad_(training)
    layer.requires_grad_(training)
    offsets = torch.tensor([0, 3, 3, 7], dtype=torch.int32)
    deferred = VocabularyLogits(states, layer.weight, layer.bias)
    module, found = SpladePooling(strategy, activation), []
    for tokens in (layer(states), deferred):
        got = pooled(module, {"token_embeddings": tokens, "cu_seq_lens_q": offsets})
        assert got.shape == (3, 600)
        if training:
            layer.zero_grad()
            states.grad = None
            got.pow(2).sum().backward()
            found.append([got.detach(), states.grad, layer.weight.grad, layer.bias.grad])
        else:
            found.append([got])
    for want, got in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_they_stay_left_out():
    layer = nn.Linear(4, 6)
    tokens = VocabularyLogits(logits(1, 3, 4), layer.weight, layer.bias)
    features = SpladePooling()({"token_embeddings": tokens, "cu_seq_lens_q": torch.tensor([0, 3])})
    assert features["token_embeddings"] is tokens
