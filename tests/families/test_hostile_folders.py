"""A broken or hostile folder is one error that names the file and the key."""

import json
import shutil

import pytest

from fourfold import SentenceTransformer
from fourfold.errors import FolderError, MissingExtraError, UnknownModuleError, WeightsError
from fourfold.testing import tiny_folder


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(tiny_folder(), tmp_path / "model")


def edit(folder, name, change):
    path = folder / name
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def cut(folder, name, size):
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])


MODULES, CONFIG, POOLING = "modules.json", "config_sentence_transformers.json", "1_Pooling/config.json"
SETTINGS = "sentence_bert_config.json"
CASES = {
    "header cut": (lambda f: cut(f, "model.safetensors", 1000), FolderError, ["model.safetensors", "truncated"]),
    "weights cut": (lambda f: cut(f, "model.safetensors", 30000), FolderError, ["model.safetensors", "truncated"]),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), OSError, ["model.safetensors"]),
    "wrong shapes": (
        lambda f: edit(f, "config.json", lambda c: c.update(intermediate_size=64)),
        WeightsError,
        ["intermediate.dense.weight", "(48, 32)", "(64, 32)"],
    ),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), FolderError, ["config.json", "JSON"]),
    "tokenizer damaged": (lambda f: (f / "tokenizer.json").write_text("{}"), FolderError, ["tokenizer"]),
    "modules no list": (lambda f: (f / MODULES).write_text("{}"), FolderError, [MODULES, "list"]),
    "path leaves": (
        lambda f: edit(f, MODULES, lambda m: m[1].update(path="../other")),
        FolderError,
        [MODULES, "../other"],
    ),
    "absolute path": (lambda f: edit(f, MODULES, lambda m: m[1].update(path="/etc")), FolderError, [MODULES, "/etc"]),
    "unknown part": (
        lambda f: edit(f, MODULES, lambda m: m[1].update(type="sentence_transformers.models.Foo")),
        UnknownModuleError,
        [MODULES, "models.Foo", "pooling"],
    ),
    "foreign code": (
        lambda f: edit(f, MODULES, lambda m: m[1].update(type="os.path.Foo")),
        FolderError,
        [MODULES, "os.path.Foo", "trust_remote_code"],
    ),
    "no pooling": (lambda f: shutil.rmtree(f / "1_Pooling"), FolderError, [POOLING, "embedding_dimension"]),
    "unknown mode": (
        lambda f: edit(f, POOLING, lambda c: c.update(pooling_mode="men")),
        FolderError,
        [POOLING, "pooling_mode", "'men'", "Did you mean 'mean'"],
    ),
    "unknown key": (
        lambda f: edit(f, POOLING, lambda c: c.update(pooling_mod="mean")),
        TypeError,
        [POOLING, "'pooling_mod'", "Did you mean 'pooling_mode'"],
    ),
    "unknown setting": (lambda f: edit(f, SETTINGS, lambda c: c.update(foo=1)), FolderError, [SETTINGS, "'foo'"]),
    "unknown task": (
        lambda f: edit(f, SETTINGS, lambda c: c.update(transformer_task="dream")),
        FolderError,
        [SETTINGS, "transformer_task", "'dream'"],
    ),
    "unknown default prompt": (
        lambda f: edit(f, CONFIG, lambda c: c.update(default_prompt_name="nobody")),
        ValueError,
        ["default_prompt_name", "'nobody'", "'query'"],
    ),
    "prompts no object": (lambda f: edit(f, CONFIG, lambda c: c.update(prompts=[])), FolderError, [CONFIG, "prompts"]),
    "requirements": (
        lambda f: edit(f, CONFIG, lambda c: c.update(requirements={"pytorch": ">=99"})),
        MissingExtraError,
        [CONFIG, "torch>=99", "pip install"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_error_names_file_and_key(folder, case):
    damage, error, words = CASES[case]
    SentenceTransformer(str(folder), device="cpu")  # whole, it loads
    damage(folder)
    with pytest.raises(error) as caught:
        SentenceTransformer(str(folder), device="cpu")
    for word in words:
        assert word in str(caught.value)


def test_a_folder_cannot_trust_itself(folder):
    edit(folder, SETTINGS, lambda c: c.update(model_kwargs={"trust_remote_code": True}))
    assert SentenceTransformer(str(folder), device="cpu").trust_remote_code is False


@pytest.mark.parametrize(
    ("name", "error"),
    [("no/such/model", FileNotFoundError), ("./nothing", FileNotFoundError), ("config.json", NotADirectoryError)],
)
def test_what_is_no_folder_is_said_at_once(folder, monkeypatch, name, error):
    monkeypatch.chdir(folder)
    with pytest.raises(error, match=name.split("/")[-1]):
        SentenceTransformer(name)


def test_nothing_at_all_is_an_error():
    with pytest.raises(ValueError, match="model_name_or_path or modules"):
        SentenceTransformer()
    with pytest.raises(ValueError, match="at least one module"):
        SentenceTransformer(modules=[])


def test_a_local_folder_needs_no_network(folder, no_network):
    assert SentenceTransformer(str(folder), device="cpu").encode("a text").shape == (32,)
