from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import TEXTS, TOKENIZERS, WORDS, whole_words, wordpiece
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

import fourfold.text
from fourfold.errors import InputError
from fourfold.text import Chunk, split
from fourfold.text._places import Places
from fourfold.text.tokenizer import FastTokenizer


def greedy():
    """Pieces that take the line breaks behind them along, and spaces before them, as in Qwen's tokenizer."""
    vocabulary = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("Ċ", "Ċ"), (".", "ĊĊ"), (".", "Ċ"), ("e", "n"), ("en", "d"), ("Ġ", "t"), ("Ġt", "he"), ("h", "e")]
    merges.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    pieces = pre_tokenizers.Split(Regex(r" ?\w+| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, level])
    return tokenizer


TOKENISERS = {name: make() for name, make in {**TOKENIZERS, "greedy": greedy}.items()}
words = st.sampled_from(
    [*WORDS, "xq", "ünï", "e\u0301", "漢字", "end.", "Stop!", "no。", "ก็ดี", "a" * 40, "🙂", "👩\u200d🚀"]
)
gaps = st.sampled_from([" ", " ", " ", "  ", "\n", "\n\n", "\r\n\r\n", " \n \n ", "\t", "", "\u3000"])
prose = st.lists(st.tuples(words, gaps), max_size=60).map(lambda pairs: "".join(a + b for a, b in pairs))
anything = st.text(max_size=200) | st.text(st.characters(categories=["Cs", "Ll", "Zs", "Mn", "Lo"]), max_size=80)
texts = prose | prose | anything
kinds = st.sampled_from([None, *TOKENISERS])


def check(text, chunks):
    """What holds for every split: order, slices, cover, no loose white space."""
    assert chunks
    end = 0
    for before, chunk in zip([None, *chunks[:-1]], chunks, strict=True):
        assert chunk.text == text[chunk.start : chunk.stop]
        assert chunk.start <= chunk.stop
        assert text[end : chunk.start].strip() == ""
        if before is not None:
            assert before.start < chunk.start
            assert before.stop < chunk.stop
            assert chunk.text == chunk.text.strip() != ""
        end = chunk.stop
    assert text[end:].strip() == ""


@given(texts, kinds, st.integers(1, 40), st.integers(0, 20))
def test_every_character_is_covered_in_order_within_the_size(text, kind, room, overlap):
    tokenizer = TOKENISERS.get(kind)
    fast = None if tokenizer is None else FastTokenizer(tokenizer)
    fixed = 0 if fast is None else fast.count("")
    overlap = min(overlap, room - 1)
    chunks = split(text, size=room + fixed, overlap=overlap, tokenizer=tokenizer)
    check(text, chunks)
    for chunk in chunks:
        if fast is None:
            assert chunk.tokens is None
            assert len(chunk.text) <= room
        else:
            assert chunk.tokens <= room + fixed or len(chunk.text) == 1
            assert chunk.tokens == fast.count(chunk.text)
    for before, after in itertools.pairwise(chunks):
        shared = text[after.start : before.stop]
        assert len(shared) <= overlap if fast is None else count_shared(fast, text, after.start, before.stop) <= overlap
    assert chunks == split(text, size=room + fixed, overlap=overlap, tokenizer=tokenizer)


def count_shared(fast, text, start, stop):
    """Tokens of the whole text that begin in a part of it, by a plain loop; white space in front of them aside."""
    located = fast.locate([text])[0]
    found = 0
    for a, b in located.offsets[located.head : len(located.ids) - located.tail].tolist():
        while a < b - 1 and text[a].isspace() and not text[a:b].isspace():
            a += 1
        found += start <= a < stop
    return found


@given(texts, st.integers(1, 30))
def test_words_stay_whole_unless_one_is_longer_than_a_chunk(text, size):
    spaced = [word for word in text.split() if word.isascii()]
    chunks = split(text, size=size, overlap=size // 3)
    found = {word for chunk in chunks for word in chunk.text.split()}
    for word in spaced:
        if len(word) <= size:
            assert word in found


def test_a_text_that_fits_is_one_chunk_as_it_is():
    assert split("", size=5) == [Chunk("", 0, 0)]
    assert split("  a b ", size=6) == [Chunk("  a b ", 0, 6)]
    assert split("the fox", size=4, tokenizer=wordpiece()) == [Chunk("the fox", 0, 7, 4)]
    assert split(" " * 50, size=5) == [Chunk("", 0, 0)]


def test_paragraphs_win_over_sentences_over_lines_over_words():
    #           0         1         2         3
    text = "Aaaa bbbb. Cccc\n\nDddd. Eeee\nffff gggg"
    assert [c.text for c in split(text, size=26)] == ["Aaaa bbbb. Cccc", "Dddd. Eeee\nffff gggg"]
    assert split(text.replace("\n\n", "  "), size=26)[0].text == "Aaaa bbbb. Cccc  Dddd."
    assert split("Aaaa bbbb cccc\ndddd eeee ffff", size=20)[0].text == "Aaaa bbbb cccc"
    assert split("Aaaa bbbb cccc dddd eeee ffff", size=20)[0].text == "Aaaa bbbb cccc dddd"


def test_a_boundary_in_the_first_half_is_not_worth_it():
    assert split("One. two three four five six seven", size=24)[0].text == "One. two three four five"


def test_the_overlap_starts_with_a_sentence_or_a_word():
    text = "Aaaa bbbb. Cccc dd ee. Ffff gggg hhhh."
    assert [c.text for c in split(text, size=24, overlap=14)] == [
        "Aaaa bbbb. Cccc dd ee.",
        "Cccc dd ee. Ffff gggg",
        "Ffff gggg hhhh.",
    ]
    assert [c.text for c in split("aa bb cc dd ee", size=8, overlap=4)] == ["aa bb cc", "cc dd ee"]


def test_a_long_word_is_cut_between_what_reads_as_one_character():
    assert [c.text for c in split("ab " + "x" * 7, size=3)] == ["ab", "xxx", "xxx", "x"]
    for unit in (
        "e\u0301",
        "👩\u200d🚀",
        "👍🏽",
        "🇩🇪",
        "각",
        "\u1100\u1161\u11a8",
        "\ud83d\ude00",
        "\u2764\ufe0f",
        "กำ",
    ):
        size = len(unit) * 2 + 1 if len(unit) > 1 else 2
        pieces = [c.text for c in split(unit * 9, size=size)]
        assert all(piece == unit * (len(piece) // len(unit)) for piece in pieces), pieces


def test_what_reads_as_one_character_is_cut_only_if_it_alone_is_too_long():
    text = "a" + "\u0301" * 30
    assert [len(c.text) for c in split(text, size=10)] == [10, 10, 10, 1]


def test_scripts_without_spaces_are_cut_at_sentences_and_between_characters():
    text = "漢字仮名交じり文。これは二つ目の文。三つ目。"
    assert [c.text for c in split(text, size=12)] == ["漢字仮名交じり文。", "これは二つ目の文。", "三つ目。"]
    assert all(not c.text.startswith("。") for size in range(2, 12) for c in split(text, size=size))


def test_offsets_count_characters_of_the_python_string():
    text = "\ud83d\ude00 lone \ud800 then long words " * 4
    for tokenizer in TOKENISERS.values():
        chunks = split(text, size=12, tokenizer=tokenizer)
        check(text, chunks)
        assert len(chunks) > 3


def test_a_tokenizer_may_change_the_text():
    text = "ﬁne Ｗｉｄｅ ① TEXT " * 10
    for tokenizer in TOKENISERS.values():
        chunks = split(text, size=20, tokenizer=tokenizer)
        check(text, chunks)
        assert all(c.tokens == len(tokenizer.encode(c.text).ids) for c in chunks)


def test_the_tokenizers_own_truncation_and_padding_do_not_matter():
    plain, own = wordpiece(), wordpiece()
    own.enable_truncation(3)
    own.enable_padding(length=64)
    text = "the quick brown fox " * 10
    assert split(text, size=9, tokenizer=own) == split(text, size=9, tokenizer=plain)
    assert (own.truncation["max_length"], own.padding["length"]) == (3, 64)


def test_a_tokenizer_that_grew_is_another_one():
    base = whole_words("?", "the", "fox")
    before = split("the fox-den the fox-den", size=4, tokenizer=base)
    base.add_tokens(["fox-den"])
    assert [c.tokens for c in split("the fox-den the fox-den", size=4, tokenizer=base)] != [c.tokens for c in before]


def test_fast_transformers_tokenizers_are_taken():
    from transformers import PreTrainedTokenizerFast

    base = wordpiece()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(base.to_str()))
    text = " ".join(TEXTS)
    assert split(text, size=16, overlap=3, tokenizer=wrapped) == split(text, size=16, overlap=3, tokenizer=base)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be a whole number of at least 1, got 0"),
        ({"size": 2.5}, "size must be"),
        ({"size": 5, "overlap": -1}, "overlap must be a whole number of at least 0, got -1"),
        ({"size": 5, "overlap": 5}, "overlap must be less than the 5 that a chunk of size 5 holds, got 5"),
        ({"size": 2, "tokenizer": wordpiece()}, "size 2 leaves no room: special tokens and the prompt take 2"),
        ({"size": 5, "tokenizer": str.split}, "tokenizer must be a tokenizers.Tokenizer or"),
    ],
)
def test_what_cannot_be_done_is_said(options, message):
    with pytest.raises(InputError, match=message):
        split("some text", **options)


def test_only_strings_are_split():
    with pytest.raises(InputError, match="text must be a string, got bytes"):
        split(b"some text", size=5)


def test_white_space_is_pythons():
    every = "".join(map(chr, range(0x110000)))
    assert Places(every)._space.tolist() == [c.isspace() for c in every]


def test_combining_marks_are_unicodes():
    marks = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i))[0] == "M"]
    assert all(Places("a" + mark)._joined(1, 0) for mark in marks)


HOSTILE = {
    "spaces": " ", "lines": "\n", "marks": ".", "quoted": '."', "one word": "a", "combining": "\u0301",
    "joiners": "\u200d", "flags": "🇩", "closing": "。", "items": "\n- ", "words": "ab ", "surrogates": "\ud83d\ude00",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_with_the_length_and_no_faster(name):
    def seconds(count):
        text = "x" + HOSTILE[name] * count + "x"
        start = time.process_time()
        check(text, split(text, size=100, overlap=10))
        return time.process_time() - start

    seconds(100)
    assert seconds(80_000) < 16 * seconds(10_000) + 0.2


def test_megabytes_are_split_in_about_the_time_that_tokenising_takes():
    rng = random.Random(0)
    text = " ".join(rng.choices([*WORDS, "end. The", "new.\n\nPara"], k=200_000))
    tokenizer = wordpiece()
    fast = FastTokenizer(tokenizer)
    start = time.process_time()
    fast.locate([text])
    tokenising = time.process_time() - start
    start = time.process_time()
    chunks = split(text, size=256, overlap=32, tokenizer=tokenizer)
    assert time.process_time() - start < 4 * tokenising + 0.5
    check(text, chunks)
    assert len(text) > 1_000_000


def test_splitting_needs_no_torch():
    code = "import sys; from fourfold.text import split; split('a b', size=1); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert fourfold.text.__all__ == ["Chunk", "split"]
    with pytest.raises(AttributeError, match=r"fourfold\.text' has no attribute 'cut'"):
        fourfold.text.cut  # noqa: B018
