"""What every part of fourfold.modules keeps, found by its registry."""

import inspect
import json
import math

import pytest
import torch
from safetensors.torch import save_file

from fourfold.errors import FolderError
from fourfold.modules import registry
from fourfold.modules._base import InputModule, Module

NAMES = registry.names()
# A transformer's weights are a checkpoint, so its example is made by fourfold.testing.
HAVE_EXAMPLE = [name for name in NAMES if hasattr(registry.get(name), "example")]


# A part that holds parts writes their files in folders of their own, and its settings under other keys.
COMPOSED = {"Router"}
# Two texts, of three words and of two.
LENGTHS = [3, 2]


@pytest.fixture(params=HAVE_EXAMPLE)
def module(request):
    torch.manual_seed(0)
    return registry.get(request.param).example().eval()


def test_nearly_every_part_has_an_example():
    assert set(NAMES) - set(HAVE_EXAMPLE) <= {"transformer", "clip_model", "mlm_transformer"}


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


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_saving_twice_writes_the_same_bytes(module, tmp_path):
    module.save(str(tmp_path / "once"))
    type(module).load(str(tmp_path / "once")).save(str(tmp_path / "twice"))
    assert files(tmp_path / "once") == files(tmp_path / "twice")
    assert files(tmp_path / "once")


def test_a_pickle_holds_the_same_weights(module, tmp_path):
    module.save(str(tmp_path), safe_serialization=False)
    assert not list(tmp_path.rglob("model.safetensors"))
    again = type(module).load(str(tmp_path))
    for key, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])


def config_file(module, folder):
    """The module's JSON file, just written."""
    if type(module).__name__ in COMPOSED or not module.config_keys:
        pytest.skip("has no settings of its own")
    module.save(str(folder))
    return folder / module.config_file_name


def test_the_config_file_holds_the_keys_in_order(module, tmp_path):
    file = config_file(module, tmp_path)
    assert list(json.loads(file.read_text())) == module.config_keys
    assert file.read_text().startswith('{\n    "')


def test_a_module_without_settings_writes_no_config(module, tmp_path):
    module.save(str(tmp_path))
    assert (tmp_path / module.config_file_name).exists() is bool(module.config_keys)


def test_its_repr_is_its_settings(module):
    if type(module).__name__ in COMPOSED:
        pytest.skip("shows its parts")
    # A table of weights shows its size and its tokenizer besides, as in the older library.
    more = ", dim=5, tokenizer=TokenizersBackend" if type(module).__name__ == "SparseStaticEmbedding" else ""
    assert repr(module) == f"{type(module).__name__}({module.get_config_dict()}{more})"


def test_weights_without_a_module_give_the_tensors(module, tmp_path):
    if not module.state_dict() or type(module).__name__ in COMPOSED:
        pytest.skip("has no weights of its own")
    module.save(str(tmp_path))
    tensors = type(module).load_torch_weights(str(tmp_path))
    distinct = {value.data_ptr(): name for name, value in module.state_dict().items()}
    assert tensors.keys() <= module.state_dict().keys()
    assert len(tensors) == len(distinct)
    assert type(module).load_torch_weights(str(tmp_path), model=module) is module


def test_an_unknown_key_is_an_error_that_names_file_key_and_the_nearest(module, tmp_path, caplog):
    file = config_file(module, tmp_path)
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
    config_file(module, tmp_path).unlink()
    key = module.config_keys[0]
    parameter = inspect.signature(type(module)).parameters.get(key)
    if parameter is not None and parameter.default is not parameter.empty:
        assert isinstance(type(module).load(str(tmp_path)), type(module))
        return
    with pytest.raises(FolderError, match=rf"{module.config_file_name}: .* needs .*{key}") as caught:
        type(module).load(str(tmp_path))
    # The contract says KeyError where the settings name a class.
    assert isinstance(caught.value, KeyError if parameter is None else TypeError)


def test_weights_of_another_shape_are_an_error_that_names_both(module, tmp_path):
    if not module.state_dict() or not module.config_keys or isinstance(module, InputModule):
        pytest.skip("has no weights whose shape its settings state")
    module.save(str(tmp_path))
    other = {key: torch.zeros(*value.shape, 2) for key, value in module.state_dict().items()}
    save_file(other, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError) as caught:
        type(module).load(str(tmp_path))
    for key in other:
        assert key in str(caught.value)


def test_no_weights_are_an_error_that_names_the_folder(module, tmp_path):
    if not module.state_dict() or type(module).__name__ in COMPOSED:
        pytest.skip("has no weights of its own")
    module.save(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    if type(module).__name__ == "WordWeights":  # its settings say them, and older folders hold nothing else
        assert type(module).load(str(tmp_path)).state_dict().keys() == module.state_dict().keys()
        return
    with pytest.raises(FolderError, match=r"neither model.safetensors nor pytorch_model.bin") as caught:
        type(module).load(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_older_names_of_the_width(module):
    if not hasattr(type(module), "get_embedding_dimension"):
        with pytest.raises(AttributeError):
            _ = module.get_sentence_embedding_dimension
        return
    with pytest.warns(FutureWarning, match="deprecated; use get_embedding_dimension"):
        assert module.get_word_embedding_dimension() == module.get_embedding_dimension()


def test_older_keywords_of_the_constructor_are_the_older_keys(module, caplog):
    renames = {old: new for old, new in module.config_key_renames.items() if new in module.config_keys}
    if not renames:
        pytest.skip("has no older names")
    config = module.get_config_dict()
    for old, new in renames.items():
        again = type(module)(**{old: config[new]}, **{key: value for key, value in config.items() if key != new})
        assert again.get_config_dict() == config
        assert f"{old}= has been renamed; use {new}=" in caplog.text


def test_defaults_fill_only_absent_keys(module, tmp_path):
    if type(module).__name__ == "Normalize":
        (tmp_path / "config.json").write_text('{"module_input_name": "saved"}')
        defaults = {"module_input_name": "default", "module_output_name": "other"}
        got = type(module).load(str(tmp_path), init_defaults=defaults)
        assert (got.module_input_name, got.module_output_name) == ("saved", "other")


# -- features ----------------------------------------------------------------------------------------------------------


def packed(filling=0):
    """Features of two texts, one after another, for parts of width 8; the filling after them is large."""
    generator = torch.Generator().manual_seed(1)
    count = sum(LENGTHS)
    layers = [torch.randn(count, 8, generator=generator) for _ in range(3)]
    ids = torch.tensor([1, 3, 2, 3, 0, *[1] * filling])
    offsets = torch.tensor([0, 3, 5], dtype=torch.int32)
    layers = tuple(torch.cat([layer, torch.full((filling, 8), 1e3)])[None] for layer in layers)
    return {
        "sentence_embedding": torch.randn(2, 8, generator=generator), "token_embeddings": layers[-1],
        "all_layer_embeddings": layers, "input_ids": ids[None], "cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets,
        "causal_logits": torch.randn(1, 2, 8, generator=generator), "modality": "text",
    }  # fmt: skip


def padded(side="right", width=4):
    """The same features with a text a row; what pads the rows is large."""
    flat, mask = packed(), torch.zeros(2, width, dtype=torch.int64)
    for row, length in enumerate(LENGTHS):
        mask[row, slice(length) if side == "right" else slice(width - length, width)] = 1

    def rows(value, padding):
        spread = torch.full((*mask.shape, *value.shape[2:]), padding, dtype=value.dtype)
        spread[mask == 1] = value[0]
        return spread

    layers = tuple(rows(layer, 1e3) for layer in flat["all_layer_embeddings"])
    return {
        "sentence_embedding": flat["sentence_embedding"], "token_embeddings": layers[-1],
        "all_layer_embeddings": layers, "input_ids": rows(flat["input_ids"], 1), "attention_mask": mask,
        "causal_logits": flat["causal_logits"][0][:, None], "modality": "text",
    }  # fmt: skip


def first_text():
    """The first text's packed features, alone."""
    flat = packed()
    short = {key: flat[key][:, : LENGTHS[0]] for key in ("token_embeddings", "input_ids")}
    layers = tuple(layer[:, : LENGTHS[0]] for layer in flat["all_layer_embeddings"])
    offsets = flat["cu_seq_lens_q"][:2]
    alone = {"sentence_embedding": flat["sentence_embedding"][:1], "all_layer_embeddings": layers, "modality": "text"}
    logits = {"causal_logits": flat["causal_logits"][:, :1]}
    return {**alone, **short, **logits, "cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets}


def results(module, features):
    """What a module writes: the texts' own tokens, one after another, or a row a text."""
    with torch.inference_mode():
        out = module(dict(features))
    written = {}
    for key, value in out.items():
        if not isinstance(value, torch.Tensor) or value is features.get(key) or not value.is_floating_point():
            continue
        if key == "token_embeddings":
            mask = out.get("attention_mask")
            value = value[0, : int(out["cu_seq_lens_q"][-1])] if mask is None else value[mask == 1]
        written[key] = value
    return written


def assert_alike(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        # Packed, in inference mode, a module may write what has few entries as a sparse tensor.
        value = value.to_dense() if isinstance(value, torch.Tensor) and value.is_sparse else value
        torch.testing.assert_close(value, theirs[key], msg=lambda text, key=key: f"{key}: {text}")


@pytest.fixture
def reader(module):
    """A module that reads features; those that make them have tests of their own."""
    if isinstance(module, InputModule) and type(module).__name__ not in COMPOSED:
        pytest.skip("makes the features")
    return module


def test_packed_features_give_the_padded_result(reader):
    assert reader.packs({})
    ours = results(reader, packed())
    assert_alike(ours, results(reader, padded()))
    assert ours or type(reader).__name__ == "Dropout"


def test_neither_filling_nor_padding_nor_its_side_matters(reader):
    wanted = results(reader, packed())
    assert_alike(results(reader, packed(filling=3)), wanted)
    assert_alike(results(reader, padded(width=9)), wanted)
    assert_alike(results(reader, padded("left")), wanted)


def test_a_text_alone_is_that_text_in_company(reader):
    together = results(reader, packed())
    for key, value in results(reader, first_text()).items():
        torch.testing.assert_close(value, together[key][: len(value)])


def test_features_pass_through(reader):
    features = {**padded(), "something": "else"}
    assert reader(features) is features
    assert features["something"] == "else"


def test_an_input_module_prepares_texts_packed_as_it_does_padded(module):
    if not isinstance(module, InputModule) or not module.tokenises({}):
        pytest.skip("prepares whole batches")
    texts = ["a b c", "", "b", "a a a a"]
    tokens = module.tokenise(texts, "c ")
    assert_alike(results(module, module.pack(tokens, "c ")), results(module, module.preprocess(texts, prompt="c ")))


def test_an_empty_batch_has_no_features(module):
    if not isinstance(module, InputModule) or type(module).__name__ == "Router":
        pytest.skip("makes no features")
    features = module.preprocess([])
    assert not any(isinstance(value, torch.Tensor) and len(value) for value in features.values())


@pytest.mark.parametrize("texts", [[""], ["", ""], ["", "a b"], ["unknown"]])
def test_texts_without_words_are_no_trouble(module, texts):
    if not isinstance(module, InputModule) or type(module).__name__ == "Router":
        pytest.skip("makes no features")
    ways = [module.preprocess(texts)]
    if module.tokenises({}):
        ways += [module.pack(module.tokenise(texts)), module.pad(module.tokenise(texts))]
    for features in ways:
        for value in module(features).values():
            assert not isinstance(value, torch.Tensor) or torch.isfinite(value).all()


# -- training ----------------------------------------------------------------------------------------------------------


def made(module):
    """Features for a module, with gradients where a module before it would give them."""
    if isinstance(module, InputModule) and type(module).__name__ not in COMPOSED:
        return module.preprocess(["a b", "c"])
    features = packed()
    for key in ("sentence_embedding", "token_embeddings"):
        features[key] = features[key].requires_grad_()
    return features


def test_gradients_reach_what_is_trained_and_what_is_read(module):
    features = made(module)
    inputs = {key: value for key, value in features.items() if isinstance(value, torch.Tensor) and value.requires_grad}
    out = module(dict(features))
    written = [
        value for key, value in out.items()
        if isinstance(value, torch.Tensor) and value.requires_grad and value is not features.get(key)
    ]  # fmt: skip
    if not written:
        assert not list(module.parameters())
        return
    sum((value**3).sum() for value in written).backward()
    reached = [value for value in inputs.values() if value.grad is not None]
    assert reached or not inputs or type(module).__name__ == "WeightedLayerPooling"  # reads the layers
    for value in reached:
        assert value.grad.abs().sum() > 0
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if type(module).__name__ in COMPOSED:  # one route of several ran
        trained = [parameter for parameter in trained if parameter.grad is not None]
        assert trained
    for parameter in trained:
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_a_step_down_the_gradient_lowers_the_loss(module):
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        pytest.skip("has nothing to train")

    def loss():
        features = made(module)
        out = module(dict(features))
        written = [
            value for key, value in out.items()
            if isinstance(value, torch.Tensor) and value.requires_grad and value is not features.get(key)
        ]  # fmt: skip
        return sum((value**2).sum() for value in written)

    before = loss()
    before.backward()
    size = math.sqrt(sum(float((p.grad**2).sum()) for p in trained if p.grad is not None))
    with torch.no_grad():
        for parameter in trained:
            if parameter.grad is not None:
                parameter -= 1e-3 / size * parameter.grad
    assert loss() < before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays(module, dtype):
    module = module.to(dtype)
    if isinstance(module, InputModule) and type(module).__name__ not in COMPOSED:
        if not list(module.parameters()):
            pytest.skip("has no weights")
        features = module.preprocess(["a b", "c"])
    else:
        features = packed()
        for key in ("sentence_embedding", "token_embeddings", "causal_logits"):
            features[key] = features[key].to(dtype)
        features["all_layer_embeddings"] = tuple(layer.to(dtype) for layer in features["all_layer_embeddings"])
    written = results(module, features)
    assert written or type(module).__name__ == "Dropout"
    for value in written.values():
        assert value.dtype == dtype
