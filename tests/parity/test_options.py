"""Every flag of encode gives the same type, shape, dtype and numbers in both libraries."""

import itertools
import logging

import numpy as np
import pytest
import torch
from tests.support import TEXTS
from tests.tolerances import PACKED

from fourfold import SentenceTransformer
from fourfold.testing import tiny_folder


@pytest.fixture(scope="module", params=["bert", "mpnet"])
def pair(st, request):
    folder = str(tiny_folder("dense", request.param))
    prompts = {"query": "query: ", "custom": "the text of "}
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    return tuple(cls(folder, device="cpu", prompts=prompts) for cls in (SentenceTransformer, st.SentenceTransformer))


def same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            same(ours[key], theirs[key])
    elif isinstance(theirs, (np.ndarray, torch.Tensor)):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(
            np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64), atol=PACKED
        )
    else:
        assert ours == theirs


INPUTS = {
    "one": "a text",
    "batch": TEXTS,
    "single": ["a text"],
    "tuple": ("a text", "two"),
    "array": np.array(TEXTS[:3]),
    "pairs": [("a text", "its pair"), ("the", "of and to")],
    "empty": [],
}


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(("as_numpy", "as_tensor"), list(itertools.product([True, False], repeat=2)))
@pytest.mark.parametrize("normalize", [True, False])
def test_result_forms(pair, inputs, as_numpy, as_tensor, normalize):
    options = {
        "convert_to_numpy": as_numpy,
        "convert_to_tensor": as_tensor,
        "normalize_embeddings": normalize,
        "truncate_dim": 20,
    }
    same(*(model.encode(INPUTS[inputs], **options) for model in pair))


@pytest.mark.parametrize("value", ["token_embeddings", None, "attention_mask"])
@pytest.mark.parametrize("inputs", ["one", "batch", "empty"])
def test_output_values(pair, value, inputs):
    # One batch, so that both pad to the same width.
    same(*(model.encode(INPUTS[inputs], output_value=value, batch_size=64) for model in pair))


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize(("as_numpy", "as_tensor"), [(True, False), (False, True), (False, False)])
def test_precisions(pair, precision, as_numpy, as_tensor):
    ours, theirs = pair
    # The same vectors go in: a level's edge may lie between two vectors that differ by a rounding.
    options = {"precision": precision, "convert_to_numpy": as_numpy, "convert_to_tensor": as_tensor}
    got, wanted = ours.encode(TEXTS, **options), theirs.encode(TEXTS, **options)
    assert type(got) is type(wanted)
    assert got[0].dtype == wanted[0].dtype
    a, b = (np.array([np.asarray(row) for row in rows]).astype(int) for rows in (got, wanted))
    assert a.shape == b.shape
    assert (abs(a - b) <= 1).mean() > 0.99 if "int" in precision else (a == b).mean() > 0.99


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
@pytest.mark.parametrize(
    "options", [{}, {"prompt_name": "custom"}, {"prompt": "query: "}, {"prompt": "", "prompt_name": "query"}]
)
def test_prompts(pair, method, options):
    same(*(getattr(model, method)(TEXTS, **options) for model in pair))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"inputs": TEXTS, "batch_size": 0}, ValueError),
        ({"inputs": TEXTS, "prompt_name": "nobody"}, ValueError),
        ({"inputs": TEXTS, "precision": "float16"}, ValueError),
        ({"inputs": TEXTS, "wrong": 1}, ValueError),
        ({"inputs": None}, ValueError),
        ({"inputs": {"a", "b"}}, ValueError),
        ({"inputs": [None]}, ValueError),
        ({"inputs": [1.5]}, ValueError),
        ({"inputs": "a text", "precision": "int8"}, ValueError),
        ({"inputs": TEXTS, "output_value": "nothing"}, KeyError),
    ],
)
def test_the_same_misuse_is_the_same_error(pair, arguments, error):
    for model in pair:
        with pytest.raises(error):
            model.encode(**arguments)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities(pair, name):
    vectors = [model.encode(TEXTS) for model in pair]
    for model in pair:
        model.similarity_fn_name = name
    same(*(model.similarity(v, v[:3]) for model, v in zip(pair, vectors, strict=True)))
    same(*(model.similarity_pairwise(v, v[::-1].copy()) for model, v in zip(pair, vectors, strict=True)))
    same(*(model.similarity(v[0], torch.from_numpy(v[1])) for model, v in zip(pair, vectors, strict=True)))
    same(*(model.similarity(v.tolist(), list(v)) for model, v in zip(pair, vectors, strict=True)))


def test_features_of_the_model_itself(pair):
    ours, theirs = (model.preprocess(TEXTS, prompt="query: ") for model in pair)
    assert set(ours) == set(theirs)
    for key in theirs:
        assert (
            torch.equal(ours[key], theirs[key]) if isinstance(theirs[key], torch.Tensor) else ours[key] == theirs[key]
        )
    outputs = [model(model.preprocess(TEXTS))["sentence_embedding"] for model in pair]
    np.testing.assert_allclose(*(output.detach().numpy() for output in outputs), atol=PACKED)


def test_gradients_reach_the_same_weights(pair):
    grads = []
    for model in pair:
        model.zero_grad()
        model(model.preprocess(TEXTS))["sentence_embedding"][:, :4].sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name in grads[1]:
        np.testing.assert_allclose(grads[0][name], grads[1][name], atol=10 * PACKED, err_msg=name)
