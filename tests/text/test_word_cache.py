import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.support import TEXTS, byte_level, wordpiece
from tokenizers import AddedToken, Tokenizer

import fourfold.text.word_cache as word_cache
from fourfold.families.load import BUILTIN
from fourfold.text.tokenizer import FastTokenizer
from fourfold.text.word_cache import WordCache, looks_at_words_alone

PIECES = [
    "the",
    "Fox",
    "[CLS]",
    "[MASK]x",
    "don't",
    "a" * 120,
    " ",
    "\t",
    "\r\n",
    ".",
    "漢字",
    "🙂",
    "\ud800",
    "ÀÉ",
    "\u0301",
]
PIECES += [
    "\u00a0",
    "\u2003",
    "\x1c",
    "\x0b",
    "\x00",
    "\ufffd",
    "e\u0301",
    "\u200b",
    "[CLS",
    "\u2260",
    "_",
    "x_y",
    "\u3000",
    "\u2014",
]


@pytest.fixture(scope="module")
def builtin():
    return Tokenizer.from_file(str(BUILTIN / "tokenizer.json"))


def pair(base):
    return WordCache(FastTokenizer(base, add_special_tokens=False), base), FastTokenizer(base, add_special_tokens=False)


def same(cached, plain, texts):
    got, want = cached.encode(texts), plain.encode(texts)
    np.testing.assert_array_equal(got.ids, want.ids)
    np.testing.assert_array_equal(got.offsets, want.offsets)
    assert got.ids.dtype == want.ids.dtype


@given(some.lists(some.one_of(some.text(), some.lists(some.sampled_from(PIECES)).map("".join)), max_size=6))
def test_any_text_has_the_ids_that_the_tokenizer_gives(builtin, texts):
    same(*pair(builtin), texts)


def test_words_seen_before_and_new_ones_mix(builtin):
    cached, plain = pair(builtin)
    for texts in (TEXTS, TEXTS[::-1], [*TEXTS, "entirely unheard-of words"], [], [""]):
        same(cached, plain, texts)


def test_words_are_forgotten_when_there_are_too_many(builtin, monkeypatch):
    monkeypatch.setattr(word_cache, "_MOST_WORDS", 5)
    cached, plain = pair(builtin)
    for i in range(4):
        same(cached, plain, [f"word{i} other{i} third{i}"])
    assert len(cached._number) <= 8


def test_threads_share_one(builtin):
    cached, plain = pair(builtin)
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            texts = [" ".join(f"w{i}" for i in rng.integers(0, 300, 8)) for _ in range(5)]
            if not np.array_equal(cached.encode(texts).ids, plain.encode(texts).ids):
                wrong.append(texts)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_which_tokenizers_qualify(builtin):
    assert looks_at_words_alone(builtin)
    assert looks_at_words_alone(wordpiece())
    assert not looks_at_words_alone(byte_level())


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("new york"),
        AddedToken("a-b", normalized=False),
        AddedToken("<x>", lstrip=True),
        AddedToken("<y>", normalized=True),
    ],
)
def test_added_tokens_that_reach_over_white_space_do_not(token):
    tokenizer = wordpiece()
    tokenizer.add_tokens([token])
    assert not looks_at_words_alone(tokenizer)
