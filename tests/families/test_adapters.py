"""PEFT adapters through the encoder: the numbers of packed and padded texts follow them."""

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, load

from fourfold import SentenceTransformer, SparseEncoder
from fourfold.modules import StaticEmbedding
from fourfold.testing import tiny, tiny_folder

peft = pytest.importorskip("peft")
# PEFT speaks of second adapters, of cards it does not find, and calls transformers by older names.
pytestmark = pytest.mark.filterwarnings("ignore")


def lora(**options):
    return peft.LoraConfig(target_modules=["query", "value"], r=4, init_lora_weights=False, **options)


def added(model, name="default", **options):
    """Put an adapter with weights that matter on a model."""
    torch.manual_seed(3)
    model.add_adapter(lora(**options), name)
    return model


def padded(model, texts):
    """Encode without packing, one text at a time."""
    with torch.no_grad():
        return np.concatenate([model(model.preprocess([text]))["sentence_embedding"].numpy() for text in texts])


def test_adapters_can_be_added_switched_and_removed():
    model = tiny()
    plain = model.encode(TEXTS)
    assert model.has_peft_compatible_model()
    added(model, "one")
    one = model.encode(TEXTS)
    assert np.abs(one - plain).max() > 1e-3
    assert model.active_adapters() == ["one"]
    torch.manual_seed(4)
    model.add_adapter(lora(), "two")
    assert model.active_adapters() == ["two"]
    two = model.encode(TEXTS)
    assert np.abs(two - one).max() > 1e-3
    model.set_adapter("one")
    np.testing.assert_allclose(model.encode(TEXTS), one, rtol=0, atol=tolerances.BATCH)
    model.disable_adapters()
    np.testing.assert_allclose(model.encode(TEXTS), plain, rtol=0, atol=tolerances.BATCH)
    model.enable_adapters()
    np.testing.assert_allclose(model.encode(TEXTS), one, rtol=0, atol=tolerances.BATCH)
    model.delete_adapter("two")
    with pytest.raises(ValueError, match="two"):
        model.set_adapter("two")
    assert model.active_adapters() == ["one"]


@pytest.mark.parametrize("architecture", ["bert", "qwen3", "modernbert", "mpnet"])
def test_packed_texts_get_the_adapters_numbers(architecture):
    names = {"bert": ["query"], "qwen3": ["q_proj"], "modernbert": ["Wqkv"], "mpnet": ["q"]}[architecture]
    model = tiny("dense", architecture)
    packed, before = model[0].packed, model.encode(TEXTS)
    torch.manual_seed(3)
    model.add_adapter(peft.LoraConfig(target_modules=names, r=4, init_lora_weights=False))
    assert model[0].packed == packed
    assert np.abs(model.encode(TEXTS) - before).max() > 1e-3
    np.testing.assert_allclose(model.encode(TEXTS), padded(model.eval(), TEXTS), rtol=0, atol=tolerances.PACKED)


def test_dropout_of_an_adapter_is_off_while_encoding():
    model = added(tiny().eval(), lora_dropout=0.9)
    np.testing.assert_array_equal(model.encode(TEXTS), model.encode(TEXTS))


def test_an_adapters_weights_by_name():
    state = added(tiny()).get_adapter_state_dict()
    assert state
    assert all("lora_" in name for name in state)


def test_a_model_with_an_adapter_is_saved_as_one(tmp_path):
    model = added(load(tiny_folder()))
    want = model.encode(TEXTS)
    model.save(tmp_path / "m")
    assert (tmp_path / "m" / "adapter_config.json").is_file()
    assert (tmp_path / "m" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "m" / "model.safetensors").exists()
    again = load(tmp_path / "m")
    np.testing.assert_allclose(again.encode(TEXTS), want, rtol=0, atol=tolerances.BATCH)
    assert again.active_adapters() == ["default"]


def test_an_adapter_can_be_loaded_onto_its_base(tmp_path):
    model = added(load(tiny_folder()))
    model[0].model.save_pretrained(tmp_path / "a")
    base = load(tiny_folder())
    base.load_adapter(str(tmp_path / "a"))
    np.testing.assert_allclose(base.encode(TEXTS), model.encode(TEXTS), rtol=0, atol=tolerances.BATCH)


def test_a_wrapped_backbone_encodes_too():
    model = tiny()
    plain = model.encode(TEXTS)
    torch.manual_seed(3)
    model[0].auto_model = peft.get_peft_model(model[0].auto_model, lora())
    assert model.has_peft_compatible_model()
    assert np.abs(model.encode(TEXTS) - plain).max() > 1e-3
    np.testing.assert_allclose(model.encode(TEXTS), padded(model, TEXTS), rtol=0, atol=tolerances.PACKED)


def test_models_without_a_backbone_take_no_adapters():
    model = SentenceTransformer(modules=[StaticEmbedding.example()], device="cpu")
    assert not model.has_peft_compatible_model()
    with pytest.raises(ValueError, match="has none"):
        model.check_peft_compatible_model()
    with pytest.raises(ValueError, match="has none"):
        model.add_adapter(lora())


def test_a_method_that_the_backbone_lacks():
    with pytest.raises(ValueError, match="adapter"):
        tiny().active_adapters()
    with pytest.raises(AttributeError, match="no method active_adapter"):
        tiny().active_adapter()


def rows_of_each_alone(model):
    with torch.inference_mode():
        rows = [model(model.preprocess([text]))["sentence_embedding"] for text in TEXTS]
    return np.concatenate([row.numpy() for row in rows])


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "roberta", "qwen3"])
def test_sparse_models_take_adapters(architecture, tmp_path):
    names = {"qwen3": ["q_proj"], "modernbert": ["Wqkv"]}.get(architecture, ["query"])
    folder = tmp_path / "base"
    tiny("sparse", architecture).save(folder)
    model = SparseEncoder(str(folder), device="cpu")
    before = model.encode(TEXTS).to_dense().numpy()
    torch.manual_seed(3)
    model.add_adapter(peft.LoraConfig(target_modules=names, r=4, init_lora_weights=False))
    got = model.encode(TEXTS).to_dense().numpy()
    assert np.abs(got - before).max() > 1e-3
    want = rows_of_each_alone(model)
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerances.PACKED * np.abs(want).max())
    model.save(tmp_path / "adapted")
    assert (tmp_path / "adapted" / "adapter_model.safetensors").is_file()
    again = SparseEncoder(str(tmp_path / "adapted"), device="cpu").encode(TEXTS).to_dense().numpy()
    np.testing.assert_allclose(again, got, rtol=0, atol=tolerances.BATCH * np.abs(want).max())
    model.disable_adapters()
    plain = model.encode(TEXTS).to_dense().numpy()
    np.testing.assert_allclose(plain, before, rtol=0, atol=tolerances.BATCH * np.abs(want).max())


def test_an_adapter_on_the_vocabulary_counts():
    model = tiny("sparse")
    before = model.encode(TEXTS).to_dense().numpy()
    torch.manual_seed(3)
    model.add_adapter(peft.LoraConfig(target_modules=["decoder"], r=4, init_lora_weights=False))
    got = model.encode(TEXTS).to_dense().numpy()
    assert np.abs(got - before).max() > 1e-3
    want = rows_of_each_alone(model)
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerances.PACKED * np.abs(want).max())
