import json
import logging
import sys

import pytest

from fourfold.errors import FolderError, MissingExtraError
from fourfold.store.manifest import (
    CONTRACT_VERSION,
    ModelConfig,
    ModuleEntry,
    check_requirements,
    modules_json,
    read_modules,
)
from fourfold.store.source import Source

GOOD = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}


def write(folder, name, value):
    (folder / name).write_text(json.dumps(value))
    return Source(str(folder))


def test_entries_keep_the_order_of_the_file(tmp_path):
    rows = [{**GOOD, "name": "b", "idx": 7}, {**GOOD, "name": "a", "idx": 0, "extra": 1, "kwargs": ["task"]}]
    got = read_modules(write(tmp_path, "modules.json", rows))
    assert got == [ModuleEntry("b", "", GOOD["type"]), ModuleEntry("a", "", GOOD["type"], ("task",))]


@pytest.mark.parametrize("name", ["", "a.b", "0"])
def test_names_must_be_unique_and_usable(tmp_path, name):
    with pytest.raises(FolderError, match=r"modules\.json: entry 1: 'name' must be unique"):
        read_modules(write(tmp_path, "modules.json", [GOOD, {**GOOD, "name": name}]))


def test_a_folder_without_the_file_is_a_plain_checkpoint(tmp_path):
    assert read_modules(Source(str(tmp_path))) is None


@pytest.mark.parametrize("value", [{}, [], "x", 3, {"0": GOOD}])
def test_the_file_must_hold_a_list(tmp_path, value):
    with pytest.raises(FolderError, match=r"modules\.json must hold a non-empty list"):
        read_modules(write(tmp_path, "modules.json", value))


@pytest.mark.parametrize("entry", [3, None, "x", ["x"]])
def test_each_entry_must_be_an_object(tmp_path, entry):
    with pytest.raises(FolderError, match=r"modules\.json: entry 1 must be an object"):
        read_modules(write(tmp_path, "modules.json", [GOOD, entry]))


@pytest.mark.parametrize("key", ["name", "path", "type"])
def test_a_missing_key_is_a_key_error(tmp_path, key):
    entry = {**GOOD, key: None}
    del entry[key]
    with pytest.raises(KeyError) as caught:
        read_modules(write(tmp_path, "modules.json", [GOOD, entry]))
    assert isinstance(caught.value, FolderError)
    assert str(caught.value).endswith(f"modules.json: entry 1 lacks the key '{key}'")


def test_nothing_in_the_file_is_not_no_file(tmp_path):
    with pytest.raises(FolderError, match=r"modules\.json must hold a non-empty list"):
        read_modules(write(tmp_path, "modules.json", None))


@pytest.mark.parametrize("key", ["name", "path", "type"])
@pytest.mark.parametrize("value", [None, 3, ["x"]])
def test_keys_must_be_strings(tmp_path, key, value):
    entry = {**GOOD, key: value}
    with pytest.raises(FolderError, match=rf"modules\.json: entry 1 needs a string under the key '{key}'"):
        read_modules(write(tmp_path, "modules.json", [GOOD, entry]))


@pytest.mark.parametrize("path", ["..", "/etc", "C:\\x", "a\\..\\..\\b", "a\0b", "\\\\host\\share"])
def test_paths_must_stay_inside(tmp_path, path):
    with pytest.raises(FolderError, match=r"modules\.json: entry 0: path .* relative path inside"):
        read_modules(write(tmp_path, "modules.json", [{**GOOD, "path": path}]))


@pytest.mark.parametrize("kwargs", ["task", {"task": 1}, [1], None])
def test_kwargs_must_be_names(tmp_path, kwargs):
    with pytest.raises(FolderError, match=r"modules\.json: entry 0: 'kwargs' must be a list of names"):
        read_modules(write(tmp_path, "modules.json", [{**GOOD, "kwargs": kwargs}]))


def test_what_is_written_is_what_is_read(tmp_path):
    entries = [ModuleEntry("first", "", "a.B", ("task",)), ModuleEntry("1", "1_C", "a.C")]
    rows = modules_json(entries)
    assert rows[0] == {"idx": 0, "name": "first", "path": "", "type": "a.B", "kwargs": ["task"]}
    assert "kwargs" not in rows[1]
    assert read_modules(write(tmp_path, "modules.json", rows)) == entries


# -- config_sentence_transformers.json ---------------------------------------------------------------------------------

CONFIG = "config_sentence_transformers.json"


def test_an_absent_config_gives_the_defaults(tmp_path):
    assert ModelConfig.read(Source(str(tmp_path))) == ModelConfig()


def test_nulls_give_the_defaults(tmp_path):
    nulls = {"model_type": None, "prompts": None, "default_prompt_name": None, "similarity_fn_name": None}
    assert ModelConfig.read(write(tmp_path, CONFIG, nulls)) == ModelConfig()


def test_unknown_keys_are_kept_apart(tmp_path):
    config = ModelConfig.read(write(tmp_path, CONFIG, {"prompts": {"q": "x"}, "truncate_dim": 3, "__version__": {}}))
    assert config.prompts == {"q": "x"}
    assert config.extra == {"truncate_dim": 3}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompts", ["x"]),
        ("prompts", "x"),
        ("model_type", 3),
        ("default_prompt_name", {}),
        ("similarity_fn_name", ["cosine"]),
        ("truncate_dim", "5"),
    ],
)
def test_wrong_types_name_the_key(tmp_path, key, value):
    with pytest.raises(FolderError, match=rf"{CONFIG}: '{key}' must be"):
        ModelConfig.read(write(tmp_path, CONFIG, {key: value}))


def test_prompts_must_be_strings(tmp_path):
    with pytest.raises(FolderError, match="prompt 'q' must be a string, got 3"):
        ModelConfig.read(write(tmp_path, CONFIG, {"prompts": {"q": 3}}))


@pytest.mark.parametrize("value", [[], "x", 5, True])
def test_the_config_must_be_an_object(tmp_path, value):
    with pytest.raises(FolderError, match=rf"{CONFIG} must hold a JSON object"):
        ModelConfig.read(write(tmp_path, CONFIG, value))


@pytest.mark.parametrize(
    ("version", "warns"),
    [("99.0.0", True), ("6.2.1", True), (CONTRACT_VERSION, False), ("2.0.0", False),
     ("6.2.0.dev0", False), (None, False), (3, False)],
)  # fmt: skip
def test_only_a_newer_version_warns(tmp_path, caplog, version, warns):
    with caplog.at_level(logging.WARNING):
        ModelConfig.read(write(tmp_path, CONFIG, {"__version__": {"sentence_transformers": version}}))
    assert ("newer than" in caplog.text) is warns


def test_versions_are_written():
    versions = ModelConfig().json()["__version__"]
    assert versions["sentence_transformers"] == CONTRACT_VERSION
    assert set(versions) == {"sentence_transformers", "transformers", "pytorch"}


# -- requirements ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "requirements",
    [None, {}, {"numpy": ">=1"}, {"numpy": {"specifier": ">=1", "reason": "sums"}}, {"python": ">=3.8"},
     {"pytorch": ">=2"}, {"numpy": ""}],
)  # fmt: skip
def test_met_requirements_pass(requirements, caplog):
    check_requirements(requirements, "here")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ({"numpy": "<1"}, ["numpy<1", 'pip install "numpy<1"']),
        ({"no-such-package-at-all": ">=1"}, ["no-such-package-at-all>=1", "found nothing"]),
        ({"python": ">=99"}, ["python>=99", "found " + ".".join(map(str, sys.version_info[:3]))]),
        ({"pytorch": "<1"}, ["torch<1"]),
        ({"numpy": {"specifier": "<1", "reason": "old sums"}, "pytorch": "<1"}, ["old sums", "numpy<1", "torch<1"]),
    ],
)
def test_every_unmet_requirement_is_listed(requirements, said):
    with pytest.raises(MissingExtraError) as caught:
        check_requirements(requirements, "here")
    assert isinstance(caught.value, ImportError)
    for part in said:
        assert part in str(caught.value)


def test_no_pip_hint_for_python():
    with pytest.raises(MissingExtraError) as caught:
        check_requirements({"python": ">=99"}, "here")
    assert "pip install" not in str(caught.value)


@pytest.mark.parametrize(
    "requirements", [["numpy"], "numpy", {"numpy": "newest"}, {"numpy": 3}, {"numpy": {}}, {"numpy": None}]
)
def test_unreadable_requirements_warn_and_are_skipped(requirements, caplog):
    check_requirements(requirements, "here")
    assert "here:" in caplog.text


def test_prereleases_count(monkeypatch):
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.0.0rc1")
    check_requirements({"numpy": ">=2"}, "here")


def test_an_unmet_requirement_is_found_before_a_module_is_loaded(tmp_path):
    from fourfold import SentenceTransformer

    write(tmp_path, CONFIG, {"requirements": {"numpy": "<1"}})
    write(tmp_path, "modules.json", [{**GOOD, "type": "sentence_transformers.models.NoSuchThing"}])
    with pytest.raises(ImportError, match="numpy<1"):
        SentenceTransformer(str(tmp_path))
