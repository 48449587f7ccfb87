"""Folders of sparse models with something wrong in them: one clear error that names the file and the key."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.families.test_hostile_folders import change

from fourfold import SentenceTransformer, SparseEncoder
from fourfold.errors import FolderError, FourfoldError, MissingFeatureError, ShapeError, WeightsError
from fourfold.modules import Router
from fourfold.testing import tiny

POOLING, AUTO_ENCODER = "1_SpladePooling/config.json", "2_SparseAutoEncoder/config.json"
QUERY = "query_0_SparseStaticEmbedding"
TEXTS = ["the text", "a"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    routes = Router.for_query_document([*tiny("sparse", "static")], [*tiny("sparse")])
    models = {
        "splade": tiny("sparse"), "csr": tiny("sparse", "qwen3"), "static": tiny("sparse", "static"),
        "router": SparseEncoder(modules=[routes], device="cpu"),
    }  # fmt: skip
    for name, model in models.items():
        model.save(root / name, create_model_card=False)
    return root


@pytest.fixture
def folder(sound, tmp_path):
    def copied(name):
        return shutil.copytree(sound / name, tmp_path / name)

    return copied


def load(folder):
    return SparseEncoder(str(folder), device="cpu")


def failing(folder, *said, error=FolderError):
    with pytest.raises(error) as caught:
        load(folder)
    assert isinstance(caught.value, FourfoldError)
    for part in (str(folder), *said):
        assert part in str(caught.value)
    assert len(str(caught.value)) < 2000


def update(folder, name, **values):
    change(folder, name, lambda config: config.update(values))


@pytest.mark.parametrize("name", ["splade", "csr", "static", "router"])
def test_the_sound_folders_load(folder, name):
    assert load(folder(name)).encode(TEXTS).shape[0] == 2


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("pooling_strategy", "maks", "must be one of max, sum, mean; got 'maks'"), ("pooling_strategy", None, "None"),
        ("pooling_strategy", ["max"], "['max']"), ("activation_function", "rel", "Did you mean 'relu'?"),
        ("activation_function", 3, "got 3"), ("embedding_dimension", "154", "'154'"), ("embedding_dimension", -1, "-1"),
        ("embedding_dimension", True, "True"), ("embedding_dimension", 1.5, "1.5"), ("chunk_size", "x", "'x'"),
        ("pooling_strateg", "max", "Did you mean 'pooling_strategy'?"),
        ("embedding_dimension", float("nan"), "nan"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["model", "route"])
def test_settings_of_the_pooling(folder, key, value, said, where):
    copy = folder("splade" if where == "model" else "router")
    file = POOLING if where == "model" else "document_1_SpladePooling/config.json"
    update(copy, file, **{key: value})
    failing(copy, file, key, said)


def test_a_dimension_that_is_not_the_vocabularys_is_put_right_by_the_first_text(folder):
    copy = folder("splade")
    update(copy, POOLING, embedding_dimension=3)
    model = load(copy)
    assert model.encode(TEXTS).shape == (2, 154)
    assert model.get_embedding_dimension() == 154


@pytest.mark.parametrize("value", ["8", -1, 1.5, None, [3], True, float("nan"), {}])
@pytest.mark.parametrize("key", ["input_dim", "hidden_dim", "k", "k_aux", "dead_threshold"])
def test_sizes_of_an_auto_encoder(folder, key, value):
    copy = folder("csr")
    update(copy, AUTO_ENCODER, **{key: value})
    failing(copy, AUTO_ENCODER, key, repr(value))


@pytest.mark.parametrize("key", ["input_dim", "hidden_dim"])
def test_an_auto_encoder_too_large_for_any_memory(folder, key):
    copy = folder("csr")
    update(copy, AUTO_ENCODER, **{key: 10**15})
    failing(copy, AUTO_ENCODER, "SparseAutoEncoder cannot be built")


def test_an_auto_encoder_of_another_shape_than_its_weights(folder):
    copy = folder("csr")
    update(copy, AUTO_ENCODER, hidden_dim=64)
    failing(copy, "2_SparseAutoEncoder", "'latent_bias' has shape (128,)", "(64,)", error=WeightsError)


def test_an_auto_encoder_without_its_tied_weight(folder):
    copy = folder("csr")
    file = copy / "2_SparseAutoEncoder" / "model.safetensors"
    tensors = load_file(file)
    save_file({name: tensors[name] for name in tensors if name != "decoder.linear.weight"}, file)
    failing(copy, "2_SparseAutoEncoder", "missing key", "encoder.weight", error=WeightsError)


@pytest.mark.parametrize("where", ["settings", "config"])
def test_more_active_units_than_there_are(folder, where):
    """It loads, as an untrained one on a small backbone does, and cannot encode."""
    copy = folder("csr")
    update(copy, "config_sentence_transformers.json", max_active_dims=None if where == "settings" else 129)
    update(copy, AUTO_ENCODER, k=129)
    model = load(copy)
    assert model.max_active_dims == 129
    with pytest.raises(ShapeError, match=r"128 units, of which 129 cannot be kept \(k, or max_active_dims\)") as caught:
        model.encode(TEXTS)
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("value", ["8", 0, -1, True, [8], 1.5])
@pytest.mark.parametrize("name", ["splade", "csr"])
def test_a_bound_that_is_none(folder, name, value):
    copy = folder(name)
    update(copy, "config_sentence_transformers.json", max_active_dims=value)
    failing(copy, "config_sentence_transformers.json", "max_active_dims", repr(value))


@pytest.mark.parametrize(("key", "value"), [("frozen", "x"), ("frozen", 3), ("path", 3), ("path", ["idf.json"])])
def test_settings_of_a_table(folder, key, value):
    copy = folder("static")
    update(copy, "config.json", **{key: value})
    failing(copy, "config.json", key, repr(value))


@pytest.mark.parametrize("path", ["../idf.json", "/etc/idf.json", "C:\\idf.json", "a/../../idf.json", "a\0.json"])
@pytest.mark.parametrize("name", ["static", "router"])
def test_weights_outside_the_folder_are_not_read(folder, name, path):
    copy = folder(name)
    (copy.parent / "idf.json").write_text('{"a": 1}')
    file = "config.json" if name == "static" else f"{QUERY}/config.json"
    update(copy, file, path=path)
    failing(copy, "path", repr(path))


def test_weights_that_are_missing(folder):
    copy = folder("router")
    update(copy, f"{QUERY}/config.json", path="idf.json")
    failing(copy, QUERY, "idf.json", error=OSError)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "object of weights by token, got list"), ("3", "got int"), ("", "not JSON"), ("{", "not JSON"),
        ('{"a": "x"}', "'a' must be a finite float32 number, got 'x'"), ('{"a": NaN}', "got nan"),
        ('{"a": Infinity}', "got inf"), ('{"a": 1e400}', "got inf"), ('{"a": 1e39}', "got 1e+39"),
        ('{"a": null}', "got None"), ('{"a": true}', "got True"), ('{"a": [1]}', "got [1]"),
        (f'{{"a": {"9" * 400}}}', "got 999"), ('{"no such token": "x"}', "no such token"), ("[" * 100_000, "not JSON"),
    ],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_weights_that_are_no_numbers(folder, content, said):
    copy = folder("static")
    update(copy, "config.json", path="idf.json")
    (copy / "idf.json").write_text(content)
    failing(copy, "idf.json", said)


@pytest.mark.parametrize("shape", [(100,), (200,), (154, 1), (0,)], ids=str)
def test_a_table_of_another_size(folder, shape):
    copy = folder("static")
    save_file({"weight": torch.ones(shape)}, copy / "model.safetensors")
    failing(copy, "'weight' has shape", str(shape), "(154,)", error=WeightsError)


def larger(folder):
    """Give a folder's tokenizer words that its weights do not know."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"new{i}" for i in range(50)])
    tokenizer.save_pretrained(folder)


def test_a_tokenizer_larger_than_the_weights(folder):
    copy = folder("static")
    larger(copy)
    failing(copy, "weight", "(154,)", "(204,)", error=WeightsError)
    copy = folder("splade")
    larger(copy)
    model = load(copy)
    assert model.encode(TEXTS).shape == (2, 154)
    with pytest.raises(WeightsError, match="the tokenizer gives ids up to"):
        model.encode(["a new9 word"])


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_table_without_one_of_its_files(folder, name):
    copy = folder("router")
    (copy / QUERY / name).unlink()
    failing(copy, QUERY, "tokenizer" if "tokenizer" in name else name, error=(FolderError, OSError))


@pytest.mark.parametrize("value", ["x", [3], True, float("nan")])
@pytest.mark.parametrize("name", ["splade", f"router/{QUERY}"])
def test_a_length_that_is_no_number(folder, name, value):
    model, _, inside = name.partition("/")
    copy = folder(model)
    update(copy / inside, "tokenizer_config.json", model_max_length=value)
    failing(copy, "tokenizer_config.json", "model_max_length", repr(value))


def test_a_model_of_which_no_module_writes_vectors(folder):
    copy = folder("splade")
    change(copy, "modules.json", lambda entries: entries.pop())
    for cls in (SparseEncoder, SentenceTransformer):
        update(copy, "config_sentence_transformers.json", model_type=cls.__name__)
        with pytest.raises(MissingFeatureError, match="no module of the model wrote the feature 'sentence_embedding'"):
            cls(str(copy), device="cpu").encode(TEXTS)


@pytest.mark.parametrize("keep", [0, 5, 60, -3])
@pytest.mark.parametrize("name", ["csr/2_SparseAutoEncoder/model.safetensors", f"router/{QUERY}/model.safetensors"])
def test_truncated_weights(folder, name, keep):
    model, _, file = name.partition("/")
    copy = folder(model)
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[:keep])
    failing(copy, file)


def test_a_pickle_that_runs_code(folder, tmp_path):
    import os

    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    for name, inside in (("csr", "2_SparseAutoEncoder"), ("router", QUERY)):
        copy = folder(name)
        (copy / inside / "model.safetensors").unlink()
        torch.save({"weight": Malicious()}, copy / inside / "pytorch_model.bin")
        failing(copy, f"{inside}/pytorch_model.bin")
    assert not (tmp_path / "ran").exists()


def test_a_route_may_not_leave_the_folder_nor_name_other_code(folder):
    copy = folder("router")
    config = json.loads((copy / "router_config.json").read_text())
    for changed, said in (
        ({"types": {**config["types"], QUERY: "os.system"}}, "trust_remote_code=True"),
        ({"types": {**config["types"], QUERY: "sentence_transformers.models.SpladePooling"}}, "SpladePooling"),
        ({"structure": {"query": ["../x"], "document": []}}, "../x"),
    ):
        (copy / "router_config.json").write_text(json.dumps({**config, **changed}))
        failing(copy, "router_config.json", said, error=FourfoldError)
