import math

import numpy as np
import pytest
import torch
from tests import tolerances

from fourfold.errors import InputError
from fourfold.ops import similarity
from fourfold.ops.similarity import SimilarityFunction, compare, similarity_name

NAMES = ["cosine", "dot", "euclidean", "manhattan"]


def naive(name, x, y):
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    if name == "dot":
        return dot
    if name == "cosine":
        length = lambda v: max(math.sqrt(sum(a * a for a in v)), 1e-12)  # noqa: E731
        return dot / (length(x) * length(y))
    gaps = [abs(a - b) for a, b in zip(x, y, strict=True)]
    return -sum(gaps) if name == "manhattan" else -math.sqrt(sum(g * g for g in gaps))


def vectors(rows, seed, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((rows, 7)).astype(dtype)


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", NAMES)
def test_formulas(name, library):
    a, b = vectors(4, 0), vectors(5, 1)
    pairs = compare(name, library(a), library(b))
    rows = compare(name, library(a), library(b[:4]), pairwise=True)
    assert type(pairs) is type(library(a))
    want = [[naive(name, x, y) for y in b.tolist()] for x in a.tolist()]
    np.testing.assert_allclose(np.asarray(pairs), want, rtol=0, atol=tolerances.FORMULA_LARGE)
    want = [naive(name, x, y) for x, y in zip(a.tolist(), b.tolist(), strict=False)]
    np.testing.assert_allclose(np.asarray(rows), want, rtol=0, atol=tolerances.FORMULA_LARGE)


@pytest.mark.parametrize("name", NAMES)
def test_one_vector_is_one_row(name):
    a, b = torch.from_numpy(vectors(1, 0)[0]), torch.from_numpy(vectors(3, 1))
    assert compare(name, a, b).shape == (1, 3)
    assert compare(name, a, a).shape == (1, 1)
    assert compare(name, a, a, pairwise=True).shape == ()
    assert compare(name, b, b, pairwise=True).shape == (3,)


def test_a_zero_vector_has_cosine_nothing():
    zero, other = torch.zeros(2, 3), torch.ones(2, 3)
    assert compare("cosine", zero, other).tolist() == [[0, 0], [0, 0]]
    assert compare("cosine", zero, zero, pairwise=True).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name, dtype):
    a, b = torch.from_numpy(vectors(3, 0)).to(dtype), torch.from_numpy(vectors(3, 1)).to(dtype)
    for pairwise in (False, True):
        got = compare(name, a, b, pairwise=pairwise)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, compare(name, a.float(), b.float(), pairwise=pairwise), rtol=0, atol=0)


def test_float64_stays():
    a = vectors(3, 0, np.float64)
    assert compare("cosine", a, a).dtype == np.float64
    assert similarity.cos_sim(a, a).dtype == torch.float64


@pytest.mark.parametrize(
    "form",
    [lambda v: v, torch.from_numpy, list, lambda v: list(torch.from_numpy(v)), lambda v: v.tolist(),
     lambda v: np.broadcast_to(v, v.shape)],
    ids=["array", "tensor", "arrays", "tensors", "numbers", "read-only"],
)  # fmt: skip
def test_the_named_functions_take_any_form_and_give_tensors(form):
    a = vectors(3, 0)
    got = similarity.cos_sim(form(a), form(a))
    assert isinstance(got, torch.Tensor)
    np.testing.assert_allclose(got.numpy(), compare("cosine", a, a), rtol=0, atol=tolerances.FORMULA)


def test_a_writable_array_is_viewed():
    array = vectors(2, 0)
    assert np.shares_memory(similarity.as_tensor(array).numpy(), array)


@pytest.mark.parametrize("name", NAMES)
def test_the_enum_gives_the_functions(name):
    a, b = vectors(3, 0), vectors(3, 1)
    for key in (name, SimilarityFunction(name)):
        got = SimilarityFunction.to_similarity_fn(key)(a, b)
        np.testing.assert_allclose(got, compare(name, a, b), rtol=0, atol=tolerances.FORMULA_LARGE)
        got = SimilarityFunction.to_similarity_pairwise_fn(key)(a, b)
        np.testing.assert_allclose(got, compare(name, a, b, pairwise=True), rtol=0, atol=tolerances.FORMULA_LARGE)


def test_names():
    assert SimilarityFunction.DOT is SimilarityFunction.DOT_PRODUCT
    assert similarity_name(SimilarityFunction.DOT) == similarity_name("dot") == "dot"
    assert SimilarityFunction.possible_values()[:4] == NAMES


@pytest.mark.parametrize("wrong", ["dot_score", "cosin", "", None, 3])
def test_unknown_names_are_refused(wrong):
    for use in (similarity_name, SimilarityFunction.to_similarity_fn, SimilarityFunction.to_similarity_pairwise_fn):
        with pytest.raises(InputError, match="must be one of cosine, dot"):
            use(wrong)
    with pytest.raises(InputError, match="must be one of"):
        compare(wrong, vectors(1, 0), vectors(1, 0))


def test_the_nearest_name_is_offered():
    with pytest.raises(InputError, match="Did you mean 'cosine'"):
        similarity_name("cosin")


def test_integer_dot_products_stay_integers():
    assert similarity.dot_score(torch.tensor([[1, 2]]), torch.tensor([[3, 4]])).tolist() == [[11]]
