"""A graph in the place of a transformers model: what is exported for it, what it takes and gives, its file's life."""

import copy
import gc

import numpy as np
import pytest
import torch
from tests.graphs import handmade, one_layer
from tests.tolerances import PACKED

from fourfold import SentenceTransformer
from fourfold.errors import InputError
from fourfold.modules import Pooling, Transformer, _runtime
from fourfold.testing import ARCHITECTURES, tiny

INPUTS = {"input_ids": ["rows", "tokens"], "attention_mask": ["rows", "tokens"]}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_which_graphs_take_segments(architecture):
    model = tiny("dense", architecture)[0].model
    feeds = _runtime.example_feeds(model)
    assert ("token_type_ids" in feeds) == (architecture in ("albert", "bert", "electra"))
    assert {(value.dtype, value.shape) for value in feeds.values()} == {(torch.int64, feeds["input_ids"].shape)}
    assert feeds["attention_mask"].sum(1).unique().numel() > 1
    assert 0 <= int(feeds["input_ids"].min()) <= int(feeds["input_ids"].max()) < model.config.vocab_size


def test_segments_of_a_model_that_may_have_them(tmp_path):
    for kinds in (0, 2):
        folder = one_layer("deberta_v2", tmp_path / str(kinds), type_vocab_size=kinds)
        assert _runtime.takes_segments(Transformer(folder).model) == (kinds > 0)


@pytest.fixture
def exported(monkeypatch):
    """Models that would be exported; each becomes a graph written by hand."""
    seen = []

    def export_model(kind, model, task, path):
        seen.append((kind, model.dtype, task))
        handmade(path, INPUTS)

    monkeypatch.setattr(_runtime, "export_model", export_model)
    return seen


def test_a_checkpoint_in_half_precision_is_exported_in_float32(tmp_path, exported):
    tiny("dense").half()[0].save(str(tmp_path))
    assert Transformer.load(str(tmp_path)).model.dtype == torch.float16
    for options in ({}, {"dtype": "float16", "provider": "CPUExecutionProvider"}):
        Transformer.load(str(tmp_path), backend="onnx", model_kwargs=options)
    assert exported == [("onnx", dtype, "feature-extraction") for dtype in (torch.float32, torch.float16)]


@pytest.mark.usefixtures("exported")
def test_what_was_exported_for_a_load_goes_with_the_model_and_its_copies(tmp_path):
    module = Transformer(one_layer("bert", tmp_path / "model"), backend="onnx")
    file, copied = module.model.file, copy.deepcopy(module)
    del module
    gc.collect()
    copied.save(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "onnx" / "model.onnx").read_bytes() == file.read_bytes()
    del copied
    gc.collect()
    assert not file.parent.exists()


@pytest.mark.usefixtures("exported")
def test_what_a_graph_gives(tmp_path):
    model = Transformer(one_layer("bert", tmp_path), backend="onnx").model
    found = model(torch.tensor([[3, 4]]), torch.tensor([[1, 1]]))
    assert found.last_hidden_state is found[0] is found["last_hidden_state"]
    assert "last_hidden_state" in found
    assert "hidden_states" not in found
    with pytest.raises(AttributeError, match="pooler_output"):
        found.pooler_output  # noqa: B018
    with pytest.raises(InputError, match="takes texts alone, got pixel_values"):
        model(pixel_values=torch.zeros(1))
    assert (model.device, model.name_or_path) == (torch.device("cpu"), str(tmp_path))


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.usefixtures("exported")
def test_what_is_compiled_around_a_graph_leaves_it_alone(tmp_path):
    model = SentenceTransformer(modules=[Transformer(one_layer("bert", tmp_path), backend="onnx"), Pooling(32)])
    features = model.preprocess(["the world", "a text of the world"])
    compiled = torch.compile(model, backend="eager")
    for _ in range(2):
        found = compiled(dict(features))["sentence_embedding"]
        torch.testing.assert_close(found, model(dict(features))["sentence_embedding"], atol=PACKED, rtol=0)
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_a_worker_runs_a_graph(tmp_path):
    modules = [Transformer(one_layer("bert", tmp_path), backend="onnx"), Pooling(32)]
    model = SentenceTransformer(modules=modules, device="cpu", backend="onnx")
    texts = [f"{'the world of ' * (number % 17)}{number}" for number in range(40)]
    pool = model.start_multi_process_pool(["cpu"])
    try:
        np.testing.assert_allclose(model.encode(texts, pool=pool, chunk_size=7), model.encode(texts), atol=PACKED)
    finally:
        model.stop_multi_process_pool(pool)
