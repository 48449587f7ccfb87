"""What a model answers for its modules."""

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS

from fourfold import SentenceTransformer
from fourfold.modules import Normalize, Router
from fourfold.testing import tiny


def test_the_length_is_the_first_modules():
    model = tiny()
    assert model.max_seq_length == model.get_max_seq_length() == model.tokenizer.model_max_length == 128
    before = model.encode("the " * 50)
    model.max_seq_length = 6
    assert model.tokenizer.model_max_length == 6
    assert np.abs(model.encode("the " * 50) - before).max() > 1e-3
    np.testing.assert_allclose(model.encode("the " * 50), model.encode("the " * 4), atol=tolerances.BATCH)


def test_parts_of_the_model():
    model = tiny()
    assert model.transformers_model is model[0].model is model[0].auto_model
    assert model.config is model.transformers_model.config
    assert model.tokenizer is model.processor is model[0].tokenizer
    assert model.modalities == ["text"]
    assert model.supports("text")
    assert not model.supports("image")
    assert model.get_backend() == "torch"
    assert model.device == torch.device("cpu")
    assert model.get_model_kwargs() == []
    static = tiny("dense", "static")
    assert static.transformers_model is None
    assert static.config is None
    with pytest.raises(AttributeError):
        _ = static.processor


def test_the_tokenizer_can_be_replaced():
    model, other = tiny(), tiny("dense", "qwen3")
    model.tokenizer = other.tokenizer
    assert model[0].tokenizer is other.tokenizer


def test_a_first_module_without_a_length_or_a_tokenizer():
    model = SentenceTransformer(modules=[Normalize()], device="cpu")
    assert model.max_seq_length is None
    assert model.get_max_seq_length() is None
    model.max_seq_length = 4
    assert model.max_seq_length == 4
    with pytest.raises(AttributeError, match="tokenizer"):
        _ = model.tokenizer
    with pytest.raises(AttributeError, match="processor"):
        _ = model.processor


def test_static_embeddings_limit_no_length():
    model = tiny("dense", "static")
    assert model.max_seq_length == float("inf")
    with pytest.raises(AttributeError):
        model.max_seq_length = 4


def test_the_processor_cannot_be_set():
    with pytest.raises(AttributeError):
        tiny().processor = 1


def test_the_config_can_be_set():
    model = tiny()
    config = type(model.config)()
    model.config = config
    assert model[0].model.config is config
    static = tiny("dense", "static")
    static.config = config
    assert static.config is None


def test_the_backbone_is_found_wherever_it_is():
    backbone = tiny()[0].model

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.ModuleList([backbone])

    assert SentenceTransformer(modules=[Wrapped()], device="cpu").transformers_model is backbone
    router = Router({"query": [tiny("dense", "static")[0]], "document": [tiny()[0]]})
    model = SentenceTransformer(modules=[router], device="cpu")
    assert model.transformers_model is router.sub_modules["document"][0].model


def test_kinds_of_input_of_a_module():
    class Seeing(Normalize):
        modalities = ("text", "image", "message")

    model = SentenceTransformer(modules=[Seeing()], device="cpu")
    assert model.modalities == ("text", "image", "message")
    assert model.supports("image")
    assert model.supports(("image", "text"))
    assert not model.supports("audio")
    assert not model.supports(("audio", "text"))
    assert SentenceTransformer(modules=[torch.nn.Identity()], device="cpu").modalities == ["text"]


@pytest.mark.parametrize(
    ("value", "single"), [("a", True), (["a"], False), (("a", "b"), False), ([{"role": "user", "content": "x"}], True)]
)
def test_one_input_or_a_batch(value, single):
    assert tiny().is_singular_input(value) is single


def test_gradient_checkpointing():
    model = tiny()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert model[0].model.encoder.layer[0].gradient_checkpointing
    model.train()
    features = model.preprocess(TEXTS)
    model(features)["sentence_embedding"].sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "pooler" not in name)


def test_gradient_checkpointing_where_it_is_not_supported(caplog):
    model = tiny()
    model[0].model.supports_gradient_checkpointing = False
    for _ in range(2):
        model.gradient_checkpointing_enable()
    assert [r.message for r in caplog.records if "does not support gradient checkpointing" in r.message] == [
        "BertModel does not support gradient checkpointing and goes without"
    ]
    assert not model[0].model.encoder.layer[0].gradient_checkpointing


def test_what_trainers_ask():
    assert tiny()._no_split_modules == []
    assert tiny()._keys_to_ignore_on_save == []


def test_tokenize_says_its_new_name_once(caplog):
    model = tiny()
    first, second = model.tokenize(["a"]), model.tokenize(["a"])
    assert torch.equal(first["input_ids"], second["input_ids"])
    assert sum("tokenize is deprecated" in message for message in caplog.messages) == 1
