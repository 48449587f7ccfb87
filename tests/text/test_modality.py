import re
import types

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support import named

from fourfold.errors import InputError
from fourfold.text import modality
from fourfold.text.modality import infer_batch_modality, infer_modality, raise_unsupported_modality_error, supports

IMAGE = Image.new("RGB", (2, 2))
EVERYTHING = ["text", "image", "audio", "video", "message"]


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        ("a text", "text"),
        ("", "text"),
        (("a", "b"), "text"),
        (["a", "b"], "text"),
        ("data:image/png;base64,AA", "image"),
        ("https://x.org/cat.PNG?size=3", "image"),
        ("https://x.org/a cat.png", "text"),
        ("ftp://x.org/cat.png", "text"),
        ("nowhere.png", "text"),
        ("https://youtu.be/abc", "video"),
        ("youtube.com/watch", "text"),
        ("http://x.org/a.mkv", "video"),
        ("http://x.org/a.flac", "audio"),
        (IMAGE, "image"),
        (np.zeros(3), "audio"),
        (np.zeros((2, 3)), "audio"),
        (torch.zeros(3, 4, 4), "image"),
        (torch.zeros(2, 3, 4, 4), "video"),
        (np.zeros((1, 2, 3, 4, 4)), "video"),
        ({"role": "user", "content": "x"}, "message"),
        ([{"role": "user", "content": "x"}], "message"),
        ({"text": "a"}, "text"),
        ({"text": "a", "image": IMAGE}, ("image", "text")),
        ({"array": np.zeros(3), "sampling_rate": 16000}, "audio"),
        ({"array": np.zeros((2, 3, 4, 4)), "video_metadata": None}, "video"),
    ],
    ids=named,
)
def test_what_a_sample_is(sample, kind):
    assert infer_modality(sample) == kind
    assert infer_modality(sample, EVERYTHING) == kind


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (None, "NoneType"),
        (3, "int"),
        (["a"], "list"),
        (("a", IMAGE), "tuple"),
        (np.zeros((1,) * 6), "6 dimensions"),
        (torch.tensor(1.0), "0 dimensions"),
        ({}, "empty"),
        ({"array": np.zeros(3)}, "sampling_rate"),
        ({"picture": IMAGE}, "picture"),
        ({"text": "a", "sampling_rate": 3}, "beside the 'array'"),
    ],
)
def test_what_is_no_sample(sample, said):
    with pytest.raises(InputError, match=re.escape(said)):
        infer_modality(sample)


def test_a_file_is_what_its_name_says_if_it_is_there(tmp_path):
    for name, kind in (("a.jpg", "image"), ("b c.WAV", "audio"), ("d.mp4", "video"), ("e.txt", "text")):
        path = str(tmp_path / name)
        assert infer_modality(path) == "text"
        (tmp_path / name).touch()
        assert infer_modality(path) == kind
        assert infer_modality(path, ["text"]) == "text"


def test_a_text_that_no_file_system_takes_is_a_text():
    assert infer_modality("x" * 10_000 + ".png") == "text"
    assert infer_modality("x\0.png") == "text"


def test_decoders_are_known_by_their_class():
    decoders = [type(kind, (), {"__module__": "torchcodec.decoders"})() for kind in ("AudioDecoder", "VideoDecoder")]
    assert [infer_modality(decoder) for decoder in decoders] == ["audio", "video"]
    with pytest.raises(InputError):
        infer_modality(type("AudioDecoder", (), {"__module__": "elsewhere"})())


def test_a_batch_is_one_kind_or_messages():
    assert infer_batch_modality([]) == "text"
    assert infer_batch_modality([IMAGE, IMAGE]) == "image"
    assert infer_batch_modality(["a", IMAGE]) == "message"
    assert infer_batch_modality(["a", "http://x.org/a.png"], ["text"]) == "text"


def test_parts_are_supported_through_messages():
    both = ("image", "text")
    assert supports([both], both)
    assert supports(["text", "image", "message"], both)
    assert not supports(["text", "image"], both)
    assert not supports(["text", "message"], both)


def test_names_are_read_back():
    assert modality.format_modality(("image", "text")) == "image+text"
    assert modality.parse_modality("image+text") == ("image", "text")
    assert modality.parse_modality("text") == "text"
    assert modality.parse_modality("smell") is None


@pytest.mark.parametrize(
    ("inputs", "kind", "supported", "said"),
    [
        ([IMAGE], "image", ["text"], "position 0: Image"),
        (["a", np.zeros(3)], "message", ["text"], "position 1: ndarray"),
        ([[{"role": "user", "content": "x"}]], "message", ["text"], "chat template"),
        (["a", IMAGE], "message", ["text", "image"], "one kind of input a batch"),
        ([("a", IMAGE)], "message", ["text", "image"], "one kind of input a batch"),
        ([{"text": "a", "image": IMAGE}], ("image", "text"), ["text", "image"], "need chat messages"),
        ([{"text": "a", "image": IMAGE}], ("image", "text"), ["text"], "not supported"),
    ],
)
def test_every_refusal_says_what_the_model_takes(inputs, kind, supported, said):
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        raise_unsupported_modality_error(inputs, kind, supported, "Transformer")
    assert f"Transformer takes: {', '.join(supported)}" in str(caught.value)


def test_torch_is_not_needed(monkeypatch):
    monkeypatch.setattr(modality, "sys", types.SimpleNamespace(modules={}))
    assert infer_modality(np.zeros(3)) == "audio"
