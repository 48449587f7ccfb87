"""Models on ONNX and OpenVINO give the numbers of the older library's torch, whatever their architecture."""

from functools import cache

import numpy as np
import pytest
import torch
from tests import graphs
from tests.graphs import load
from tests.support import TEXTS
from tests.tolerances import PACKED

from fourfold import CrossEncoder, SentenceTransformer, SparseEncoder
from fourfold.runtimes import KINDS
from fourfold.testing import ARCHITECTURES

pytestmark = pytest.mark.usefixtures("traced_once")

CHOSEN = ["bert", "roberta", "xlm_roberta", "distilbert", "mpnet", "modernbert", "deberta_v2", "qwen3", "t5"]
VARIED = [f"{'the world of ' * (number % 17)}{number}" for number in range(40)]
PAIRS = [("the query", "a document"), ("the query", "the long text of the world " * 5), ("", ""), ("short", "x")]


def made(name, folder):
    if name in ARCHITECTURES:
        return graphs.dense(folder, name, pooling_mode="lasttoken" if name == "qwen3" else "mean")
    return {"splade": graphs.sparse, "cross": graphs.cross}[name](folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a function that gives a model's folder with its weights, and one with graphs."""
    root = tmp_path_factory.mktemp("models")
    return cache(lambda name: graphs.published(made(name, root / name / "checkpoint"), root / name))


SEGMENTS = {"bert"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", CHOSEN)
def test_vectors_equal(st, folders, architecture, kind):
    plain, exported = folders(architecture)
    wanted = st.SentenceTransformer(str(plain), device="cpu").encode(TEXTS + VARIED)
    ours = load(SentenceTransformer, exported, kind)
    assert (ours.backend, ours.get_backend()) == (kind, kind)
    np.testing.assert_allclose(ours.encode(TEXTS + VARIED), wanted, atol=PACKED)
    assert (wanted @ wanted.T).min() < 0.999
    graph = ours[0].model.graph
    segments = ["token_type_ids"] * (architecture in SEGMENTS)
    assert sorted(graph.inputs) == sorted(["input_ids", "attention_mask", *segments])
    assert set(graph.inputs.values()) == {(None, None)}
    assert "last_hidden_state" in graph.outputs


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_rows_equal(st, folders, kind):
    plain, exported = folders("splade")
    wanted = st.SparseEncoder(str(plain), device="cpu").encode(TEXTS)
    ours = load(SparseEncoder, exported, kind)
    np.testing.assert_allclose(ours.encode(TEXTS).to_dense(), wanted.to_dense(), atol=PACKED)
    assert "logits" in ours[0].model.graph.outputs


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal(st, folders, kind):
    plain, exported = folders("cross")
    wanted = st.CrossEncoder(str(plain), device="cpu").predict(PAIRS)
    ours = load(CrossEncoder, exported, kind)
    np.testing.assert_allclose(ours.predict(PAIRS), wanted, atol=PACKED)
    assert "logits" in ours[0].model.graph.outputs


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_scores_by_its_last_position(tmp_path, kind):
    graphs.generative(tmp_path / "checkpoint", 20).save(str(tmp_path / "model"))
    (tmp_path / "model" / "model.safetensors").unlink()
    inputs = {name: ["rows", "tokens"] for name in ("input_ids", "attention_mask", "position_ids")}
    graphs.convert(graphs.handmade(tmp_path / "model" / "onnx" / "model.onnx", inputs, output="logits"))
    model = load(CrossEncoder, tmp_path / "model", kind)
    tokenizer = model.tokenizer
    wanted = [graphs.table()[tokenizer.sep_token_id, 20] + len(tokenizer(*pair).input_ids) for pair in PAIRS]
    got = model.predict(PAIRS, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(got, wanted, rtol=PACKED)


def test_layers_that_stay_in_float32_are_for_torch(folders):
    with pytest.raises(ValueError, match="needs backend='torch'"):
        load(CrossEncoder, folders("cross")[1], "onnx").set_keep_in_fp32_modules(["0.model.classifier"])
