"""Modules that others wrote for the features dictionary."""

import json
import textwrap
from typing import ClassVar

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS

from fourfold import SentenceTransformer
from fourfold.errors import FolderError
from fourfold.modules import InputModule, Module, Normalize, Pooling, Transformer
from fourfold.testing import WIDTH, checkpoint, tiny


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("bert")))


class Doubled(Module):
    """Knows only padded features."""

    def forward(self, features, **kwargs):
        assert features["token_embeddings"].shape[:2] == features["attention_mask"].shape
        features["token_embeddings"] = features["token_embeddings"] * 2
        return features

    def save(self, output_path, *args, safe_serialization=True, **kwargs):
        self.save_config(output_path)


class Bare(torch.nn.Module):
    """Not even one of ours."""

    def forward(self, features):
        assert "attention_mask" in features
        features["token_embeddings"] = features["token_embeddings"] * 2
        return features


@pytest.mark.parametrize("kind", [Doubled, Bare])
def test_a_module_that_knows_no_packing_gets_padded_features_and_the_same_numbers(bert, kind):
    plain = SentenceTransformer(modules=[Transformer(bert), Pooling(WIDTH)], device="cpu")
    model = SentenceTransformer(modules=[Transformer(bert), kind(), Pooling(WIDTH)], device="cpu")
    assert model[0].packed
    np.testing.assert_allclose(model.encode(TEXTS) / 2, plain.encode(TEXTS), rtol=0, atol=tolerances.PACKED)


class Letters(InputModule):
    """The older interface: tokenize alone."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def tokenize(self, texts, **kwargs):
        self.seen.append(list(texts))
        return {"lengths": torch.tensor([[float(len(text)), text.count("a")] for text in texts])}

    def forward(self, features, **kwargs):
        features["sentence_embedding"] = features["lengths"]
        return features

    def save(self, output_path, *args, **kwargs):
        pass


def test_a_first_module_with_only_tokenize():
    model = SentenceTransformer(modules=[Letters()], device="cpu")
    assert model.encode(["aab", "", "c" * 40]).tolist() == [[3, 2], [0, 0], [40, 0]]
    assert model.encode("a", prompt="xx").tolist() == [3, 1]
    assert model[0].seen[-1] == ["xxa"]


def test_its_batches_have_at_most_batch_size_inputs():
    model = SentenceTransformer(modules=[Letters()], device="cpu")
    texts = ["a" * i for i in range(50)]
    assert model.encode(texts, batch_size=8)[:, 0].tolist() == list(range(50))
    assert max(map(len, model[0].seen)) == 8


class Numbers(InputModule):
    """Takes what is no text at all."""

    def preprocess(self, inputs, prompt=None, **kwargs):
        return {"x": torch.tensor([[float(value), kwargs.get("task") == "query"] for value in inputs])}

    def forward(self, features, **kwargs):
        features["sentence_embedding"] = features["x"]
        return features

    def save(self, output_path, *args, **kwargs):
        pass


def test_inputs_of_another_kind_reach_their_module():
    model = SentenceTransformer(modules=[Numbers()], device="cpu")
    assert model.encode([3, 1, 2]).tolist() == [[3, 0], [1, 0], [2, 0]]
    assert model.encode(5).tolist() == [5, 0]
    assert model.encode_query([3]).tolist() == [[3, 1]]


class OutOfMemory(Letters):
    def tokenize(self, texts, **kwargs):
        if len(texts) > 3:
            raise MemoryError
        return super().tokenize(texts, **kwargs)


def test_memory_that_ends_is_survived():
    model = SentenceTransformer(modules=[OutOfMemory()], device="cpu")
    assert model.encode(["a" * i for i in range(20)])[:, 0].tolist() == list(range(20))


def test_a_model_that_overrides_preprocess_is_asked():
    class Shouting(SentenceTransformer):
        def preprocess(self, inputs, prompt=None, **kwargs):
            return super().preprocess([text.replace("quiet", "loud") for text in inputs], prompt=prompt, **kwargs)

    plain = tiny()
    model = Shouting(modules=list(plain), device="cpu")
    np.testing.assert_allclose(
        model.encode(["quiet text", "b"]), plain.encode(["loud text", "b"]), rtol=0, atol=tolerances.PACKED
    )


def test_a_model_that_overrides_tokenize_is_asked():
    calls = []

    class Older(SentenceTransformer):
        def preprocess(self, inputs, prompt=None, **kwargs):
            return self.tokenize(inputs)

        def tokenize(self, texts, **kwargs):
            calls.append(list(texts))
            return self[0].preprocess(texts)

    Older(modules=list(tiny()), device="cpu").encode(["a", "b"])
    assert calls == [["a", "b"]]


def test_a_replaced_preprocess_on_the_instance_is_asked(monkeypatch):
    model, calls = tiny(), []
    plain = model.preprocess
    model.preprocess = lambda inputs, **kw: (calls.append(list(inputs)), plain(inputs, **kw))[1]
    want = tiny().encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), want, rtol=0, atol=tolerances.PACKED)
    assert sum(map(len, calls)) == len(TEXTS)


def test_a_forward_hook_sees_every_batch():
    model, rows = tiny(), []
    model.register_forward_hook(lambda module, args, output: rows.append(len(output["sentence_embedding"])))
    model.encode(TEXTS)
    assert sum(rows) == len(TEXTS)


# -- keywords ----------------------------------------------------------------------------------------------------------


class Scaled(Module):
    forward_kwargs: ClassVar = {"scale"}

    def forward(self, features, scale=1.0, **kwargs):
        assert not kwargs
        features["sentence_embedding"] = features["sentence_embedding"] * scale
        return features

    def save(self, output_path, *args, **kwargs):
        self.save_config(output_path)


def test_keywords_reach_the_modules_that_name_them(bert):
    model = SentenceTransformer(modules=[Transformer(bert), Pooling(WIDTH), Scaled(), Normalize()], device="cpu")
    assert model.get_model_kwargs() == ["scale"]
    model.encode(["a"], scale=2.0)
    bare = SentenceTransformer(modules=list(model)[:3], device="cpu")
    np.testing.assert_allclose(bare.encode(["a"], scale=2.0), bare.encode(["a"]) * 2, atol=tolerances.PACKED)
    with pytest.raises(ValueError, match=r"\['scales'\].*scale"):
        model.encode(["a"], scales=2.0)


# -- code in the folder ------------------------------------------------------------------------------------------------

CODE = textwrap.dedent(
    """
    import json, os
    import torch

    class Times(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, features, factor=None):
            features["sentence_embedding"] = features["sentence_embedding"] * (factor or self.factor)
            return features

        def save(self, path):
            with open(os.path.join(path, "times.json"), "w") as file:
                json.dump({"factor": self.factor}, file)

        @staticmethod
        def load(path):
            with open(os.path.join(path, "times.json")) as file:
                return Times(**json.load(file))
    """
)


@pytest.fixture
def folder(bert, tmp_path, monkeypatch):
    """A model whose last module is code of its own folder, with the older ``load(path)``."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    path = tmp_path / "model"
    SentenceTransformer(modules=[Transformer(bert), Pooling(WIDTH)], device="cpu").save(path)
    (path / "times_two.py").write_text(CODE)
    (path / "2_Times").mkdir()
    (path / "2_Times" / "times.json").write_text('{"factor": 2}')
    entries = json.loads((path / "modules.json").read_text())
    entries.append({"idx": 2, "name": "2", "path": "2_Times", "type": "times_two.Times", "kwargs": ["factor"]})
    (path / "modules.json").write_text(json.dumps(entries))
    return path


def test_code_of_a_folder_needs_trust(folder):
    with pytest.raises(FolderError, match=r"modules\.json: module type 'times_two\.Times'.*trust_remote_code=True"):
        SentenceTransformer(str(folder), device="cpu")


def test_trusted_code_is_loaded_by_its_path(folder):
    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    plain = SentenceTransformer(modules=list(model)[:2], device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), plain.encode(TEXTS) * 2, rtol=0, atol=tolerances.PACKED)


def test_kwargs_of_modules_json_are_routed_and_saved_again(folder, tmp_path):
    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    assert model.get_model_kwargs() == ["factor"]
    np.testing.assert_allclose(model.encode(["a"], factor=4), model.encode(["a"]) * 2, atol=tolerances.PACKED)
    model.save(tmp_path / "again")
    entry = json.loads((tmp_path / "again" / "modules.json").read_text())[2]
    assert entry["kwargs"] == ["factor"]
    assert entry["path"] == "2_Times"
    assert (tmp_path / "again" / "2_Times" / "times.json").exists()


def test_saved_trusted_code_loads_again(folder, tmp_path):
    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    model.save(tmp_path / "again")
    entry = json.loads((tmp_path / "again" / "modules.json").read_text())[2]
    assert entry["type"] == "times_two.Times"
    again = SentenceTransformer(str(tmp_path / "again"), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(again.encode(TEXTS), model.encode(TEXTS), rtol=0, atol=tolerances.PACKED)
