"""Encoding with worker processes: the same results as without, in every form; shared weights; no leftovers."""

import logging
import os
import signal
import warnings

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS

from fourfold import SentenceTransformer
from fourfold.engine.workers import WorkerPool
from fourfold.errors import InputError, WorkerError
from fourfold.families import _running
from fourfold.modules import Module
from fourfold.testing import WIDTH, tiny

pytestmark = pytest.mark.slow

MANY = [f"text {i} " * (i % 30 + 1) for i in range(200)] + TEXTS


class Bomb(Module):
    """Ends its process, or raises, when a text has as many tokens as it waits for."""

    packed = True

    def forward(self, features, **kwargs):
        longest = features["max_length_q"]
        if longest == 7:
            raise ZeroDivisionError("seven tokens")
        if longest == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return features

    def save(self, *args, **kwargs):
        pass


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def pool(model):
    made = model.start_multi_process_pool(["cpu", "cpu"])
    yield made
    SentenceTransformer.stop_multi_process_pool(made)


def close(got, want):
    np.testing.assert_allclose(np.asarray(got, np.float32), np.asarray(want, np.float32), rtol=0, atol=tolerances.BATCH)


def test_a_pool_is_a_dictionary_of_processes_and_their_connections(pool, model):
    assert set(pool) == {"input", "output", "processes"}
    assert len(pool["processes"]) == 2
    assert all(process.is_alive() and process.daemon for process in pool["processes"])
    assert model.device.type == "cpu"


def test_weights_are_shared_not_copied(pool, model):
    assert all(parameter.is_shared() for parameter in model.parameters())


def test_vectors_are_those_of_one_process(pool, model):
    got = model.encode(MANY, pool=pool)
    assert (type(got), got.dtype, got.shape) == (np.ndarray, np.float32, (len(MANY), WIDTH))
    close(got, model.encode(MANY))
    got[:] = 0  # it is the caller's own
    assert model.encode(MANY[:3], pool=pool).any()


@pytest.mark.parametrize(
    "options",
    [
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"normalize_embeddings": True, "truncate_dim": 5},
        {"prompt": "the query "},
        {"precision": "ubinary"},
        {"precision": "int8"},
        {"precision": "uint8", "convert_to_tensor": True},
        {"output_value": "token_embeddings"},
        {"output_value": "token_embeddings", "precision": "int8"},
        {"output_value": "attention_mask"},
        {"output_value": None},
        {"task": "query"},
        {"chunk_size": 1},
        {"chunk_size": 3, "batch_size": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "inputs",
    [TEXTS * 8, tuple(TEXTS), "a text", [("a", "pair"), "alone"]],
    ids=["many", "tuple", "one", "pairs"],
)
def test_every_option_gives_what_one_process_gives(pool, model, options, inputs):
    if inputs == "a text" and options.get("precision") in ("int8", "uint8") and "output_value" not in options:
        with pytest.raises(ValueError, match="range"):
            model.encode(inputs, pool=pool, **options)
        return
    got, want = model.encode(inputs, pool=pool, **options), model.encode(inputs, **options)
    if options.get("output_value", "") in (None, "attention_mask") and isinstance(want, list):
        # Their padding is that of the batch in which they ran.
        got, want = ([without_padding(row) for row in rows] for rows in (got, want))
    same(got, want)


def without_padding(row):
    if isinstance(row, torch.Tensor):
        return row[row == 1]
    mask = row["attention_mask"] == 1
    return {
        key: value[mask] if isinstance(value, torch.Tensor) and len(value) == len(mask) else value
        for key, value in row.items()
    }


def same(got, want):
    assert type(got) is type(want)
    if isinstance(want, (list, dict)):
        assert len(got) == len(want)
        for key in want if isinstance(want, dict) else range(len(want)):
            same(got[key], want[key])
    elif isinstance(want, (np.ndarray, torch.Tensor)):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        off = np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64))
        # A vector at the edge of a level or of zero may fall on either side of it by a rounding.
        if got.dtype in (np.int8, np.uint8, torch.int8, torch.uint8):
            assert (off > 0).mean() < 0.01
        else:
            assert off.max(initial=0) <= tolerances.PACKED
    else:
        assert got == want


@pytest.mark.parametrize("empty", [[], (), np.array([], dtype=object)], ids=repr)
def test_an_empty_batch_touches_no_worker(model, empty):
    stopped = WorkerPool(model, [])
    assert model.encode(empty, pool=stopped).shape == (0,)
    assert model.encode(empty, pool=stopped, convert_to_numpy=False) == []
    assert model.encode(empty, device=["nowhere"]).shape == (0,)


@pytest.mark.parametrize("size", [0, -1])
def test_a_chunk_size_below_one_is_refused_where_there_are_processes(pool, model, size):
    with pytest.raises(ValueError, match=f"chunk_size must be at least 1, got {size}"):
        model.encode(TEXTS, pool=pool, chunk_size=size)
    assert len(model.encode(TEXTS, chunk_size=size)) == len(TEXTS)


def test_the_pool_wins_over_a_list_of_devices(pool, model):
    close(model.encode(TEXTS, pool=pool, device=["nowhere"]), model.encode(TEXTS))


def test_queries_and_documents_take_a_pool(pool, model):
    for method in (model.encode_query, model.encode_document):
        close(method(TEXTS, pool=pool), method(TEXTS))


def test_streams_take_a_pool(pool, model):
    close(np.stack(list(model.encode_stream(iter(MANY), pool=pool, window=64))), model.encode(MANY))


def test_a_bar_in_this_process(pool, model, capfd):
    model.encode(MANY, pool=pool, show_progress_bar=True)
    assert f"{len(MANY)}/{len(MANY)}" in capfd.readouterr().err


def test_the_older_name(pool, model):
    with pytest.warns(DeprecationWarning, match="encode_multi_process"):
        got = model.encode_multi_process(TEXTS, pool, normalize_embeddings=True, chunk_size=2)
    close(got, model.encode(TEXTS, normalize_embeddings=True))


def test_what_a_text_raises_is_raised_here(pool, model):
    for bad in ([*TEXTS, None], [3]):
        with pytest.raises(ValueError, match="Unsupported input type"):
            model.encode(bad, pool=pool)
    close(model.encode(TEXTS, pool=pool), model.encode(TEXTS))


@pytest.mark.parametrize("wrong", [{}, {"input": 1, "output": 2, "processes": []}, 3], ids=repr)
def test_a_pool_of_something_else_is_refused(model, wrong):
    with pytest.raises(ValueError, match="start_multi_process_pool"):
        model.encode(TEXTS, pool=wrong)
    with pytest.raises(ValueError, match="start_multi_process_pool"):
        model.stop_multi_process_pool(wrong)


@pytest.mark.parametrize("how", ["argument", "method"])
def test_no_device_at_all_is_refused(model, how):
    with pytest.raises(ValueError, match="no device"):
        model.encode(TEXTS, device=[]) if how == "argument" else model.start_multi_process_pool([])


def test_a_device_that_no_torch_knows_is_refused_before_any_process_starts(model):
    with pytest.raises(RuntimeError, match="nowhere"):
        model.encode(TEXTS, device=["nowhere"])


def test_a_list_of_devices_makes_a_pool_for_the_call(monkeypatch, caplog):
    """Half precision, modules of one's own, a worker's exception and a worker's death, all in one pool to save time."""
    made = []
    start = _running.start_pool
    monkeypatch.setattr(_running, "start_pool", lambda *args: made.append(start(*args)) or made[-1])
    model = tiny().to(torch.bfloat16)
    model.append(Bomb())
    got = model.encode(TEXTS, device=["cpu"], convert_to_tensor=True)
    assert got.dtype == torch.bfloat16
    np.testing.assert_array_equal(got.float(), model.encode(TEXTS, convert_to_tensor=True).float())
    assert made[0]["processes"] == []

    pool = model.start_multi_process_pool(["cpu", "cpu"])
    array = model.encode(TEXTS, pool=pool)
    assert array.dtype == np.float32
    with pytest.raises(ZeroDivisionError, match="seven tokens"):
        model.encode(["the"] * 4 + ["the a an of and"], pool=pool)
    with caplog.at_level(logging.WARNING), pytest.raises(WorkerError, match=r"exit code -9, SIGKILL"):
        model.encode(["the a an of and to in"], pool=pool)
    assert caplog.text.count("died") == 2
    model.stop_multi_process_pool(pool)


# -- how the cores are shared out --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "cores", "said", "workers", "each"),
    [(8, 8, None, 2, 4), (8, 8, None, 3, 2), (2, 2, None, 4, 1), (16, 32, None, 4, 4), (4, 16, "4", 4, 4),
     (1, 16, "1", 4, 1), (8, 8, "8", 4, 2)],
)  # fmt: skip
def test_workers_on_the_cpu_divide_the_cores(monkeypatch, mine, cores, said, workers, each):
    monkeypatch.setattr(torch, "get_num_threads", lambda: mine)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert _running._threads(workers) == each


@pytest.mark.parametrize(("gpus", "devices"), [(0, ["cpu"] * 4), (3, ["cuda:0", "cuda:1", "cuda:2"])])
def test_the_usual_devices(monkeypatch, gpus, devices):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert _running._usual_devices() == devices


def test_a_model_that_accelerate_has_placed_is_refused():
    model = tiny()
    model._dispatch_hook = object()
    with pytest.raises(InputError, match="accelerate"), warnings.catch_warnings():
        model.start_multi_process_pool(["cpu"])
