"""What every part of fourfold.modules keeps, found by its registry."""

import json

import pytest
import torch

from fourfold.errors import FolderError
from fourfold.modules import registry
from fourfold.modules._base import InputModule, Module

NAMES = registry.names()
# A transformer's weights are a checkpoint, so its example is made by fourfold.testing.
HAVE_EXAMPLE = [name for name in NAMES if hasattr(registry.get(name), "example")]


@pytest.fixture(params=HAVE_EXAMPLE)
def module(request):
    torch.manual_seed(0)
    return registry.get(request.param).example().eval()


def test_nearly_every_part_has_an_example():
    assert set(NAMES) - set(HAVE_EXAMPLE) <= {"transformer"}


@pytest.mark.parametrize("name", NAMES)
def test_a_part_is_one_class_named_after_its_file(name):
    cls = registry.get(name)
    assert issubclass(cls, Module)
    assert cls.__name__.lower() == name.replace("_", "")
    assert registry.stem(cls.__name__) == name


def test_everything_is_saved_bitwise(module, tmp_path):
    module.save(str(tmp_path))
    again = type(module).load(str(tmp_path))
    assert again.get_config_dict() == module.get_config_dict()
    ours, theirs = module.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert ours[key].dtype == theirs[key].dtype
        assert torch.equal(ours[key], theirs[key])


def test_saving_twice_writes_the_same_bytes(module, tmp_path):
    module.save(str(tmp_path))
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    type(module).load(str(tmp_path)).save(str(tmp_path))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == files


def test_a_pickle_holds_the_same_weights(module, tmp_path):
    module.save(str(tmp_path), safe_serialization=False)
    assert not (tmp_path / "model.safetensors").exists()
    again = type(module).load(str(tmp_path))
    for key, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])


def test_the_config_file_holds_the_keys_in_order(module, tmp_path):
    module.save(str(tmp_path))
    file = tmp_path / module.config_file_name
    if not module.config_keys:
        assert not file.exists()
        return
    assert list(json.loads(file.read_text())) == module.config_keys
    assert file.read_text().startswith('{\n    "')


def test_its_repr_is_its_settings(module):
    assert repr(module) == f"{type(module).__name__}({module.get_config_dict()})"


def test_weights_without_a_module_give_the_tensors(module, tmp_path):
    if not module.state_dict():
        pytest.skip("has no weights")
    module.save(str(tmp_path))
    tensors = type(module).load_torch_weights(str(tmp_path))
    assert tensors.keys() == module.state_dict().keys()
    assert type(module).load_torch_weights(str(tmp_path), model=module) is module


def test_an_unknown_key_is_an_error_that_names_file_key_and_the_nearest(module, tmp_path, caplog):
    module.save(str(tmp_path))
    file = tmp_path / module.config_file_name
    if not module.config_keys:
        pytest.skip("has no settings")
    key = f"{module.config_keys[0]}s"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: 3}))
    if type(module).__name__ == "Normalize":  # drops them silently, by the contract
        assert type(module).load(str(tmp_path)).get_config_dict() == module.get_config_dict()
        return
    if type(module).__name__ == "Dense":  # drops them with a warning, by the contract
        type(module).load(str(tmp_path))
        assert repr(key) in caplog.text
        return
    with pytest.raises(FolderError) as caught:
        type(module).load(str(tmp_path))
    assert isinstance(caught.value, TypeError)
    for part in (module.config_file_name, repr(key), f"Did you mean {module.config_keys[0]!r}"):
        assert part in str(caught.value)


def test_a_missing_key_is_an_error_that_names_it(module, tmp_path):
    module.save(str(tmp_path))
    file = tmp_path / module.config_file_name
    if not module.config_keys or type(module).__name__ == "Normalize":
        pytest.skip("needs no setting")
    file.unlink()
    with pytest.raises(FolderError, match=rf"{module.config_file_name}: .* needs .*{module.config_keys[0]}") as caught:
        type(module).load(str(tmp_path))
    assert isinstance(caught.value, TypeError)


def test_defaults_fill_only_absent_keys(module, tmp_path):
    if type(module).__name__ == "Normalize":
        (tmp_path / "config.json").write_text('{"module_input_name": "saved"}')
        defaults = {"module_input_name": "default", "module_output_name": "other"}
        got = type(module).load(str(tmp_path), init_defaults=defaults)
        assert (got.module_input_name, got.module_output_name) == ("saved", "other")


def vectors(module):
    """Features of two texts of different length, packed and padded, for a part of width 8."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(5, 8, generator=generator)
    padded = torch.zeros(2, 3, 8)
    padded[0], padded[1, :2] = tokens[:3], tokens[3:]
    sentence = torch.randn(2, 8, generator=generator)
    offsets = torch.tensor([0, 3, 5], dtype=torch.int32)
    common = {"sentence_embedding": sentence}
    flat = {**common, "token_embeddings": tokens[None], "cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets}
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    return flat, {**common, "token_embeddings": padded, "attention_mask": mask}


def test_packed_features_give_the_padded_result(module):
    if isinstance(module, InputModule):
        pytest.skip("makes the features")
    assert module.packed
    flat, padded = vectors(module)
    with torch.inference_mode():
        ours, theirs = module(dict(flat)), module(dict(padded))
    torch.testing.assert_close(ours["sentence_embedding"], theirs["sentence_embedding"])


def test_features_pass_through(module):
    if isinstance(module, InputModule):
        pytest.skip("makes the features")
    features = {**vectors(module)[1], "something": "else"}
    assert module(features) is features
    assert features["something"] == "else"


def test_gradients_flow(module):
    if isinstance(module, InputModule):
        features = module.preprocess(["a b", "c"])
        target = next(module.parameters())
    else:
        features = vectors(module)[0]
        for key in ("sentence_embedding", "token_embeddings"):
            features[key] = features[key].requires_grad_()
        read = "token_embeddings" if type(module).__name__ == "Pooling" else "sentence_embedding"
        target = features[read]
    (module(features)["sentence_embedding"] ** 3).sum().backward()
    assert target.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays(module, dtype):
    module = module.to(dtype)
    if isinstance(module, InputModule):
        features = module.preprocess(["a b", "c"])
    else:
        features = {k: v.to(dtype) if v.is_floating_point() else v for k, v in vectors(module)[0].items()}
    assert module(features)["sentence_embedding"].dtype == dtype
