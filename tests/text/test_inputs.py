import math

import numpy as np
import pytest

from fourfold.errors import InputError
from fourfold.text.inputs import as_list, character_count, check_stream, check_text, check_texts, is_pair, is_single

MESSAGE = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    ("value", "single"),
    [
        ("a text", True),
        ("", True),
        ([MESSAGE], True),
        ([MESSAGE, MESSAGE], True),
        (["a", "b"], False),
        ([], False),
        ((), False),
        (("a", "b"), False),
        ([("a", "b")], False),
        (np.array(["a", "b"]), False),
        (np.array(["a", None], dtype=object), False),
        (np.array([], dtype=object), False),
        (np.array("a"), True),
        (np.zeros(3), True),
        (np.array([b"a"]), True),
        ({"text": "a"}, True),
        (None, True),
        (3, True),
        ({"a", "b"}, True),
        ((text for text in "ab"), True),
    ],
)
def test_one_input_or_a_batch(value, single):
    assert is_single(value) is single


def test_a_data_set_column_is_a_batch():
    def column(module):
        return type("Column", (), {"__module__": module, "__iter__": lambda self: iter(["a", "b"])})()

    assert not is_single(column("datasets.arrow_dataset"))
    assert as_list(column("datasets.arrow_dataset")) == ["a", "b"]
    assert is_single(column("sqlalchemy"))


@pytest.mark.parametrize("value", ["a text", b"a", {"text": "a"}, 3, None], ids=repr)
def test_a_stream_is_of_an_iterable(value):
    with pytest.raises(ValueError, match="takes an iterable of inputs"):
        check_stream(value, 1)


def test_a_window_has_room():
    check_stream(iter(["a"]), 1)
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        check_stream(["a"], 0)


def test_batches_become_lists():
    assert as_list(("a", "b")) == ["a", "b"]
    assert as_list(np.array(["a", "b"])) == ["a", "b"]
    given = ["a"]
    assert as_list(given) is given


@pytest.mark.parametrize("value", ["", "a", "\ud800", ("a", "b"), ["a", "b"]])
def test_texts_and_pairs_pass_unchanged(value):
    assert check_text(value) is value


def test_a_dictionary_of_one_text_is_unwrapped():
    assert check_text({"text": "a"}) == "a"
    assert check_texts(["b", {"text": "a"}]) == ["b", "a"]


@pytest.mark.parametrize(
    "value",
    [None, 3, 2.5, math.nan, b"bytes", True, ["a"], ("a", "b", "c"), ("a", 1), {}, {"text": 1}, {"x": "a"}, {1}],
)
def test_anything_else_is_refused_with_its_place_and_type(value):
    with pytest.raises(InputError, match=rf"position 1: {type(value).__name__}|position 1: int"):
        check_texts(["fine", value])


def test_the_message_says_what_to_do_and_stays_short():
    with pytest.raises(InputError) as caught:
        check_texts([[0] * 1000])
    assert "str()" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_pairs_are_two_strings():
    assert is_pair(("a", "b"))
    assert is_pair(["a", "b"])
    assert not is_pair("ab")
    assert not is_pair(("a", "b", "c"))
    assert not is_pair(("a", None))


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("abc", 3),
        (("ab", "c"), 3),
        ({"text": "abcd"}, 4),
        ([{"role": "user", "content": "ab"}], 6),
        (np.zeros((2, 3)), 2),
    ],
)
def test_lengths_are_estimated(value, count):
    assert character_count(value) == count
