import numpy as np
import pytest

from fourfold.errors import MissingFileError
from fourfold.store.fingerprint import fingerprint
from fourfold.store.source import Source


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    return tmp_path


def name(folder):
    return fingerprint(Source(str(folder)))


def test_it_is_sixteen_hexadecimal_digits_and_stays(folder):
    first = name(folder)
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert name(folder) == first


@pytest.mark.parametrize("position", [0, 1, 500, 999])
def test_every_byte_of_small_weights_counts(folder, position):
    before = name(folder)
    weights = bytearray(1000)
    weights[position] = 1
    (folder / "model.safetensors").write_bytes(weights)
    assert name(folder) != before


@pytest.mark.parametrize("file", ["modules.json", "1_Pooling/config.json", "tokenizer.json"])
def test_settings_count(folder, file):
    before = name(folder)
    (folder / file).write_text('{"a": 1}')
    assert name(folder) != before


def test_moving_bytes_between_files_counts(folder):
    (folder / "a.json").write_text("ab")
    (folder / "b.json").write_text("c")
    before = name(folder)
    (folder / "a.json").write_text("a")
    (folder / "b.json").write_text("bc")
    assert name(folder) != before


def test_one_file_cannot_pass_for_two(folder):
    (folder / "x.json").write_bytes(b"1y.json\0" + b"2")
    before = name(folder)
    (folder / "x.json").write_bytes(b"1")
    (folder / "y.json").write_bytes(b"2")
    assert name(folder) != before


@pytest.mark.parametrize("file", ["README.md", ".gitattributes", ".cache/x", "picture.png"])
def test_what_is_not_the_model_does_not_count(folder, file):
    before = name(folder)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text("changed")
    assert name(folder) == before


def test_a_copy_has_the_same_name(folder, tmp_path_factory):
    import shutil

    copy = tmp_path_factory.mktemp("copy") / "model"
    shutil.copytree(folder, copy)
    assert name(copy) == name(folder)


def test_large_weights_are_sampled_at_both_ends_and_between(folder):
    weights = np.random.default_rng(0).integers(0, 255, 3 << 20, dtype=np.uint8)
    (folder / "model.safetensors").write_bytes(weights.tobytes())
    before = name(folder)
    for change in (slice(0, 1), slice(-1, None), slice(1 << 20, 1 << 21)):
        other = weights.copy()
        other[change] += 1
        (folder / "model.safetensors").write_bytes(other.tobytes())
        assert name(folder) != before


def test_a_folder_without_a_model_has_none(tmp_path):
    with pytest.raises(MissingFileError, match=r"config\.json"):
        name(tmp_path)
