from __future__ import annotations

import pytest

import fourfold
from fourfold.errors import InputError
from fourfold.search.encoders import choose


def test_each_mode_takes_the_models_that_it_needs(encoder, sparse_encoder):
    both = [sparse_encoder, encoder]
    assert choose("lexical", both) == (None, None)
    assert choose("dense", both) == (encoder, None)
    assert choose("sparse", both) == (None, sparse_encoder)
    assert choose("hybrid", both) == (encoder, sparse_encoder)
    assert choose("hybrid", [sparse_encoder]) == (None, sparse_encoder)
    assert choose("hybrid", []) == (None, None)


def test_a_model_of_the_other_family(encoder, sparse_encoder):
    sparse_encoder.name = "some/splade"
    with pytest.raises(InputError, match="mode dense needs a dense model; got some/splade, which is sparse") as error:
        choose("dense", [sparse_encoder])
    assert "the built-in one" in str(error.value)
    with pytest.raises(InputError, match="mode sparse needs a sparse model; got HashingEncoder, which is dense"):
        choose("sparse", [encoder])
    with pytest.raises(InputError, match="got the built-in model, which is dense"):
        choose("sparse", [fourfold.load()])
    with pytest.raises(InputError, match="got none"):
        choose("sparse", [])


def test_two_models_of_one_family(encoder, other_encoder, sparse_encoder):
    with pytest.raises(InputError, match="at most one dense and one sparse model; got 2 dense ones"):
        choose("hybrid", [encoder, other_encoder, sparse_encoder])
