"""What every module inherits."""

import json
import warnings
from typing import ClassVar

import pytest
import torch

from fourfold.errors import FolderError, MissingFeatureError, MissingFileError, ShapeError
from fourfold.modules import Dense, Dropout, InputModule, LayerNorm, Module, Normalize, Pooling


class Parts(Module):
    config_keys: ClassVar = ["width"]
    config_key_renames: ClassVar = {"size": "width"}

    def __init__(self, width, depth=1):
        super().__init__()
        self.width, self.depth = width, depth

    def forward(self, features, **kwargs):
        return features

    def save(self, output_path, *args, safe_serialization=True, **kwargs):
        self.save_config(output_path)

    def get_embedding_dimension(self):
        return self.width


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "config.json").write_text('{"size": 3}')
    (tmp_path / "part" / "other.json").write_text('{"size": 4, "width": 5}')
    return tmp_path


def test_settings_come_under_todays_names_and_the_newer_of_two_counts(folder):
    assert Parts.load_config(str(folder), "part") == {"width": 3}
    assert Parts.load_config(str(folder), "part", "other.json") == {"width": 5}
    assert Parts.load_config(str(folder), "nowhere") == {}


def test_arguments_may_be_given_by_position_as_in_the_contract(folder):
    assert Parts.load(str(folder), "part", None, None, None, True, {"depth": 7}).depth == 7
    assert Parts.load_file_path(str(folder), "config.json", "part", None, None, None, True) is not None
    assert Parts.load_dir_path(str(folder), "part", None, None, None, True) == str(folder / "part")
    assert Parts.load_config(str(folder), "part", None, None, None, None, True) == {"width": 3}
    LayerNorm(3).save(str(folder / "part"))
    module = LayerNorm(3)
    assert LayerNorm.load_torch_weights(str(folder), "part", None, None, None, True, module) is module


def test_files_and_folders_that_are_absent_are_none(folder):
    assert Module.load_file_path(str(folder), "config.json", "part") == str(folder / "part" / "config.json")
    assert Module.load_file_path(str(folder), "none.json", "part") is None
    assert Module.load_dir_path(str(folder)) == str(folder)
    assert Module.load_dir_path(str(folder), "nowhere") is None
    assert Module.load_dir_path("nobody/nothing", "part", local_files_only=True) is None


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../b"])
def test_no_path_leaves_the_folder(folder, path):
    with pytest.raises(FolderError, match="relative path inside"):
        Module.load_dir_path(str(folder), path)
    with pytest.raises(FolderError, match="relative path inside"):
        Module.load_file_path(str(folder), path)


def test_weights_that_are_absent_are_an_error(folder):
    with pytest.raises(MissingFileError, match=r"neither model.safetensors nor pytorch_model.bin"):
        Module.load_torch_weights(str(folder), "part")


@pytest.mark.parametrize("name", ["get_sentence_embedding_dimension", "get_word_embedding_dimension"])
def test_older_names_of_the_width_warn_and_work(name):
    with pytest.warns(FutureWarning, match=f"Parts.{name} is deprecated; use get_embedding_dimension"):
        assert getattr(Parts(6), name)() == 6


def test_a_module_without_a_width_has_no_older_name_for_it():
    with pytest.raises(AttributeError, match="get_sentence_embedding_dimension"):
        _ = Dropout().get_sentence_embedding_dimension
    with pytest.raises(AttributeError, match="nothing"):
        _ = Parts(2).nothing


def test_a_module_that_defines_the_older_name_keeps_its_own():
    class Older(Parts):
        def get_sentence_embedding_dimension(self):
            return 99

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Older(2).get_sentence_embedding_dimension() == 99


def test_parameters_and_submodules_are_still_found():
    module = LayerNorm(3)
    assert isinstance(module.norm, torch.nn.LayerNorm)


def test_a_saved_older_key_is_silent(tmp_path, caplog):
    (tmp_path / "config.json").write_text('{"word_embedding_dimension": 4}')
    assert Pooling.load(str(tmp_path)).embedding_dimension == 4
    assert not caplog.messages


# -- input modules -----------------------------------------------------------------------------------------------------


class OldInput(InputModule):
    def tokenize(self, texts, **kwargs):
        return {"texts": texts, **kwargs}

    def forward(self, features, **kwargs):
        return features

    def save(self, output_path, *args, safe_serialization=True, **kwargs):
        pass


def test_a_module_of_the_older_interface_gets_texts_with_their_prompt_and_one_warning(caplog):
    module = OldInput()
    assert module.preprocess(["a", "b"], prompt="p ", task="query") == {"texts": ["p a", "p b"], "task": "query"}
    module.preprocess(["a"])
    assert caplog.messages == ["OldInput defines tokenize, which is deprecated; define preprocess instead"]


def test_tokenize_is_preprocess_with_a_warning(caplog):
    class NewInput(OldInput):
        tokenize = InputModule.tokenize

        def preprocess(self, inputs, prompt=None, **kwargs):
            return {"inputs": inputs, "prompt": prompt}

    assert NewInput().tokenize(["a"], prompt="p") == {"inputs": ["a"], "prompt": "p"}
    assert caplog.messages == ["NewInput.tokenize is deprecated; use preprocess"]


def test_a_module_with_neither_says_what_to_define():
    class Nothing(OldInput):
        tokenize = InputModule.tokenize

    with pytest.raises(NotImplementedError, match="Nothing must define preprocess"):
        Nothing().preprocess(["a"])
    assert (Nothing().modalities, Nothing().save_in_root, Normalize.save_in_root) == (["text"], True, False)


def test_tokenizers_of_both_kinds_are_saved_and_none_is_nothing(tmp_path):
    from tests.support import wordpiece
    from transformers import PreTrainedTokenizerFast

    module = OldInput()
    module.save_tokenizer(str(tmp_path))
    assert not list(tmp_path.iterdir())
    module.tokenizer = wordpiece()
    module.save_tokenizer(str(tmp_path))
    first = json.loads((tmp_path / "tokenizer.json").read_text())
    module.tokenizer = PreTrainedTokenizerFast(tokenizer_object=wordpiece())
    module.save_tokenizer(str(tmp_path))
    assert (tmp_path / "tokenizer_config.json").exists()
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"] == first["model"]["vocab"]


class Typed(Module):
    """Its annotations are what its settings are checked against."""

    config_keys: ClassVar[list[str]] = ["count", "flag", "name", "sizes"]

    def __init__(self, count: int, flag: bool = False, name: str | None = None, sizes: list[int] | None = None):
        super().__init__()
        self.count, self.flag, self.name, self.sizes = count, flag, name, sizes

    def forward(self, features, **kwargs):
        return features

    def save(self, output_path, *args, safe_serialization=True, **kwargs):
        self.save_config(output_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"count": "3"}, r"config\.json: 'count' must be int, got '3'"),
        ({"count": 3, "flag": "yes"}, "'flag' must be bool"),
        ({"count": 3, "flag": 2}, "'flag' must be bool"),
        ({"count": 3, "name": ["x"]}, r"'name' must be str \| None"),
        ({"count": 3, "sizes": 3}, r"'sizes' must be list\[int\] \| None"),
    ],
)
def test_settings_of_another_kind_are_told_by_file_and_key(tmp_path, settings, said):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(FolderError, match=said):
        Typed.load(str(tmp_path))


@pytest.mark.parametrize(("stated", "wanted"), [(0, False), (1, True), (None, False), (True, True)])
def test_numbers_and_null_stand_for_booleans(tmp_path, stated, wanted):
    (tmp_path / "config.json").write_text(json.dumps({"count": 3, "flag": stated, "name": None, "sizes": [1, 2]}))
    module = Typed.load(str(tmp_path))
    assert (module.flag, module.name, module.sizes) == (wanted, None, [1, 2])


def test_a_missing_feature_and_a_wrong_width_are_told_by_name():
    with pytest.raises(MissingFeatureError, match=r"Dense reads the feature 'sentence_embedding'.*there are: a") as got:
        Dense(8, 4)({"a": 1})
    assert isinstance(got.value, KeyError)
    with pytest.raises(ShapeError, match=r"Dense takes a 'sentence_embedding' of width 8.*\(2, 5\)"):
        Dense(8, 4)({"sentence_embedding": torch.ones(2, 5)})
