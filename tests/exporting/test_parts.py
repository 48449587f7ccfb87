"""Modules in the form that a graph can hold give what the modules give, over padded texts."""

import copy
import itertools

import numpy as np
import pytest
import torch
from tests.support import TEXTS, wordpiece
from tests.tolerances import FORMULA, FORMULA_LARGE
from torch import nn

from fourfold.errors import InputError
from fourfold.exporting import _parts
from fourfold.modules import Dense, Normalize, Pooling, Router, SparseStaticEmbedding, SpladePooling, StaticEmbedding
from fourfold.ops.splade import ACTIVATIONS, STRATEGIES

WIDTH = 8


def features(left=False):
    """Texts of one, some and all of the tokens, and one without any."""
    lengths = torch.tensor([6, 1, 3, 0])
    mask = (torch.arange(6)[None, :] < lengths[:, None]).long()
    hidden = torch.randn(4, 6, WIDTH, generator=torch.Generator().manual_seed(0))
    return {"token_embeddings": hidden, "attention_mask": mask.flip(1) if left else mask}


def both(module, given):
    """Return what a module gives, and its form."""
    ours = _parts.traced(module)(copy.copy(given))["sentence_embedding"]
    return ours, module(copy.copy(given))["sentence_embedding"]


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("mode", [*Pooling.POOLING_MODES, ("max", "cls", "mean")], ids=str)
def test_every_pooling_mode(mode, left):
    ours, wanted = both(Pooling(WIDTH, mode), features(left))
    torch.testing.assert_close(ours, wanted, atol=FORMULA, rtol=0)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("mode", Pooling.POOLING_MODES)
def test_every_pooling_mode_without_the_prompt(mode, length, left):
    pooling = Pooling(WIDTH, mode, include_prompt=False)
    ours = _parts.traced(pooling)({**features(left), "prompt_length": torch.tensor(length)})["sentence_embedding"]
    wanted = pooling({**features(left), "prompt_length": length})["sentence_embedding"]
    torch.testing.assert_close(ours, wanted, atol=FORMULA, rtol=0)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(("strategy", "activation"), list(itertools.product(STRATEGIES, ACTIVATIONS)))
def test_every_way_of_pooling_logits(strategy, activation, left):
    ours, wanted = both(SpladePooling(strategy, activation), features(left))
    torch.testing.assert_close(ours, wanted, atol=FORMULA_LARGE, rtol=0)


def padded(module):
    """Return texts as ids and mask, and what the module makes of them."""
    encoded = [wordpiece().encode(text, add_special_tokens=False).ids for text in TEXTS]
    longest = max(map(len, encoded))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in encoded])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in encoded])
    with torch.inference_mode():
        wanted = module(module.preprocess(TEXTS))["sentence_embedding"]
    return {"input_ids": ids, "attention_mask": mask}, wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_tables_of_vectors_and_of_weights(dtype):
    size = wordpiece().get_vocab_size()
    vectors = torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype).float()
    for module in (StaticEmbedding(wordpiece(), vectors), SparseStaticEmbedding(wordpiece(), vectors[:, 0].abs())):
        given, wanted = padded(module)
        wanted = wanted.to_dense() if wanted.is_sparse else wanted
        got = _parts.traced(module.to(dtype))(given)["sentence_embedding"]
        assert got.dtype == torch.float32
        np.testing.assert_allclose(got, wanted, atol=FORMULA_LARGE)


def test_what_maps_vectors_is_taken_as_it_is():
    dense = Dense(WIDTH, 3).eval()
    given = {"sentence_embedding": torch.ones(2, WIDTH)}
    with torch.inference_mode():
        for module in (dense, Normalize()):
            ours, wanted = both(module, given)
            torch.testing.assert_close(ours, wanted)
    assert given["sentence_embedding"].shape == (2, WIDTH)


class Pooled(Pooling):
    """A user's module, whatever it is derived from."""


class Theirs(nn.Module):
    """A module of a name that is known."""


def test_modules_that_no_graph_can_hold():
    Theirs.__name__ = "Dense"
    for module, name in ((Router({"a": [Normalize()]}), "Router"), (Pooled(WIDTH), "Pooled"), (Theirs(), "Dense")):
        with pytest.raises(InputError, match=rf"cannot hold the module {name}.*Export the model without whole"):
            _parts.traced(module)
