"""The first contract of an encoder, over every architecture that fourfold.testing makes."""

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS

from fourfold import SentenceTransformer
from fourfold.testing import ARCHITECTURES, tiny, tiny_folder

NAMES = [*ARCHITECTURES, "static"]
# Attention with biases per distance, or a mix of neighbours: these run padded.
PADDED = {"deberta_v2", "mpnet", "t5"}


@pytest.fixture(scope="module")
def models():
    return {}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def model(name, models):
    if name not in models:
        models[name] = tiny("dense", name)
    return models[name]


def test_the_self_check_decides_as_expected(model, name):
    assert model[0].packed is (name not in PADDED)


def test_packed_equals_padded(model, name):
    if name in PADDED | {"static"}:
        pytest.skip("has one way only")
    packed = model.encode(TEXTS)
    try:
        model[0].unpad_inputs = False
        padded = model.encode(TEXTS)
    finally:
        model[0].unpad_inputs = None
    assert model[0].packed
    np.testing.assert_allclose(packed, padded, rtol=0, atol=tolerances.PACKED)


def test_texts_differ(model):
    rows = model.encode(TEXTS)
    gaps = np.abs(rows[:, None] - rows[None]).max(-1)
    assert gaps[~np.eye(len(TEXTS), dtype=bool)].min() > 1e-3


def test_alone_is_in_a_batch_is_in_any_order(model):
    together = model.encode(TEXTS)
    alone = np.stack([model.encode(text) for text in TEXTS])
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = model.encode([TEXTS[i] for i in order], batch_size=3)
    np.testing.assert_allclose(alone, together, rtol=0, atol=tolerances.BATCH)
    np.testing.assert_allclose(shuffled, together[order], rtol=0, atol=tolerances.BATCH)


def test_after_save_and_load_equal(model, name):
    again = SentenceTransformer(str(tiny_folder("dense", name)), device="cpu")
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    assert repr(again) == repr(model)


def test_the_empty_string_works(model, name):
    row = model.encode("")
    assert row.shape == (32,)
    assert np.isfinite(row).all()
    assert (row == 0).all() == (name == "static")


def test_encoding_leaves_the_model_as_it_was(model):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first = model.encode(TEXTS)
    model.encode(["other texts"] * 5)
    np.testing.assert_array_equal(model.encode(TEXTS), first)
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_features_by_hand_give_the_same(model):
    with torch.inference_mode():
        by_hand = model(model.preprocess(TEXTS))["sentence_embedding"]
    np.testing.assert_allclose(by_hand.numpy(), model.encode(TEXTS), rtol=0, atol=tolerances.PACKED)


def test_gradients_of_packed_and_padded_features_are_equal(model, name):
    if name in PADDED | {"static"}:
        pytest.skip("has one way only")
    grads = []
    for features in (model.preprocess(TEXTS[:5]), model[0].pack(model[0].tokenise(TEXTS[:5]))):
        model.zero_grad()
        vectors = model(features)["sentence_embedding"]
        (vectors @ vectors.T).pow(3).sum().backward()
        grads.append({key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    assert grads[0].keys() == grads[1].keys()
    assert len(grads[0]) > 3
    for key in grads[0]:
        scale = max(1.0, float(grads[0][key].abs().max()))
        torch.testing.assert_close(grads[0][key] / scale, grads[1][key] / scale, rtol=0, atol=tolerances.PACKED)


def test_half_precision_keeps_the_direction(name):
    rows = tiny("dense", name).encode(TEXTS[2:])
    half = tiny("dense", name).bfloat16().encode(TEXTS[2:])
    assert half.dtype == np.float32
    cosines = (rows * half).sum(-1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(half, axis=1)
    assert cosines.min() > tolerances.BFLOAT_COSINE
