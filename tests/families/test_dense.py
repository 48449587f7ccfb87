"""What is the dense family's own: its default modules, similarities, widths and older names."""

import json
import logging

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, load, read_json, saved_with

from fourfold import SentenceTransformer, SimilarityFunction
from fourfold.modules import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from fourfold.testing import WIDTH, checkpoint, tiny, tiny_folder


@pytest.mark.parametrize(("saved", "want"), [("dot", "dot"), (None, "cosine"), ("maxsim", "cosine"), ("x", "cosine")])
def test_a_saved_similarity_is_used_if_it_is_known(tmp_path, saved, want):
    folder = saved_with(tmp_path / "m", tiny_folder(), similarity_fn_name=saved)
    assert load(folder).similarity_fn_name == want
    assert load(folder, similarity_fn_name="euclidean").similarity_fn_name == "euclidean"


def test_a_saved_truncation_is_used(tmp_path):
    folder = saved_with(tmp_path / "m", tiny_folder(), truncate_dim=7)
    assert load(folder).encode("a").shape == (7,)
    assert load(folder, truncate_dim=3).encode("a").shape == (3,)


def test_dimensions():
    assert tiny().get_embedding_dimension() == WIDTH
    assert tiny(truncate_dim=5).get_embedding_dimension() == 5
    assert tiny(truncate_dim=500).get_embedding_dimension() == WIDTH
    model = SentenceTransformer(modules=[StaticEmbedding.example(), Dense(8, 3), Normalize()], device="cpu")
    assert model.get_embedding_dimension() == 3
    with pytest.warns(FutureWarning, match="get_embedding_dimension"):
        assert model.get_sentence_embedding_dimension() == 3


def test_the_dimension_of_an_older_module_counts():
    class Older(Normalize):
        def get_sentence_embedding_dimension(self):
            return 99

    assert (
        SentenceTransformer(modules=[StaticEmbedding.example(), Older()], device="cpu").get_embedding_dimension() == 99
    )


def test_the_similarity_is_cosine_unless_set():
    model = tiny()
    assert model.similarity_fn_name == "cosine"
    model.similarity_fn_name = SimilarityFunction.DOT
    assert model.similarity_fn_name == "dot"
    model.similarity_fn_name = None
    assert model.similarity_fn_name == "cosine"
    assert SentenceTransformer.SUPPORTED_SIMILARITY_FN_NAMES == ("cosine", "dot", "euclidean", "manhattan")


@pytest.mark.parametrize("wrong", ["dot_score", "Cosine", 3, "maxsim"])
def test_unknown_similarities_are_refused_at_once(wrong):
    with pytest.raises(ValueError, match="similarity"):
        tiny(similarity_fn_name=wrong)
    model = tiny()
    with pytest.raises(ValueError, match="similarity"):
        model.similarity_fn_name = wrong


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities_are_tensors(name):
    model = tiny(similarity_fn_name=name)
    rows = model.encode(TEXTS)
    pairs = model.similarity(rows[:3], rows)
    assert type(pairs) is torch.Tensor
    assert pairs.shape == (3, len(TEXTS))
    np.testing.assert_allclose(
        pairs.diagonal(), model.similarity_pairwise(rows[:3], rows[:3]), rtol=0, atol=tolerances.PACKED
    )
    assert model.similarity(rows[0], rows[1]).shape == (1, 1)
    assert model.similarity_pairwise(rows[0], rows[1]).shape == ()
    if name in ("euclidean", "manhattan"):
        assert pairs.max() <= 0


def test_a_plain_checkpoint_gets_mean_pooling(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        model = load(checkpoint("bert", tmp_path))
    assert [type(module) for module in model] == [Transformer, Pooling]
    assert model[1].pooling_mode == "mean"
    assert model[1].embedding_dimension == WIDTH
    assert "no modules.json" in caplog.text
    assert model.prompts == {"query": "", "document": ""}


@pytest.mark.parametrize(
    ("architecture", "causal", "mode"),
    [("Qwen3ForCausalLM", None, "lasttoken"), ("Qwen3ForCausalLM", False, "mean"), ("Qwen3Model", None, "mean")],
)
def test_a_causal_checkpoint_gets_its_last_token(tmp_path, architecture, causal, mode):
    checkpoint("qwen3", tmp_path)
    config = read_json(tmp_path / "config.json")
    config["architectures"] = [architecture]
    if causal is not None:
        config["is_causal"] = causal
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load(tmp_path)[1].pooling_mode == mode
