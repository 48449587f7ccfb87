"""Worker processes: the same results, forms and errors as the older library's, for a pool and for a list of devices."""

import inspect
import logging

import numpy as np
import pytest
import torch
from tests.support import TEXTS
from tests.tolerances import PACKED

from fourfold import SentenceTransformer
from fourfold.testing import tiny_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(st):
    folder = str(tiny_folder("dense", "bert"))
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    return [cls(folder, device="cpu") for cls in (SentenceTransformer, st.SentenceTransformer)]


@pytest.fixture(scope="module")
def pools(pair):
    made = [model.start_multi_process_pool(["cpu"]) for model in pair]
    yield made
    for model, pool in zip(pair, made, strict=True):
        type(model).stop_multi_process_pool(pool)


def same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
        return
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    if isinstance(theirs, torch.Tensor):
        assert ours.device == theirs.device
    off = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
    assert (off.max(initial=0) <= PACKED) if "float" in str(theirs.dtype) else ((off > 1).mean() < 0.01)


def test_the_pool_has_the_same_keys(pools):
    ours, theirs = pools
    assert set(ours) == set(theirs)
    assert len(ours["processes"]) == len(theirs["processes"]) == 1
    assert all(process.daemon for pool in pools for process in pool["processes"])


def test_the_model_is_left_on_the_cpu_in_shared_memory(pair, pools):
    for model in pair:
        assert model.device.type == "cpu"
        assert all(parameter.is_shared() for parameter in model.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {}, {"convert_to_tensor": True}, {"convert_to_numpy": False}, {"normalize_embeddings": True, "truncate_dim": 7},
        {"precision": "uint8"}, {"precision": "binary", "convert_to_tensor": True}, {"chunk_size": 2},
        {"output_value": "token_embeddings"}, {"prompt": "the query "},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("inputs", [TEXTS, TEXTS[0], []], ids=["batch", "one", "empty"])
def test_results(pair, pools, inputs, options):
    results = []
    for model, pool in zip(pair, pools, strict=True):
        try:
            results.append(model.encode(inputs, pool=pool, **options))
        except Exception as error:
            results.append(error)
    if isinstance(results[1], Exception):
        assert isinstance(results[0], type(results[1]))
    else:
        same(*results)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"inputs": TEXTS, "chunk_size": 0}, ValueError), ({"inputs": [None]}, ValueError),
     ({"inputs": TEXTS, "output_value": "nothing"}, KeyError), ({"inputs": TEXTS, "wrong": 1}, ValueError)],
    ids=str,
)  # fmt: skip
def test_the_same_misuse_is_the_same_error_and_the_pool_survives(pair, pools, arguments, error):
    for model, pool in zip(pair, pools, strict=True):
        with pytest.raises(error):
            model.encode(pool=pool, **arguments)
        assert len(model.encode(TEXTS, pool=pool)) == len(TEXTS)


def test_a_list_of_devices(pair):
    same(*(model.encode(TEXTS, device=["cpu"]) for model in pair))
    for model in pair:
        with pytest.raises((TypeError, ValueError)):
            model.encode(TEXTS, device=[])


def test_the_older_name(pair, pools):
    results = []
    for model, pool in zip(pair, pools, strict=True):
        with pytest.warns(DeprecationWarning, match="encode_multi_process"):
            results.append(model.encode_multi_process(TEXTS, pool, normalize_embeddings=True))
    same(*results)


@pytest.mark.parametrize(
    "name",
    ["encode", "encode_query", "encode_document", "encode_multi_process", "start_multi_process_pool",
     "stop_multi_process_pool"],
)  # fmt: skip
def test_arguments_have_the_same_names_order_and_defaults(pair, name):
    ours, theirs = (
        [(p.name, p.kind, p.default) for p in inspect.signature(getattr(type(model), name)).parameters.values()]
        for model in pair
    )
    if name.startswith("encode") and name != "encode_multi_process":
        ours = [(a, b, theirs[i][2] if a == "inputs" else c) for i, (a, b, c) in enumerate(ours)]
    assert ours == theirs
