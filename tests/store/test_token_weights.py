import json

import numpy as np
import pytest

from fourfold.errors import FolderError, MissingFileError
from fourfold.store.source import Source
from fourfold.store.token_weights import find_weights, read_weights

VOCABULARY = {"a": 0, "b": 1, "c": 4}


def test_tokens_without_a_weight_have_none(tmp_path):
    file = tmp_path / "idf.json"
    file.write_text(json.dumps({"b": 2.5, "c": -1, "elsewhere": 7}))
    weights = read_weights(file, VOCABULARY, "idf")
    assert (weights.dtype, weights.tolist()) == (np.float32, [0, 2.5, 0, 0, -1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "the file is not JSON"),
        ("[" * 100_000, "the file is not JSON"),
        ("[1]", "must hold an object of weights by token, got list"),
        ('{"a": "1"}', "the weight of 'a' must be a finite float32 number, got '1'"),
        ('{"a": true}', "the weight of 'a' must be a finite float32 number, got True"),
        ('{"elsewhere": NaN}', "the weight of 'elsewhere' must be a finite float32 number, got nan"),
    ],
    ids=["cut", "deep", "list", "text", "truth", "none"],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, said):
    (tmp_path / "idf.json").write_text(content)
    with pytest.raises(FolderError, match=said):
        read_weights(tmp_path / "idf.json", VOCABULARY, "the file")


def test_the_file_lies_beside_the_settings_or_in_the_models_folder(tmp_path):
    inside = Source(str(tmp_path), subfolder="query")
    with pytest.raises(MissingFileError, match=r"query/idf\.json is missing"):
        find_weights(inside, "idf.json")
    (tmp_path / "query").mkdir()
    for folder in (tmp_path, tmp_path / "query"):
        (folder / "idf.json").write_text("{}")
        assert find_weights(inside, "idf.json") == folder / "idf.json"
    for path in ("../idf.json", "/idf.json"):
        with pytest.raises(FolderError, match="relative path"):
            find_weights(inside, path)
