"""Published graphs without torch: what follows them in numpy, beside the modules of torch."""

import json

import numpy as np
import pytest
import torch
from tests.graphs import handmade, table

import fourfold
from fourfold import CrossEncoder, SentenceTransformer, SparseEncoder
from fourfold.backends._tail import published
from fourfold.modules import CNN, Dense, Normalize, Pooling, SpladePooling, Transformer
from fourfold.store.source import Source
from fourfold.testing import checkpoint

TEXTS = ["a query", "the text of a document is long and short and in the world", "world", ""]
INPUTS = {"input_ids": ["rows", "tokens"], "attention_mask": ["rows", "tokens"]}
EVERY_MODE = ["cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean"]
CLOSE = 1e-5


class Table(torch.nn.Module):
    """What the graph by hand does: a row of its table for each token, plus the mask."""

    def forward(self, features):
        rows = torch.from_numpy(table())[features["input_ids"]]
        return {**features, "token_embeddings": rows + features["attention_mask"][:, :, None]}


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("body"), num_hidden_layers=1))


def written(folder, cls, body, *modules, **options):
    """Write a model's folder with a graph by hand in the place of its transformer's weights."""
    model = cls(modules=[Transformer(body, **options), *modules], device="cpu")
    model.save(folder, create_model_card=False)
    (folder / "model.safetensors").unlink()
    handmade(folder / "onnx" / "model.onnx", INPUTS)
    return model


def through(model, modules):
    """Return what torch's modules make of the graph's numbers."""
    features = Table()(model.preprocess(TEXTS))
    for module in modules:
        features = module(features)
    return features["sentence_embedding"].detach().numpy()


@pytest.mark.parametrize("modes", [*EVERY_MODE, EVERY_MODE], ids=str)
def test_pooling(tmp_path, body, modes):
    modules = [Pooling(32, modes), Normalize()]
    model = written(tmp_path, SentenceTransformer, body, *modules)
    encoder = fourfold.load(tmp_path, backend="onnx")
    assert type(encoder).__name__ == "GraphDenseEncoder"
    assert np.abs(encoder.encode(TEXTS) - through(model, modules)).max() < CLOSE
    assert encoder.get_embedding_dimension() == 32 * (len(modes) if isinstance(modes, list) else 1)


@pytest.mark.parametrize(
    "activation", [torch.nn.Tanh(), torch.nn.Sigmoid(), torch.nn.ReLU(), torch.nn.Identity()], ids=str
)
def test_dense_layers(tmp_path, body, activation):
    modules = [Pooling(32), Dense(32, 8, activation_function=activation), Dense(8, 4, bias=False)]
    model = written(tmp_path, SentenceTransformer, body, *modules)
    rows = fourfold.load(tmp_path, backend="onnx").encode(TEXTS)
    assert np.abs(rows - through(model, modules)).max() < CLOSE


@pytest.mark.parametrize("strategy", ["max", "sum", "mean"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_the_splade_head(tmp_path, body, strategy, activation):
    modules = [SpladePooling(strategy, activation)]
    model = written(tmp_path, SparseEncoder, body, *modules)
    rows = fourfold.load(tmp_path, backend="onnx").encode(TEXTS)
    assert np.abs(rows.dense() - through(model, modules)).max() < CLOSE


def test_prompts_lengths_and_similarity_are_the_folders(tmp_path, body):
    model = SentenceTransformer(
        modules=[Transformer(body, max_seq_length=9), Pooling(32)], prompts={"query": "query: "},
        similarity_fn_name="dot", device="cpu",
    )  # fmt: skip
    model.save(tmp_path)
    handmade(tmp_path / "onnx" / "model.onnx", INPUTS)
    encoder = fourfold.load(tmp_path, backend="onnx")
    assert encoder.similarity_fn_name == "dot"
    long = "the text " * 30
    assert np.array_equal(encoder.encode_query(long), encoder.encode(f"query: {long}"))
    assert np.allclose(encoder.encode(long), encoder.encode("the text " * 3 + "the"))


@pytest.fixture
def classifier(tmp_path):
    checkpoint("bert", tmp_path, head="labels", num_labels=1, num_hidden_layers=1)
    handmade(tmp_path / "onnx" / "model.onnx", INPUTS, output="logits", width=1)
    return tmp_path


@pytest.mark.parametrize(
    ("key", "path", "same"),
    [
        (None, None, "sigmoid"),
        ("sbert_ce_default_activation_function", "torch.nn.modules.linear.Identity", "identity"),
        ("sentence_transformers", {"activation_fn": "torch.nn.modules.activation.Tanh"}, "tanh"),
    ],
)
def test_a_checkpoint_that_classifies(classifier, monkeypatch, key, path, same):
    config = json.loads((classifier / "config.json").read_text())
    (classifier / "config.json").write_text(json.dumps({**config, **({} if key is None else {key: path})}))
    found, tail = published(Source(str(classifier)), "onnx")
    assert found.model_type == CrossEncoder.model_type
    logits = np.array([[-2.0], [0.5]], np.float32)
    wanted = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "identity": torch.positive}[same](torch.from_numpy(logits))
    assert np.allclose(tail(logits, np.ones((2, 1), np.int64)), wanted.numpy(), atol=1e-6)
    assert np.array_equal(tail(logits, np.ones((2, 1), np.int64), raw=True), logits)


@pytest.mark.parametrize(
    "modules",
    [
        [Pooling(32, include_prompt=False)],
        [Pooling(32), Dense(32, 8, activation_function=torch.nn.GELU())],
        [Pooling(32), Dense(32, 32, use_residual=True)],
        [CNN(32, 8), Pooling(24)],
        [],
    ],
    ids=["prompt left out", "another activation", "residual", "another module", "no pooling"],
)
def test_what_numpy_does_not_do_is_left_to_torch(tmp_path, body, modules):
    written(tmp_path, SentenceTransformer, body, *modules)
    assert published(Source(str(tmp_path)), "onnx") is None


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": True},
        {"query_length": 8},
        {"modality_config": {"message": {"method": "forward", "method_output_name": "last_hidden_state"}}},
    ],
    ids=str,
)
def test_a_transformer_that_does_more_is_left_to_torch(tmp_path, body, settings):
    written(tmp_path, SentenceTransformer, body, Pooling(32))
    file = tmp_path / "sentence_bert_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    assert published(Source(str(tmp_path)), "onnx") is None


def test_a_tokenizer_that_transformers_would_change_is_left_to_torch(tmp_path, body):
    written(tmp_path, SentenceTransformer, body, Pooling(32))
    assert published(Source(str(tmp_path)), "onnx") is not None
    file = tmp_path / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "tokenizer_class": "MyTokenizer"}))
    assert published(Source(str(tmp_path)), "onnx") is None
    file.write_text(json.dumps({**settings, "cls_token": "[ANOTHER]"}))
    assert published(Source(str(tmp_path)), "onnx") is None


def test_a_folder_without_weights_runs_on_its_graph_unasked(tmp_path, body):
    written(tmp_path, SentenceTransformer, body, Pooling(32))
    assert fourfold.load(tmp_path).backend == "onnx"
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(fourfold.errors.FolderError, match=r"model\.safetensors"):
        fourfold.load(tmp_path)


def test_a_compiled_graph_opens_again(tmp_path, body):
    model = written(tmp_path / "model", SentenceTransformer, body, Pooling(32))
    wanted = through(model, [Pooling(32)])
    for _ in range(2):
        options = {"compile_cache": str(tmp_path / "compiled")}
        encoder = fourfold.load(tmp_path / "model", backend="onnx", model_kwargs=options)
        assert np.abs(encoder.encode(TEXTS) - wanted).max() < CLOSE
        assert len(list((tmp_path / "compiled").iterdir())) == 1
