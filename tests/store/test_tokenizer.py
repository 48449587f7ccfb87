import pytest
from tests.support import wordpiece

from fourfold.errors import FolderError, MissingFileError
from fourfold.store.source import Source
from fourfold.store.tokenizer import read_tokenizer


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
