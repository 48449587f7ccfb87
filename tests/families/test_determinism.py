"""A text's vector does not depend on the texts beside it, their order, or how many there are."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import load
from tests.tolerances import BATCH

from fourfold.testing import tiny

WORDS = ["the", "a", "query", "document", "text", "short", "long", "world", "of", "and", "unseen", "?"]
ARCHITECTURES = ["bert", "roberta", "distilbert", "modernbert", "mpnet", "qwen3", "gemma3", "t5", "static"]

texts = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)
companies = st.lists(texts, min_size=2, max_size=24)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request):
    return tiny("dense", request.param)


@settings(max_examples=12)
@given(batch=companies, seed=st.integers(0, 2**16), batch_size=st.sampled_from([1, 3, 32]))
def test_any_order_and_company(model, batch, seed, batch_size):
    together = model.encode(batch)
    order = list(range(len(batch)))
    random.Random(seed).shuffle(order)
    shuffled = model.encode([batch[i] for i in order], batch_size=batch_size)
    np.testing.assert_allclose(shuffled, together[order], rtol=0, atol=BATCH)
    alone = order[0]
    np.testing.assert_allclose(model.encode(batch[alone]), together[alone], rtol=0, atol=BATCH)
    half = order[: max(1, len(order) // 2)]
    np.testing.assert_allclose(model.encode([batch[i] for i in half]), together[half], rtol=0, atol=BATCH)


def test_the_same_call_gives_the_same_bits(model):
    batch = [" ".join(random.Random(i).choices(WORDS, k=i)) for i in range(60)]
    np.testing.assert_array_equal(model.encode(batch), model.encode(batch))


def test_a_real_model_among_many_texts(minilm):
    """Texts of one to 128 words; batches of many sizes, single texts among them."""
    rng = random.Random(2)
    batch = [" ".join(rng.choices(WORDS, k=int(2 ** rng.uniform(0, 7)))) for _ in range(60)]
    model = load(minilm)
    together = model.encode(batch)
    order = rng.sample(range(len(batch)), len(batch))
    for batch_size in (1, 7):
        shuffled = model.encode([batch[i] for i in order], batch_size=batch_size)
        np.testing.assert_allclose(shuffled, together[order], rtol=0, atol=BATCH)
    for i in order[:10]:
        np.testing.assert_allclose(model.encode(batch[i]), together[i], rtol=0, atol=BATCH)
