"""encode_stream: any iterable, rows in order, bounded memory, and a clean end however it ends."""

import itertools
import threading
import time

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS

import fourfold
from fourfold.testing import WIDTH, tiny, tiny_folder

MANY = [f"text {i} " * (i % 30 + 1) for i in range(120)] + TEXTS


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(autouse=True)
def _no_thread_left():
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and set(threading.enumerate()) - before:
        time.sleep(0.01)
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("fourfold")]


def close(got, want):
    np.testing.assert_allclose(np.asarray(got, np.float32), np.asarray(want, np.float32), rtol=0, atol=tolerances.BATCH)


@pytest.mark.parametrize("window", [1, 7, 64, 8192])
@pytest.mark.parametrize(
    "make",
    [iter, list, lambda texts: (text for text in texts), np.array],
    ids=["iterator", "list", "generator", "array"],
)
def test_rows_come_in_the_order_of_any_iterable(model, window, make):
    texts = MANY[:20] if window == 1 else MANY
    close(np.stack(list(model.encode_stream(make(texts), window=window))), model.encode(texts))


def test_an_empty_iterable_yields_nothing(model):
    assert list(model.encode_stream([])) == []
    assert list(model.encode_stream(iter(()))) == []


@pytest.mark.parametrize(
    "options",
    [
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"normalize_embeddings": True, "truncate_dim": 5},
        {"prompt": "the query "},
        {"prompt_name": "query"},
        {"precision": "binary"},
        {"precision": "ubinary", "convert_to_tensor": True},
        {"output_value": "token_embeddings"},
        {"output_value": None, "batch_size": 1},
        {"batch_size": 2, "task": "document"},
    ],
    ids=str,
)
def test_options_are_those_of_encode(model, options):
    got = list(model.encode_stream(iter(TEXTS), window=4, **options))
    want = list(model.encode(TEXTS, **options))
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert type(a) is type(b)
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            a, b = a["sentence_embedding"], b["sentence_embedding"]
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        close(a, b)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_bytes_need_ranges(model, precision):
    with pytest.raises(ValueError, match="give ranges"):
        model.encode_stream(TEXTS, precision=precision)
    vectors = model.encode(TEXTS)
    ranges = np.stack([vectors.min(0), vectors.max(0)])
    got = list(model.encode_stream(TEXTS, precision=precision, ranges=ranges, window=3))
    want = fourfold.util.quantize_embeddings(vectors, precision, ranges) if hasattr(fourfold, "util") else None
    assert got[0].dtype == precision
    if want is not None:
        assert np.abs(np.stack(got).astype(int) - want).max() <= 1


def test_each_row_has_memory_of_its_own(model):
    rows = list(model.encode_stream(TEXTS))
    assert all(row.base is None for row in rows)
    tensors = list(model.encode_stream(TEXTS, convert_to_tensor=True))
    assert all(row.untyped_storage().nbytes() == WIDTH * 4 for row in tensors)


def test_the_iterable_is_read_in_this_thread_and_at_most_two_windows_ahead(model):
    read = []

    def source():
        for i in itertools.count():
            read.append(threading.current_thread())
            yield f"text {i}"

    stream = model.encode_stream(source(), window=10)
    for i, _ in zip(range(200), stream, strict=False):
        assert len(read) <= i + 31
    stream.close()
    assert set(read) == {threading.current_thread()}


def test_a_stream_that_is_closed_early_ends_its_work(model):
    stream = model.encode_stream((f"text {i}" for i in itertools.count()), window=16)
    next(stream)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_a_stream_that_is_never_begun_starts_nothing(model):
    def source():
        raise AssertionError("nobody asked for a row")
        yield

    del model  # the fixture is only there to be loaded
    stream = tiny().encode_stream(source())
    stream.close()


@pytest.mark.parametrize("at", [0, 5, 10, 25])
def test_an_error_of_the_iterable_comes_after_the_rows_before_it(model, at):
    def source():
        yield from MANY[:at]
        raise ConnectionError("the source is gone")

    got = []
    with pytest.raises(ConnectionError, match="the source is gone"):
        got.extend(map(np.copy, model.encode_stream(source(), window=10)))
    assert len(got) == at
    if at:
        close(np.stack(got), model.encode(MANY[:at]))


def test_an_input_that_is_no_text_is_told(model):
    stream = model.encode_stream(["fine", "fine", None, "fine"], window=2)
    assert len([next(stream), next(stream)]) == 2
    with pytest.raises(ValueError, match="Unsupported input type"):
        next(stream)


@pytest.mark.parametrize("wrong", ["a text", b"bytes", {"text": "a"}, 3, None], ids=repr)
def test_what_is_no_iterable_of_inputs_is_refused_at_once(model, wrong):
    with pytest.raises(ValueError, match="takes an iterable of inputs"):
        model.encode_stream(wrong)


@pytest.mark.parametrize(
    "options",
    [{"window": 0}, {"batch_size": 0}, {"precision": "float16"}, {"wrong": 1}, {"prompt_name": "x"}],
    ids=str,
)
def test_arguments_are_checked_at_once(model, options):
    with pytest.raises(ValueError, match=r"window|batch_size|precision|wrong|prompt"):
        model.encode_stream(TEXTS, **options)


def test_gradients_work_between_two_rows(model):
    """The caller's own code must not run in inference mode."""
    for _ in model.encode_stream(TEXTS, window=2):
        weight = torch.ones(3, requires_grad=True)
        (weight * 2).sum().backward()
        assert weight.grad is not None
        assert not torch.is_inference_mode_enabled()


def test_two_streams_and_a_call_in_turn(model):
    first, second = (model.encode_stream(iter(MANY), window=32) for _ in range(2))
    for a, b, text in zip(first, second, MANY, strict=True):
        close(a, b)
        if text is MANY[100]:
            close(model.encode(text), a)


@pytest.mark.parametrize("architecture", ["static", "bert"])
def test_loaded_encoders_stream_too(architecture):
    encoder = fourfold.load(tiny_folder("dense", architecture))
    got = np.stack(list(encoder.encode_stream(iter(MANY), window=50, normalize_embeddings=True)))
    close(got, encoder.encode(MANY, normalize_embeddings=True))
    assert got.dtype == np.float32
    close(next(encoder.encode_stream(MANY, prompt="the ")), encoder.encode(MANY[0], prompt="the "))
    with pytest.raises(ValueError, match="takes an iterable"):
        encoder.encode_stream("a text")
    with pytest.raises(ValueError, match="window"):
        encoder.encode_stream(MANY, window=0)
