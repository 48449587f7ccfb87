"""What a folder may lack or hold too much of, module by module: both libraries load it, or neither does."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.support import TEXTS, wordpiece
from tests.tolerances import PACKED

from fourfold import SentenceTransformer, modules
from fourfold.errors import FourfoldError
from fourfold.modules import tokenizer as tokenizers
from fourfold.testing import WIDTH, checkpoint

WORDS = ["PADDING_TOKEN", "the", "quick", "brown", "fox"]


def words():
    return modules.WordEmbeddings(tokenizers.WhitespaceTokenizer(WORDS), torch.ones(len(WORDS), 8))


def static():
    torch.manual_seed(0)
    return modules.StaticEmbedding(wordpiece(), torch.randn(wordpiece().get_vocab_size(), 8))


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    folder = checkpoint("bert", tmp_path_factory.mktemp("layered") / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "output_hidden_states": True}))
    return str(folder)


# A model that holds the module, at the position that is changed.
MODELS = {
    "Transformer": (0, lambda path: [modules.Transformer(path), modules.Pooling(WIDTH)]),
    "Pooling": (1, lambda path: [modules.Transformer(path), modules.Pooling(WIDTH)]),
    "WeightedLayerPooling": (
        1,
        lambda path: [modules.Transformer(path), modules.WeightedLayerPooling(WIDTH, 2, 1), modules.Pooling(WIDTH)],
    ),
    "StaticEmbedding": (0, lambda path: [static()]),
    "Dense": (1, lambda path: [static(), modules.Dense(8, 4)]),
    "LayerNorm": (1, lambda path: [static(), modules.LayerNorm(8)]),
    "Dropout": (1, lambda path: [static(), modules.Dropout(0.1)]),
    "Normalize": (1, lambda path: [static(), modules.Normalize()]),
    "Router": (1, lambda path: [static(), modules.Router({"a": [modules.Dense(8, 4)]})]),
    "BoW": (0, lambda path: [modules.BoW(WORDS)]),
    "WordEmbeddings": (0, lambda path: [words(), modules.Pooling(8)]),
    "WordWeights": (1, lambda path: [words(), modules.WordWeights(WORDS, {"fox": 2.0}), modules.Pooling(8)]),
    "CNN": (1, lambda path: [words(), modules.CNN(8, 4, [1, 3]), modules.Pooling(8)]),
    "LSTM": (1, lambda path: [words(), modules.LSTM(8, 4), modules.Pooling(8)]),
}


@pytest.fixture(params=MODELS)
def case(request, layered, tmp_path):
    """Return the module's folder, its class and the model's folder."""
    torch.manual_seed(0)
    position, make = MODELS[request.param]
    folder = tmp_path / "model"
    model = SentenceTransformer(modules=make(layered), device="cpu")
    model.save(str(folder))
    path = json.loads((folder / "modules.json").read_text())[position]["path"]
    return folder / path, type(model[position]), folder


def outcome(cls, folder):
    try:
        return cls(str(folder), device="cpu").encode(TEXTS)
    except Exception as error:
        return error


def same(st, folder):
    """Both load and agree, or both fail with the same kind of error; ours is one of our own."""
    wanted, got = outcome(st.SentenceTransformer, folder), outcome(SentenceTransformer, folder)
    if isinstance(wanted, Exception):
        assert isinstance(got, (FourfoldError, OSError)), (got, wanted)
        kinds = [kind for kind in type(wanted).__mro__ if kind not in (Exception, BaseException, object)]
        assert any(isinstance(got, kind) for kind in kinds), (type(got).__mro__, wanted)
        assert str(folder) in str(got)
        return "refused"
    assert not isinstance(got, Exception), got
    np.testing.assert_allclose(got, wanted, atol=PACKED)
    return "loaded"


def change(file, function):
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(function(settings) or settings))


WITHOUT_SETTINGS = {"Transformer", "StaticEmbedding", "Normalize", "Dropout"}


def test_settings_absent(st, case):
    inside, cls, folder = case
    file = inside / cls.config_file_name
    if not cls.config_keys:
        pytest.skip("has no settings")
    file.unlink()
    assert (same(st, folder) == "loaded") is (cls.__name__ in WITHOUT_SETTINGS)


@pytest.mark.parametrize("content", ["{}", "[]", "3", '"x"', "{", ""])
def test_settings_of_another_kind(st, case, content):
    inside, cls, folder = case
    if not cls.config_keys:
        pytest.skip("has no settings")
    (inside / cls.config_file_name).write_text(content)
    if content == "{}":
        same(st, folder)
        return
    # The older library fails over these in many ways; ours says that the file is no object.
    got = outcome(SentenceTransformer, folder)
    assert isinstance(got, FourfoldError)
    assert f"{cls.config_file_name}" in str(got)


def test_an_unknown_key(st, case):
    inside, cls, folder = case
    if not cls.config_keys:
        pytest.skip("has no settings")

    def add(settings):
        settings.get("parameters", settings)["unheard_of"] = 3

    change(inside / cls.config_file_name, add)
    assert (same(st, folder) == "loaded") is (cls.__name__ in {"Dense", "Normalize"})


def test_weights_absent(st, case):
    inside, cls, folder = case
    file = inside / "model.safetensors"
    if not file.exists():
        pytest.skip("has no weights")
    file.unlink()
    # The weights of words are settings too; the file holds what training made of them.
    assert (same(st, folder) == "refused") is (cls.__name__ != "WordWeights")


@pytest.mark.parametrize("how", ["more", "fewer"])
def test_weights_that_do_not_fit(st, case, how):
    from safetensors.torch import load_file, save_file

    inside, cls, folder = case
    file = inside / "model.safetensors"
    if not file.exists() or cls.__name__ in ("Transformer", "StaticEmbedding", "WordWeights"):
        pytest.skip("transformers' business, or settings say it as well")
    tensors = load_file(file)
    if how == "more":
        tensors["unheard.of"] = torch.ones(1)
    else:
        tensors.pop(next(iter(tensors)))
        tensors["other"] = torch.ones(1)
    save_file(tensors, file)
    takes_more = how == "more" and cls.__name__ == "WordEmbeddings"
    assert (same(st, folder) == "loaded") is takes_more


OLD_KEYS = {
    "Pooling": {"embedding_dimension": "word_embedding_dimension"},
    "WeightedLayerPooling": {"embedding_dimension": "word_embedding_dimension"},
    "LSTM": {"embedding_dimension": "word_embedding_dimension"},
    "CNN": {"in_embedding_dimension": "in_word_embedding_dimension"},
}


def test_older_keys(st, case):
    inside, cls, folder = case
    old = OLD_KEYS.get(cls.__name__)
    if old is None:
        pytest.skip("has had the same keys ever since")
    new, older = next(iter(old.items()))
    change(inside / cls.config_file_name, lambda settings: {older: settings.pop(new), **settings})
    assert same(st, folder) == "loaded"


@pytest.mark.parametrize("file", ["tokenizer.json", "modules.json"])
def test_both_refuse_without(st, case, file):
    _, _, folder = case
    if not (folder / file).exists():
        pytest.skip("has no such file")
    (folder / file).unlink()
    wanted, got = outcome(st.SentenceTransformer, folder), outcome(SentenceTransformer, folder)
    assert isinstance(got, Exception) is isinstance(wanted, Exception), (got, wanted)


def test_a_folder_of_a_subfolder_is_a_folder(st, case, tmp_path):
    _, _, folder = case
    shutil.move(str(folder), str(tmp_path / "a b"))
    assert same(st, tmp_path / "a b") == "loaded"
