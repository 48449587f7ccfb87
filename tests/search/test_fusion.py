from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourfold.search import fusion

WORDS, TERMS = np.array([4.0, 0.0, 2.0, 0.0], np.float32), np.array([0.0, 10.0, 5.0, 0.0], np.float32)
MEANING = np.array([0.5, 0.9, -0.2, 0.1])


def test_the_mean_of_shares_of_the_best_and_of_cosines():
    assert fusion.by_score([WORDS], MEANING).tolist() == [0.75, 0.45, 0.15, 0.05]
    assert fusion.by_score([WORDS, TERMS]).tolist() == [0.5, 0.5, 0.5, 0]
    thirds = (WORDS / 4 + TERMS / 10 + MEANING) / 3
    np.testing.assert_allclose(fusion.by_score([WORDS, TERMS], MEANING), thirds, atol=1e-6)


def test_what_finds_nothing_does_not_count():
    nothing = np.zeros(4, np.float32)
    np.testing.assert_array_equal(fusion.by_score([nothing], MEANING), MEANING)
    np.testing.assert_array_equal(fusion.by_score([nothing, TERMS]), fusion.by_score([TERMS]))
    assert fusion.by_score([nothing, nothing]).tolist() == [0, 0, 0, 0]
    assert fusion.by_rank([nothing, nothing]).tolist() == [0, 0, 0, 0]


def test_reciprocal_ranks():
    expected = [1 / 61 + 1 / 62, 1 / 61, 1 / 62 + 1 / 64, 1 / 63]
    np.testing.assert_allclose(fusion.by_rank([WORDS], MEANING), expected, rtol=1e-12)
    np.testing.assert_allclose(fusion.by_rank([WORDS, TERMS]), [1 / 61, 1 / 61, 2 / 62, 0], rtol=1e-12)


scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30)


@given(scores, st.integers(0, 2**32 - 1))
def test_reciprocal_ranks_equal_their_definition(values, seed):
    words = np.array(values, np.float32)
    meaning = np.random.default_rng(seed).integers(-3, 4, len(words)) / 4
    plain = []
    for word, cosine in zip(words, meaning, strict=True):
        ranks = [1 + sum(meaning > cosine)] + ([1 + sum(words > word)] if word > 0 else [])
        plain.append(sum(1 / (60 + rank) for rank in ranks))
    np.testing.assert_allclose(fusion.by_rank([words], meaning), plain, rtol=1e-12)


@pytest.mark.parametrize("mix", [pytest.param(mix, id=name) for name, mix in fusion.FUSIONS.items()])
def test_noise_in_the_last_bits_makes_no_order(mix):
    words = np.full(5, 31.4, np.float32) + np.arange(5, dtype=np.float32) * np.float32(2e-6)
    assert len(set(mix([words], np.full(5, 0.3) + np.arange(5) * 1e-9).tolist())) == 1
