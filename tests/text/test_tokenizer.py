import json
import random
import threading

import pytest
from tests.support import TEXTS, TOKENIZERS, WORDS, wordpiece
from tokenizers import Tokenizer

from fourfold.errors import FolderError, InputError
from fourfold.text.tokenizer import FastTokenizer, _cut


def reference(tokenizer, text, max_length=None, special=True):
    twin = Tokenizer.from_str(tokenizer.to_str())
    if max_length is not None:
        twin.enable_truncation(max_length)
    return twin.encode(text, add_special_tokens=special).ids


def rows(tokens):
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]


@pytest.fixture(params=TOKENIZERS)
def base(request):
    return TOKENIZERS[request.param]()


@pytest.mark.parametrize("max_length", [None, 3, 8, 100])
def test_ids_are_those_of_the_tokenizer(base, max_length):
    got = rows(FastTokenizer(base).encode(TEXTS, max_length))
    assert got == [reference(base, text, max_length) for text in TEXTS]


def test_special_tokens_can_be_left_out():
    base = wordpiece()
    got = rows(FastTokenizer(base, add_special_tokens=False).encode(TEXTS, 6))
    assert got == [reference(base, text, 6, special=False) for text in TEXTS]


def test_the_tokenizers_own_padding_and_truncation_are_not_used():
    base = wordpiece()
    base.enable_padding(length=50)
    base.enable_truncation(3)
    assert rows(FastTokenizer(base).encode(["the quick brown fox"]))[0][1:-1] == [
        base.token_to_id(word) for word in ("the", "quick", "brown", "fox")
    ]
    assert base.padding is not None
    assert base.truncation["max_length"] == 3


def test_left_truncation_keeps_the_end():
    base = wordpiece()
    got = rows(FastTokenizer(base, truncation_side="left").encode(["the quick brown fox"], 4))[0]
    assert got == [1, base.token_to_id("brown"), base.token_to_id("fox"), 2]


def test_left_truncation_of_a_very_long_text_keeps_its_end():
    base = wordpiece()
    got = rows(FastTokenizer(base, truncation_side="left").encode(["the " * 5000 + "lazy dog"], 4))[0]
    assert got == [1, base.token_to_id("lazy"), base.token_to_id("dog"), 2]


def test_pairs_have_segment_ids():
    tokens = FastTokenizer(wordpiece()).encode([("the fox", "dog"), "the"])
    assert tokens.type_ids.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0]
    assert tokens.lengths.tolist() == [6, 3]


def test_plain_texts_have_none():
    assert FastTokenizer(wordpiece()).encode(["the fox"]).type_ids is None


def test_pairs_are_cut_longest_first():
    base = wordpiece()
    base.enable_truncation(9, strategy="longest_first")
    want = base.encode("the quick brown fox jumps", "dog").ids
    assert rows(FastTokenizer(wordpiece()).encode([["the quick brown fox jumps", "dog"]], 9))[0] == want


@pytest.mark.parametrize("text", ["fox \ud800 dog", "\udc80", ("fox", "\udfff dog")])
def test_lone_surrogates_become_the_replacement_sign(text, base):
    clean = (
        tuple(part.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for part in text)
        if isinstance(text, tuple)
        else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    )
    fast = FastTokenizer(base)
    assert rows(fast.encode(["the dog", text])) == rows(fast.encode(["the dog", clean]))


def test_an_empty_batch_and_empty_texts_work(base):
    assert len(FastTokenizer(base).encode([])) == 0
    assert rows(FastTokenizer(base, add_special_tokens=False).encode(["", ""])) == [[], []]


@pytest.mark.parametrize("kind", ["texts", "pairs", "a surrogate in one slice"])
def test_a_batch_of_several_slices_is_one_result(base, kind):
    texts = [WORDS[i % len(WORDS)] for i in range(2500)]
    if kind == "pairs":
        texts = [(text, "dog") for text in texts[:-1]] + ["fox"]  # mixed: not joined from its parts
    elif kind == "a surrogate in one slice":
        texts[1500] = "fox \ud800"
    fast = FastTokenizer(base)
    whole = fast.encode(texts)
    alone = [fast.encode([text]) for text in texts[1000:1600] + texts[-1:]]
    assert len(whole) == 2500
    assert rows(whole)[1000:1600] + rows(whole)[-1:] == [row for part in alone for row in rows(part)]
    if kind == "pairs":
        segments = whole.type_ids[whole.offsets[1000] : whole.offsets[1600]]
        assert segments.tolist() == [i for part in alone[:-1] for i in part.type_ids]


@pytest.mark.parametrize("length", [0, -1])
def test_a_length_below_one_is_refused(length):
    with pytest.raises(InputError, match=f"at least 1, got {length}"):
        FastTokenizer(wordpiece()).encode(["the"], length)


def test_sixteen_threads_get_right_answers(base):
    fast = FastTokenizer(base)
    wanted = {length: [reference(base, text, length) for text in TEXTS] for length in (4, 9, 30, None)}
    wrong = []

    def work(number):
        for _ in range(5):
            length = [4, 9, 30, None][number % 4]
            if rows(fast.encode(TEXTS, length)) != wanted[length]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def long_texts():
    shuffle = random.Random(0)
    words = " ".join(shuffle.choices(WORDS, k=4000))
    return {
        "words": words,
        "no spaces": words.replace(" ", ""),
        "one letter": "x" * 20_000,
        "signs": "-_" * 8000,
        "blank": " " * 20_000 + "fox",
        "blank between": "the fox" + " " * 20_000 + "lazy dog",
        "accents": "e\u0301" * 9000,
        "newlines": "fox\n" * 5000,
        "emoji": "🙂" * 8000,
        "surrogates": "fox \ud83d" * 4000,
    }


@pytest.mark.parametrize("kind", long_texts())
@pytest.mark.parametrize("max_length", [4, 16])
def test_cutting_a_long_text_changes_none_of_its_first_tokens(base, kind, max_length):
    text = long_texts()[kind]
    clean = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    got = rows(FastTokenizer(base).encode([text, "fox"], max_length))
    assert got[0] == reference(base, clean, max_length)
    assert got[1] == reference(base, "fox", max_length)


def test_prompt_length_leaves_out_a_closing_token():
    fast = FastTokenizer(wordpiece())
    assert fast.prompt_length("the fox ") == 3  # [CLS] the fox
    assert FastTokenizer(TOKENIZERS["byte_level"]()).prompt_length("the") == 1


def test_a_book_is_cut_before_it_is_tokenised(base):
    with FastTokenizer(base)._borrowed(16) as tokenizer:
        cut, short = _cut(tokenizer, [" ".join(WORDS) * 10_000, "fox"], 16)
    assert len(cut) < 1000
    assert short == "fox"


def test_the_cut_leaves_a_text_alone_that_it_might_change():
    blank = " " * 20_000 + "fox"
    with FastTokenizer(wordpiece())._borrowed(16) as tokenizer:
        assert _cut(tokenizer, [blank], 16) == [blank]


def test_located_tokens_are_those_of_encode_with_their_places(base):
    fast = FastTokenizer(base)
    for text, found in zip(TEXTS, fast.locate(TEXTS), strict=True):
        assert found.ids.tolist() == fast.encode([text]).ids.tolist()
        assert fast.count(text) == len(found.ids)
        expected = base.encode(text)
        assert [tuple(pair) for pair in found.offsets.tolist()] == expected.offsets
        special = expected.special_tokens_mask
        assert special == [1] * found.head + [0] * (len(special) - found.head - found.tail) + [1] * found.tail


def test_places_count_the_characters_of_the_python_string():
    text = "a \ud83d\ude00\ud83d\ude00 fox \ud800 dog"
    found = FastTokenizer(wordpiece()).locate([text])[0]
    pieces = [text[a:b] for a, b in found.offsets.tolist()[1:-1]]
    assert pieces == ["a", "\ud83d\ude00\ud83d\ude00", "fox", "dog"]


def test_tokens_within_a_text_after_a_prefix():
    found = FastTokenizer(wordpiece()).locate(["the fox: lazyab"])[0]
    starts, stops = found.within(9, 6)
    assert (starts.tolist(), stops.tolist()) == ([0, 4, 5], [4, 5, 6])
    # A token that begins in the prefix and ends after it is among them.
    starts, stops = found.within(10, 5)
    assert (starts.tolist(), stops.tolist()) == ([0, 3, 4], [3, 4, 5])


def broken(change):
    tree = json.loads(wordpiece().to_str())
    change(tree)
    return Tokenizer.from_str(json.dumps(tree))


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["post_processor"]["special_tokens"].pop("[SEP]"),
        lambda tree: tree["model"]["vocab"].pop("[UNK]"),
    ],
    ids=["a template without its token", "no token for unknown words"],
)
def test_a_tokenizer_that_contradicts_itself_is_told(change, capfd):
    tokenizer = FastTokenizer(broken(change), owned=True)
    for call in (lambda: tokenizer.encode(["漢"]), lambda: tokenizer.prompt_length("漢")):
        with pytest.raises(FolderError, match=r"tokenizer\.json is broken"):
            call()
