"""One model used from many threads at once."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tests import tolerances

from fourfold.testing import tiny

THREADS = 16
WORDS = ["the", "a", "query", "document", "text", "short", "long", "world", "unseen", "ünïcödé", "7", "?"]


@pytest.fixture(autouse=True)
def _one_thread_each():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def jobs(count):
    """Return calls that differ in texts, prompts and options, in a fixed order."""
    rng = random.Random(5)
    made = []
    for _ in range(count):
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(0, 30))) for _ in range(rng.randint(1, 6))]
        options = rng.choice([{}, {"prompt": "query: "}, {"prompt_name": "custom"}, {"batch_size": 1}])
        made.append((texts, options))
    return made


def together(work, items):
    """Run ``work`` on every item from many threads, all of which start at the same moment."""
    gate = threading.Barrier(THREADS)

    def run(part):
        gate.wait()
        return [work(item) for item in part]

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(run, [items[i::THREADS] for i in range(THREADS)]))
    results = [None] * len(items)
    for i, part in enumerate(parts):
        results[i::THREADS] = part
    return results


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "qwen3", "static"])
def test_each_thread_gets_its_own_texts_vectors(architecture):
    model = tiny("dense", architecture, prompts={"custom": "the text of "})
    items = jobs(48)
    want = [model.encode(texts, **options) for texts, options in items]
    got = together(lambda item: model.encode(item[0], **item[1]), items)
    for ours, alone in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, alone, rtol=0, atol=tolerances.BATCH)


def test_preprocess_and_forward_from_many_threads():
    model = tiny()
    items = jobs(96)
    want = [model.preprocess(texts)["input_ids"].tolist() for texts, _ in items]
    assert together(lambda item: model.preprocess(item[0])["input_ids"].tolist(), items) == want


def test_the_tokenizer_may_be_shared_with_the_caller():
    """The caller's own use changes truncation and padding, which fails while another thread tokenises with it."""
    model = tiny(prompts={"custom": "the text of "})
    items = jobs(96)
    want = [model.encode(texts, **options) for texts, options in items[::2]]
    lock = threading.Lock()

    def work(job):
        number, (texts, options) = job
        if number % 2 == 0:
            return model.encode(texts, **options)
        with lock:  # a transformers tokenizer serves one thread at a time; the model must not be a second one
            return model.tokenizer(texts, truncation=True, padding=True, max_length=3 + number % 9)

    got = together(work, list(enumerate(items)))
    for ours, alone in zip(got[::2], want, strict=True):
        np.testing.assert_allclose(ours, alone, rtol=0, atol=tolerances.BATCH)


def test_the_length_may_change_while_others_encode():
    model = tiny()
    text = "the world of a long text " * 20
    want = {}
    for length in (6, 40):
        model.max_seq_length = length
        want[length] = model.encode(text)
    assert np.abs(want[6] - want[40]).max() > 1e-3

    def work(number):
        if number % 4 == 0:
            model.max_seq_length = (6, 40)[number % 8 // 4]
            return None
        return model.encode(text)

    for vector in filter(lambda result: result is not None, together(work, list(range(128)))):
        assert min(np.abs(vector - known).max() for known in want.values()) < tolerances.BATCH
