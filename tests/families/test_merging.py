"""Merged models: the arithmetic on their weights, and what must be alike."""

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, load

from fourfold import SentenceTransformer, SparseEncoder
from fourfold.modules import Normalize, StaticEmbedding
from fourfold.testing import WIDTH, tiny, tiny_folder

pytest.importorskip("mergekit")
pytestmark = pytest.mark.filterwarnings("ignore")  # of its imports, on what transformers renamed
WEIGHT = "0.model.encoder.layer.0.attention.self.query.weight"


@pytest.fixture(scope="module")
def models():
    return [load(tiny_folder(seed=seed), prompts={"query": f"{seed} "}) for seed in range(3)]


def weight(model):
    return model.state_dict()[WEIGHT]


def close(a, b):
    return torch.allclose(a, b, rtol=0, atol=tolerances.FORMULA)


def test_the_mean_of_models(models):
    merged = SentenceTransformer.merge(models)
    assert close(weight(merged), sum(map(weight, models)) / 3)
    assert type(merged) is SentenceTransformer
    assert not merged.training
    assert merged.prompts == models[0].prompts
    assert merged._model_card_text is None
    assert merged.model_card_data is not models[0].model_card_data
    assert merged.encode(TEXTS).shape == models[0].encode(TEXTS).shape


def test_the_models_stay_as_they_are(models):
    before = [weight(model).clone() for model in models]
    merged = SentenceTransformer.merge(models)
    with torch.no_grad():
        weight(merged).zero_()
    assert all(torch.equal(weight(model), old) for model, old in zip(models, before, strict=True))


def test_weights_of_models(models):
    first, second, _ = map(weight, models)
    merged = SentenceTransformer.merge(models[:2], parameters={"weight": [1.0, 3.0]})
    assert close(weight(merged), (first + 3 * second) / 4)


def test_a_base_given_beside_or_among_the_models(models):
    first, second, base = map(weight, models)
    want = base + (first - base) + (second - base)
    for given in (models[:2], models):
        merged = SentenceTransformer.merge(given, "task_arithmetic", base_model=models[2])
        assert close(weight(merged), want)


def test_models_by_name(models, tmp_path):
    folders = [str(tiny_folder(seed=seed)) for seed in range(2)]
    merged = SentenceTransformer.merge(folders, "slerp", base_model=folders[0], truncate_dim=3)
    assert close(weight(merged), weight(SentenceTransformer.merge(models[:2], "slerp")))
    assert merged.truncate_dim == 3
    merged.save(tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").encode(TEXTS), merged.encode(TEXTS))


@pytest.mark.parametrize(
    ("options", "want"),
    [({}, torch.float32), ({"dtype": None}, torch.float16), ({"out_dtype": "bfloat16"}, torch.bfloat16)],
)
def test_types_of_the_result(options, want):
    halves = [load(tiny_folder(seed=seed), dtype=torch.float16) for seed in range(2)]
    assert SentenceTransformer.merge(halves, **options).dtype == want


def test_a_model_with_itself_is_itself(models):
    merged = SentenceTransformer.merge([models[0], models[0]])
    np.testing.assert_allclose(merged.encode(TEXTS), models[0].encode(TEXTS), rtol=0, atol=tolerances.BATCH)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"models": []}, ValueError, "at least two"),
        ({"models": [0]}, ValueError, "at least two"),
        ({"models": "a-name"}, ValueError, "at least two"),
        ({"models": [0, 7]}, TypeError, "got int"),
        ({"models": [0, torch.nn.Linear(2, 2)]}, TypeError, "got Linear"),
        ({"models": [0, 1], "dtype": "int8"}, ValueError, "dtype must be None or one of"),
        ({"models": [0, 1], "out_dtype": torch.int8}, ValueError, "out_dtype must be"),
        ({"models": [0, 1], "base_model": 2}, ValueError, "has no base model"),
        ({"models": [0, 1], "method": "task_arithmetic"}, ValueError, "base"),
        ({"models": [0, 1], "parameters": {"nonsense": 1}}, TypeError, "nonsense"),
    ],
)
def test_misuse(models, arguments, error, match):
    def meant(value):
        return models[value] if isinstance(value, int) and value < 3 else value

    given = {**arguments, "models": arguments["models"]}
    if isinstance(given["models"], list):
        given["models"] = [meant(item) for item in given["models"]]
    if "base_model" in given:
        given["base_model"] = meant(given["base_model"])
    with pytest.raises(error, match=match):
        SentenceTransformer.merge(**given)


def other(kind):
    model = load(tiny_folder(seed=1))
    if kind == "modules":
        return load(tiny_folder("dense", "distilbert"))
    if kind == "settings":
        model.set_pooling_include_prompt(False)
    elif kind == "config":
        model.config.hidden_dropout_prob = 0.3
    elif kind == "vocabulary":
        model.tokenizer.add_tokens(["newtoken"])
    elif kind == "adapters":
        peft = pytest.importorskip("peft")
        model.add_adapter(peft.LoraConfig(target_modules=["query"]))
    elif kind == "ties":
        layers = model[0].model.encoder.layer
        layers[1].output.dense.weight = layers[0].output.dense.weight
    elif kind == "backend":
        model.backend = "onnx"
    elif kind == "quantized":
        model[0].model.is_quantized = True
    return model


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("modules", "other modules"), ("settings", "'1' of model 1 has other settings.*include_prompt"),
        ("config", "hidden_dropout_prob"), ("vocabulary", "vocabulary"), ("adapters", "adapters"),
        ("ties", "ties other weights"), ("backend", "torch backend"), ("quantized", "quantized"),
    ],
)  # fmt: skip
def test_what_must_be_alike(models, kind, match):
    with pytest.raises(ValueError, match=match):
        SentenceTransformer.merge([models[0], other(kind)])


def test_static_models_are_merged_too():
    pair = [tiny("dense", "static", seed=seed) for seed in range(2)]
    merged = SentenceTransformer.merge(pair)
    name = "0.embedding.weight"
    assert close(merged.state_dict()[name], sum(model.state_dict()[name] for model in pair) / 2)


def test_other_modules_need_the_same_names():
    first = SentenceTransformer(modules={"a": StaticEmbedding.example(), "b": Normalize()}, device="cpu")
    second = SentenceTransformer(modules={"a": StaticEmbedding.example(), "c": Normalize()}, device="cpu")
    with pytest.raises(ValueError, match="other modules"):
        SentenceTransformer.merge([first, second])


def test_without_mergekit_it_says_what_to_install(monkeypatch, models):
    from fourfold import errors

    monkeypatch.setattr(errors, "installed", lambda package: package != "mergekit")
    with pytest.raises(ImportError, match="fourfold\\[merge\\]"):
        SentenceTransformer.merge(models)


@pytest.mark.parametrize("kind", ["bert", "qwen3", "static"])
def test_sparse_models_are_merged_too(kind, tmp_path):
    pair = [tiny("sparse", kind, seed=seed) for seed in range(2)]
    pair[0].encode(TEXTS)  # now its pooling knows the size of the vocabulary, and the other's does not
    if kind == "qwen3":
        pair[0][2].stats_last_nonzero += 3
        pair[1][2].stats_last_nonzero[1:] += 5
    merged = SparseEncoder.merge(pair)
    if kind == "qwen3":
        assert merged[2].stats_last_nonzero.tolist() == [0, *[3] * (4 * WIDTH - 1)]
    states = [model.state_dict() for model in pair]
    for name, tensor in merged.state_dict().items():
        if tensor.is_floating_point():
            assert close(tensor, (states[0][name] + states[1][name]) / 2), name
    assert merged.model_card_data.get_default_model_name() == pair[0].model_card_data.get_default_model_name()
    want = merged.encode(TEXTS).to_dense()
    merged.save(tmp_path / "m")
    assert torch.equal(SparseEncoder(str(tmp_path / "m"), device="cpu").encode(TEXTS).to_dense(), want)


def test_sparse_models_with_other_settings_are_not_merged():
    pair = [tiny("sparse"), tiny("sparse", seed=1)]
    pair[1][1].activation_function = "log1p_relu"
    with pytest.raises(ValueError, match=r"'1' of model 1 has other settings.*activation_function"):
        SparseEncoder.merge(pair)
    with pytest.raises(TypeError, match="SparseEncoder"):
        SparseEncoder.merge([tiny("sparse"), tiny()])
