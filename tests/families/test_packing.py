"""Packing: decided by numbers, forced by hand, given up where a module of somebody else needs padding."""

import itertools
import logging

import numpy as np
import pytest
import torch
from tests.support import TEXTS
from tests.tolerances import PACKED
from torch import nn

from fourfold import SentenceTransformer
from fourfold.errors import FolderError
from fourfold.modules import Pooling, Transformer, _packed
from fourfold.modules._base import InputModule, Module
from fourfold.ops import attention, linear
from fourfold.testing import WIDTH, checkpoint, tiny, tiny_folder


@pytest.fixture
def plain(tmp_path):
    return str(checkpoint("bert", tmp_path / "bert"))


def test_a_model_whose_numbers_differ_is_padded(plain, monkeypatch):
    # an architecture that mixes neighbouring tokens outside attention would look like this
    monkeypatch.setattr(_packed, "grouped", lambda q, *a: q.transpose(1, 2).flip(1))
    transformer = Transformer(plain)
    assert not transformer.packed
    assert transformer.config._attn_implementation == "sdpa"


def test_packing_can_be_forced_against_the_check(plain, monkeypatch, caplog):
    monkeypatch.setattr(_packed, "close", lambda *a: False)
    assert not Transformer(plain).packed
    with caplog.at_level(logging.WARNING):
        assert Transformer(plain, unpad_inputs=True).packed
    assert "other numbers" in caplog.text


def test_an_architecture_without_the_interface_says_so_when_forced(tmp_path, caplog):
    folder = str(checkpoint("mpnet", tmp_path / "mpnet"))
    with caplog.at_level(logging.WARNING):
        assert not Transformer(folder, unpad_inputs=True).packed
    assert "attention" in caplog.text


def test_an_asked_for_attention_is_kept(plain):
    transformer = Transformer(plain, model_kwargs={"attn_implementation": "eager"})
    assert transformer.config._attn_implementation == "eager"
    assert not transformer.packed


class Scale(Module):
    """Somebody's module: it has never heard of packed features."""

    def forward(self, features, **kwargs):
        rows, longest, _ = features["token_embeddings"].shape
        assert features["attention_mask"].shape == (rows, longest)
        features["token_embeddings"] = features["token_embeddings"] * 2
        return features

    def save(self, output_path, *args, **kwargs):
        pass


def test_a_module_that_knows_no_packing_gets_padded_features(plain):
    model = SentenceTransformer(modules=[Transformer(plain), Scale(), Pooling(WIDTH)], device="cpu")
    assert model[0].packed
    expected = SentenceTransformer(modules=[Transformer(plain), Pooling(WIDTH)], device="cpu").encode(TEXTS) * 2
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=PACKED, rtol=PACKED)


class Letters(InputModule):
    """Somebody's input module of the oldest kind: tokenize alone, and forward on its result."""

    def tokenize(self, texts, **kwargs):
        return {"counts": torch.tensor([[text.count(letter) for letter in "aeiou"] for text in texts]).float()}

    def forward(self, features, **kwargs):
        features["sentence_embedding"] = features["counts"]
        return features

    def save(self, output_path):
        pass


def test_an_input_module_with_tokenize_alone_encodes():
    model = SentenceTransformer(modules=[Letters()], device="cpu", prompts={"query": "oo"})
    assert model.encode(["banana", "eel", ""]).tolist() == [[3, 0, 0, 0, 0], [0, 2, 0, 0, 0], [0] * 5]
    assert model.encode_query("banana").tolist() == [3, 0, 0, 2, 0]


class Bare(nn.Module):
    """A module with nothing of the library."""

    def tokenize(self, texts):
        return {"n": torch.tensor([[float(len(text))] for text in texts])}

    def forward(self, features):
        features["sentence_embedding"] = features["n"]
        return features


def test_a_plain_torch_module_encodes():
    model = SentenceTransformer(modules=[Bare()], device="cpu")
    assert model.encode(["abc", "", "a" * 70]).tolist() == [[3.0], [0.0], [70.0]]


def test_an_overridden_preprocess_is_called():
    class Loud(SentenceTransformer):
        def preprocess(self, inputs, prompt=None, **kwargs):
            return super().preprocess([text.upper() + " world" for text in inputs], prompt=prompt, **kwargs)

    folder = str(tiny_folder())
    texts = ["the text", "a"]
    wanted = SentenceTransformer(folder, device="cpu").encode([text.upper() + " world" for text in texts])
    np.testing.assert_allclose(Loud(folder, device="cpu").encode(texts), wanted, atol=PACKED)


OLD_MODULE = """
import json
from pathlib import Path
from torch import nn

class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by
    def forward(self, features, extra=0):
        features["sentence_embedding"] = features["sentence_embedding"] + self.by + extra
        return features
    def save(self, output_path):
        Path(output_path, "shift.json").write_text(json.dumps({"by": self.by}))
    @staticmethod
    def load(input_path):
        return Shift(json.loads(Path(input_path, "shift.json").read_text())["by"])
"""


def test_a_module_of_the_first_interface_loads_from_the_folder_if_trusted(tmp_path):
    import json

    folder = tmp_path / "model"
    tiny().save(str(folder))
    (folder / "shift.py").write_text(OLD_MODULE)
    (folder / "3_Shift").mkdir()
    (folder / "3_Shift" / "shift.json").write_text('{"by": 5}')
    entries = json.loads((folder / "modules.json").read_text())
    entries.append({"idx": 3, "name": "3", "path": "3_Shift", "type": "shift.Shift", "kwargs": ["extra"]})
    (folder / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(FolderError, match="trust_remote_code"):
        SentenceTransformer(str(folder), device="cpu")
    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    plain = tiny().encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), plain + 5, atol=PACKED)
    # the keyword that modules.json grants reaches this module alone
    assert model.get_model_kwargs() == ["extra"]
    np.testing.assert_allclose(model.encode(TEXTS, extra=2), plain + 7, atol=PACKED)


def naive_varlen(q, k, v, cu_q, cu_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
    """What torch's CUDA kernel computes on ``[tokens, heads, size]``, text by text: queries are its last tokens."""
    assert cu_q.dtype == cu_k.dtype == torch.int32
    out = torch.empty_like(q)
    for own, whole in zip(itertools.pairwise(cu_q.tolist()), itertools.pairwise(cu_k.tolist()), strict=True):
        length, keys = own[1] - own[0], whole[1] - whole[0]
        assert length <= max_q
        assert length <= keys <= max_k
        mask = attention.Window(*window_size).mask(length, q.device, keys - length)
        part = [q[slice(*own)].transpose(0, 1), *(states[slice(*whole)].transpose(0, 1) for states in (k, v))]
        attended = nn.functional.scaled_dot_product_attention(*part, attn_mask=mask, scale=scale)
        out[slice(*own)] = attended.transpose(0, 1)
    return out


@pytest.mark.parametrize("architecture", ["bert", "qwen3", "modernbert", "mistral"])
def test_the_variable_length_kernel_is_given_the_same_problem(monkeypatch, architecture):
    """The kernel needs a GPU; a plain one stands in here, so that layout, windows and shared heads are tested."""
    model = tiny("dense", architecture)
    wanted = model.encode(TEXTS)
    calls = []

    def kernel(*args, **kwargs):
        calls.append(1)
        return naive_varlen(*args, **kwargs)

    monkeypatch.setattr(attention, "_varlen_kernel", lambda: kernel)
    monkeypatch.setattr(_packed, "varlen_fits", lambda query, window, dropout: isinstance(window, attention.Window))
    np.testing.assert_allclose(model.encode(TEXTS), wanted, atol=PACKED)
    assert calls


@pytest.mark.parametrize("architecture", ["qwen3", "mistral"])
def test_the_variable_length_kernel_is_given_what_texts_share(monkeypatch, architecture):
    model = tiny("cross", architecture)
    pairs = [("a query of the world " * 12, document) for document in TEXTS]
    wanted = model.predict(pairs)
    assert model[0].tokenise(pairs).prefixes is not None
    monkeypatch.setattr(attention, "_varlen_kernel", lambda: naive_varlen)
    monkeypatch.setattr(_packed, "varlen_fits", lambda query, window, dropout: isinstance(window, attention.Window))
    np.testing.assert_allclose(model.predict(pairs), wanted, atol=PACKED)


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "mpnet"])
def test_products_come_in_few_sizes_whatever_the_texts(monkeypatch, architecture):
    """Each size costs memory for good, so encoding ever new texts must not meet ever new sizes."""
    model, sizes = tiny("dense", architecture), set()
    plain = linear._onednn

    def spy(states, weight, bias):
        sizes.add(states.numel() // states.shape[-1])
        return plain(states, weight, bias)

    monkeypatch.setattr(linear, "onednn_wins", lambda: True)
    monkeypatch.setattr(linear, "_onednn", spy)
    for count in range(1, 40):
        model.encode(["the text " * length for length in range(count)])
    assert {linear.steady_rows(size) for size in sizes} == sizes
    assert len([size for size in sizes if size > 64]) <= 40


def test_filling_belongs_to_no_text(monkeypatch):
    monkeypatch.setattr(linear, "onednn_wins", lambda: True)
    transformer = tiny()[0]
    tokens = transformer.tokenise(["the text " * 40, "a text " * 31])
    with torch.inference_mode():
        features = transformer.pack(tokens)
    assert features["input_ids"].shape[1] == linear.steady_rows(len(tokens.ids)) > len(tokens.ids)
    assert features["cu_seq_lens_q"].tolist() == tokens.offsets.tolist()
    assert transformer.pack(tokens)["input_ids"].shape[1] == len(tokens.ids)
