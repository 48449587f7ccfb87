import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fourfold.errors import FolderError, MissingFileError, WeightsError
from fourfold.store.source import Source
from fourfold.store.weights import check_checkpoint, load_into, read_arrays, read_tensors, save_module

FILE = "model.safetensors"


def source(folder):
    return Source(str(folder))


def write_raw(folder, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / FILE).write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_arrays_and_tensors_are_those_that_were_saved(tmp_path, dtype):
    given = {"a": torch.arange(6).reshape(2, 3).to(getattr(torch, dtype)), "scalar": torch.ones((), dtype=torch.int64)}
    save_file(given, tmp_path / FILE)
    arrays, tensors = read_arrays(source(tmp_path)), read_tensors(source(tmp_path))
    assert arrays["a"].dtype == dtype
    np.testing.assert_array_equal(arrays["a"], given["a"].numpy())
    assert torch.equal(tensors["a"], given["a"])
    assert arrays["scalar"].shape == ()


def test_arrays_are_read_only_views_of_the_file(tmp_path):
    save_file({"a": torch.ones(4)}, tmp_path / FILE)
    array = read_arrays(source(tmp_path))["a"]
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2


def test_bfloat16_reads_as_tensors(tmp_path):
    save_file({"a": torch.ones(4, dtype=torch.bfloat16)}, tmp_path / FILE)
    assert read_tensors(source(tmp_path))["a"].dtype == torch.bfloat16
    with pytest.raises(FolderError, match=r"model\.safetensors: tensor 'a'.*BF16"):
        read_arrays(source(tmp_path))


def test_an_empty_file_of_tensors_is_fine(tmp_path):
    write_raw(tmp_path, {"__metadata__": {"format": "pt"}})
    assert read_arrays(source(tmp_path)) == {}


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

DAMAGED = {
    "empty": b"",
    "short": b"abc",
    "header too long": struct.pack("<Q", 2**60) + b"{}",
    "header is no JSON": struct.pack("<Q", 4) + b"abcd",
    "header is a list": struct.pack("<Q", 2) + b"[]",
    "data cut": {"a": F32},
    "end beyond the file": ({"a": {**F32, "data_offsets": [0, 800]}}, b"x" * 8),
    "start after end": ({"a": {**F32, "data_offsets": [8, 0]}}, b"x" * 8),
    "negative": ({"a": {**F32, "data_offsets": [-8, 0]}}, b"x" * 8),
    "shape larger than the bytes": ({"a": {**F32, "shape": [3]}}, b"x" * 8),
    "shape overflows": ({"a": {**F32, "shape": [2**62, 4]}}, b"x" * 8),
    "negative shape": ({"a": {**F32, "shape": [-1, -2]}}, b"x" * 8),
    "no dtype": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, b"x" * 8),
    "unknown dtype": ({"a": {**F32, "dtype": "X9"}}, b"x" * 8),
    "offsets are no pair": ({"a": {**F32, "data_offsets": [0]}}, b"x" * 8),
    "offsets are words": ({"a": {**F32, "data_offsets": ["a", "b"]}}, b"x" * 8),
    "shape is a number": ({"a": {**F32, "shape": 2}}, b"x" * 8),
    "shape whose product overflows to nothing": {"a": {**F32, "shape": [2**62, 4], "data_offsets": [0, 0]}},
    "header too deep": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "entry is a number": ({"a": 3}, b"x" * 8),
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("read", [read_arrays, read_tensors])
def test_every_damage_is_a_folder_error_that_names_the_file(tmp_path, kind, read):
    content = DAMAGED[kind]
    if isinstance(content, bytes):
        (tmp_path / FILE).write_bytes(content)
    else:
        write_raw(tmp_path, *(content if isinstance(content, tuple) else (content,)))
    with pytest.raises(FolderError, match=r"model\.safetensors"):
        read(source(tmp_path))


def test_no_weights_at_all(tmp_path):
    with pytest.raises(MissingFileError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        read_tensors(source(tmp_path))
    with pytest.raises(MissingFileError, match=r"model\.safetensors is missing"):
        read_arrays(source(tmp_path))


# -- pickles -----------------------------------------------------------------------------------------------------------


class Malicious:
    def __reduce__(self):
        return (os.mkdir, (os.environ["FOURFOLD_TEST_MARK"],))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_runs_code_is_refused(tmp_path, monkeypatch):
    mark = tmp_path / "the code ran"
    monkeypatch.setenv("FOURFOLD_TEST_MARK", str(mark))
    torch.save({"weight": Malicious()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FolderError, match=r"pytorch_model\.bin cannot be read"):
        read_tensors(source(tmp_path))
    assert not mark.exists()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(FolderError, match=r"pytorch_model\.bin cannot be read"):
        read_tensors(source(tmp_path))
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04", b"\x80\x02a", b"\x80\x02h\x05.", b"PK\x03\x04"])
def test_a_damaged_pickle_is_a_folder_error(tmp_path, content):
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(FolderError, match=r"pytorch_model\.bin cannot be read"):
        read_tensors(source(tmp_path))


def test_a_pickle_must_hold_a_dictionary(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "pytorch_model.bin")
    with pytest.raises(FolderError, match=r"pytorch_model\.bin must hold a dictionary of tensors, got list"):
        read_tensors(source(tmp_path))


def test_safetensors_win_over_a_pickle(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    save_file({"a": torch.ones(1)}, tmp_path / FILE)
    assert read_tensors(source(tmp_path))["a"].item() == 1


# -- into modules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False])
def test_saved_weights_load_bitwise(tmp_path, safe):
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    save_module(first, tmp_path, safe_serialization=safe)
    assert (tmp_path / FILE).exists() is safe
    load_into(second, source(tmp_path))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_everything_that_does_not_fit_is_listed(tmp_path):
    save_file({"weight": torch.ones(2, 4), "extra": torch.ones(1)}, tmp_path / FILE)
    with pytest.raises(WeightsError) as caught:
        load_into(torch.nn.Linear(3, 2), source(tmp_path))
    message = str(caught.value)
    assert isinstance(caught.value, RuntimeError)
    assert str(tmp_path) in message
    for part in ("missing key 'bias'", "unexpected key 'extra'", "'weight' has shape (2, 4)", "(2, 3)", "Linear"):
        assert part in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_become_float32(tmp_path, dtype):
    save_file({"weight": torch.full((2, 3), 0.5, dtype=dtype), "bias": torch.zeros(2, dtype=dtype)}, tmp_path / FILE)
    linear = torch.nn.Linear(3, 2)
    load_into(linear, source(tmp_path))
    assert linear.weight.dtype == torch.float32
    assert linear.weight.unique().tolist() == [0.5]


# -- before transformers looks -----------------------------------------------------------------------------------------


def test_a_sound_checkpoint_passes(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.ones(3)}, tmp_path / FILE)
    check_checkpoint(source(tmp_path))


@pytest.mark.parametrize("cut", [1, 5, 200])
def test_a_truncated_checkpoint_is_told_by_its_size(tmp_path, cut):
    save_file({"a": torch.ones(300)}, tmp_path / FILE)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-cut])
    with pytest.raises(FolderError, match=rf"model\.safetensors is truncated.* {len(whole)} .* {len(whole) - cut}"):
        check_checkpoint(source(tmp_path))


def test_a_config_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(FolderError, match=r"config\.json must hold a JSON object"):
        check_checkpoint(source(tmp_path))


@pytest.mark.parametrize("held", [{1: torch.ones(1)}, {"x": 3}, {"x": [torch.ones(1)]}])
def test_a_pickle_must_hold_tensors_by_name(tmp_path, held):
    torch.save(held, tmp_path / "pytorch_model.bin")
    with pytest.raises(FolderError, match=r"pytorch_model\.bin must hold tensors by name"):
        read_tensors(Source(str(tmp_path)))
