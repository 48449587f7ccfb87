import json
import re

import pytest
from tests.support import named, wordpiece
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from fourfold.errors import FolderError, MissingFileError
from fourfold.store.source import Source
from fourfold.store.tokenizer import SavedTokenizer, read_tokenizer


def test_a_saved_tokenizer_is_read(tmp_path):
    wordpiece().save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(Source(str(tmp_path))).encode("the fox").ids == wordpiece().encode("the fox").ids


def test_an_absent_one_names_the_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"tokenizer\.json is missing"):
        read_tokenizer(Source(str(tmp_path)))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model": {"type": "Nothing"}}', "{"])
def test_a_damaged_one_names_the_file(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(FolderError, match=r"tokenizer\.json cannot be read"):
        read_tokenizer(Source(str(tmp_path)))


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def saved(folder, *, special=SPECIAL, **settings):
    """Write a tokenizer as transformers does, with other settings, and return both readings of it."""
    base = wordpiece()
    base.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(tokenizer_object=base, unk_token="[UNK]", model_max_length=9)
    fast.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    made = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps({name: value for name, value in made.items() if value is not None}))
    return SavedTokenizer.read(Source(str(folder))), AutoTokenizer.from_pretrained(folder)


NEW = {"content": "[NEW]", "special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
HARSH = "Thé QUICK [NEW] fox 漢字 [SEP]"


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({}, ""),
        ({"do_lower_case": False}, ""),
        ({"tokenizer_class": None}, ""),
        ({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": None}, ""),
        ({"tokenizer_class": "BertTokenizer", "do_lower_case": False}, "sets do_lower_case to False"),
        ({"tokenizer_class": "BertTokenizerFast", "tokenize_chinese_chars": False}, "sets tokenize_chinese_chars"),
        ({"tokenizer_class": "DistilBertTokenizer", "strip_accents": False}, "sets strip_accents to False"),
        ({"mask_token": "[NEW]"}, r"adds the tokens '\[NEW\]'"),
        ({"added_tokens_decoder": {"500": NEW}}, r"adds the tokens '\[NEW\]'"),
        ({"extra_special_tokens": ["[NEW]"]}, r"adds the tokens '\[NEW\]'"),
        ({"additional_special_tokens": ["[NEW]"]}, r"adds the tokens '\[NEW\]'"),
        ({"split_special_tokens": True}, "splits special tokens"),
        ({"special": ["[PAD]"], "tokenizer_class": "BertTokenizer"}, r"adds the tokens .*'\[SEP\]'"),
    ],
    ids=named,
)
def test_what_transformers_would_change_is_told(tmp_path, settings, changed):
    ours, theirs = saved(tmp_path, **settings)
    assert re.match(changed + ("" if changed else "$"), ours.changed)
    same = ours.base.encode(HARSH, add_special_tokens=False).ids == theirs(HARSH, add_special_tokens=False).input_ids
    assert same or ours.changed


@pytest.mark.parametrize(
    ("settings", "length", "side"),
    [
        ({}, 9, "right"),
        ({"model_max_length": 1e30}, None, "right"),
        ({"model_max_length": None}, None, "right"),
        ({"model_max_length": None, "max_len": 7}, 7, "right"),
        ({"truncation_side": "left"}, 9, "left"),
    ],
    ids=named,
)
def test_the_limit_is_the_one_of_transformers(tmp_path, settings, length, side):
    ours, theirs = saved(tmp_path, **settings)
    assert (ours.max_length, ours.truncation_side) == (length, side)
    assert theirs.truncation_side == side
    assert theirs.model_max_length == length if length else theirs.model_max_length > 1e9


def test_a_side_may_be_the_files_own(tmp_path):
    base = wordpiece()
    base.enable_truncation(5, direction="left")
    base.save(str(tmp_path / "tokenizer.json"))
    ours, theirs = (
        SavedTokenizer.read(Source(str(tmp_path))),
        PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json")),
    )
    assert (ours.max_length, ours.truncation_side) == (None, "left")
    assert theirs.truncation_side == "left"


@pytest.mark.parametrize("settings", [{"model_max_length": 0}, {"truncation_side": "middle"}], ids=named)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings):
    wordpiece().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(FolderError, match=r"tokenizer_config\.json: model_max_length must be at least 1"):
        SavedTokenizer.read(Source(str(tmp_path)))
