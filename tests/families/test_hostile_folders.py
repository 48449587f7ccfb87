"""A folder is anybody's: what is wrong with it is told by file and key, and never run."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fourfold import SentenceTransformer
from fourfold.errors import FolderError, FourfoldError, UnknownModuleError, WeightsError
from fourfold.modules import Dense
from fourfold.testing import WIDTH, tiny, tiny_folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "model"
    SentenceTransformer(modules=[*[*tiny()][:2], Dense(WIDTH, 4)], device="cpu").save(path)
    return path


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "model")


def load(folder, **options):
    return SentenceTransformer(str(folder), device="cpu", **options)


def change(folder, name, function):
    file = folder / name
    value = json.loads(file.read_text())
    function(value)
    file.write_text(json.dumps(value))


def retype(folder, position, kind):
    change(folder, "modules.json", lambda entries: entries[position].update(type=kind))


def failing(folder, error, *parts, **options):
    with pytest.raises(error) as caught:
        load(folder, **options)
    assert isinstance(caught.value, FourfoldError)
    message = str(caught.value)
    for part in (str(folder), *parts):
        assert part in message


def test_the_sound_folder_loads(folder):
    assert load(folder).encode("a").shape == (4,)


@pytest.mark.parametrize(
    "kind",
    ["sentence_transformers.models.Poling", "sentence_transformers.models.BERT", "sentence_transformers.util.http_get",
     "sentence_transformers.models.tokenizer.Jieba.X", "fourfold.modules._base.Module", "fourfold.store.files"],
)  # fmt: skip
def test_an_unknown_type(folder, kind):
    retype(folder, 1, kind)
    failing(folder, UnknownModuleError, "modules.json", kind, "pooling")
    with pytest.raises(ImportError):
        load(folder, trust_remote_code=True)


@pytest.mark.parametrize("kind", ["os.system", "my_code.Pooling", "owner/repo--file.Class", "subprocess.Popen", "X"])
def test_somebody_elses_code_needs_trust(folder, kind):
    (folder / "my_code.py").write_text("raise SystemExit('this ran')")
    retype(folder, 1, kind)
    failing(folder, FolderError, "modules.json", kind, "trust_remote_code=True")


@pytest.mark.parametrize("path", ["../other", "/etc", "C:\\x", "a/../../b"])
def test_a_path_that_leaves_is_refused_before_anything_is_loaded(folder, path, monkeypatch):
    from fourfold.modules import Transformer

    monkeypatch.setattr(Transformer, "load", lambda *args, **kwargs: pytest.fail("a module was loaded"))
    change(folder, "modules.json", lambda entries: entries[2].update(path=path))
    failing(folder, FolderError, "modules.json", "entry 2", repr(path))


@pytest.mark.parametrize(
    "name",
    ["modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json",
     "2_Dense/config.json", "config.json"],
)  # fmt: skip
@pytest.mark.parametrize("content", ["{", "", "\xff", "[1]", "3"])
def test_files_that_hold_something_else(folder, name, content):
    (folder / name).write_bytes(content.encode("latin-1"))
    failing(folder, FolderError, name.rpartition("/")[2])


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("1_Pooling/config.json", TypeError, "embedding_dimension"),
        ("2_Dense/config.json", TypeError, "in_features"),
        ("2_Dense/model.safetensors", OSError, "model.safetensors"),
        ("tokenizer.json", ValueError, "tokenizer"),
        ("config.json", Exception, "config.json"),
        ("model.safetensors", OSError, "model.safetensors"),
    ],
)
def test_a_missing_file_is_told(folder, name, error, said):
    (folder / name).unlink()
    with pytest.raises(error, match=said) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("mode", ["mena", "average", 3, {"mean": True}, None, []])
def test_an_unknown_pooling_mode(folder, mode):
    change(folder, "1_Pooling/config.json", lambda config: config.update(pooling_mode=mode))
    hint = ["Did you mean 'mean'?"] if mode == "mena" else []
    failing(folder, FolderError, "1_Pooling/config.json", "pooling_mode", *hint)


@pytest.mark.parametrize("width", ["32", -1, None, [32]])
def test_a_width_that_is_none(folder, width):
    change(folder, "1_Pooling/config.json", lambda config: config.update(embedding_dimension=width))
    failing(folder, FolderError, "1_Pooling/config.json", "embedding_dimension")


def test_an_unknown_key_of_pooling(folder):
    change(folder, "1_Pooling/config.json", lambda config: config.update(pooling_mod="mean"))
    failing(folder, FolderError, "1_Pooling/config.json", "'pooling_mod'", "Did you mean 'pooling_mode'?")


def test_weights_of_another_shape_in_a_part(folder):
    change(folder, "2_Dense/config.json", lambda config: config.update(out_features=5))
    failing(folder, WeightsError, "2_Dense", "'linear.weight' has shape (4, 32)", "(5, 32)")


def test_weights_of_another_shape_in_the_checkpoint(folder):
    change(folder, "config.json", lambda config: config.update(intermediate_size=17))
    failing(folder, WeightsError, "intermediate.dense.weight", "(48, 32)", "(17, 32)")


@pytest.mark.parametrize("name", ["model.safetensors", "2_Dense/model.safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 100, -3])
def test_truncated_weights(folder, name, keep):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:keep])
    failing(folder, FolderError, name)


def test_missing_and_unexpected_weights_of_a_part(folder):
    tensors = load_file(folder / "2_Dense" / "model.safetensors")
    tensors["extra"] = tensors.pop("linear.bias")
    save_file(tensors, folder / "2_Dense" / "model.safetensors")
    failing(folder, WeightsError, "2_Dense", "missing key 'linear.bias'", "unexpected key 'extra'")


def test_a_pickle_that_runs_code(folder, tmp_path, monkeypatch):
    import os

    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    (folder / "2_Dense" / "model.safetensors").unlink()
    torch.save({"linear.weight": Malicious()}, folder / "2_Dense" / "pytorch_model.bin")
    failing(folder, FolderError, "2_Dense/pytorch_model.bin")
    assert not (tmp_path / "ran").exists()


def test_a_symbolic_name_of_an_activation_runs_nothing(folder):
    change(folder, "2_Dense/config.json", lambda config: config.update(activation_function="torch.os.system"))
    failing(folder, FolderError, "2_Dense/config.json", "torch.os.system")


def test_prompts_of_another_kind(folder):
    change(folder, "config_sentence_transformers.json", lambda config: config.update(prompts={"query": 3}))
    failing(folder, FolderError, "config_sentence_transformers.json", "'query'")


@pytest.mark.parametrize("value", ["five", [5], {}, 2.5])
def test_a_truncation_of_another_kind(folder, value):
    change(folder, "config_sentence_transformers.json", lambda config: config.update(truncate_dim=value))
    failing(folder, FolderError, "config_sentence_transformers.json", "truncate_dim")


def test_a_damaged_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(FourfoldError, match=r"tokenizer"):
        load(folder)


def test_two_modules_of_one_name_are_refused(folder):
    change(folder, "modules.json", lambda entries: entries[2].update(name="1"))
    failing(folder, FolderError, "modules.json", "'1'")


@pytest.mark.parametrize("name", ["a.b", ""])
def test_names_that_no_module_can_have(folder, name):
    change(folder, "modules.json", lambda entries: entries[1].update(name=name))
    failing(folder, FolderError, "modules.json", repr(name))


def test_a_broken_card_does_not_stop_a_model(folder):
    (folder / "README.md").write_bytes(b"\xff\xfe\x00")
    assert load(folder).encode("a").shape == (4,)


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "model").write_text("x")
    with pytest.raises(NotADirectoryError):
        load(tmp_path / "model")


@pytest.mark.parametrize("name", ["", "a/b/c", "./missing"])
def test_a_name_that_means_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OSError, ValueError)):
        load(name)


def test_an_empty_folder(tmp_path):
    with pytest.raises(FolderError, match=r"config\.json is missing") as caught:
        load(tmp_path)
    assert isinstance(caught.value, OSError)


def test_errors_of_a_folder_leave_the_settings_of_torch_alone(folder):
    before = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    retype(folder, 2, "os.system")
    with pytest.raises(FolderError):
        load(folder)
    assert before == (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    assert tiny_folder().is_dir()
