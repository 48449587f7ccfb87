"""Messages that appear once, and keyword arguments that answer to an older name."""

import inspect
import logging

import pytest

from fourfold.notices import renamed_keywords, warn_once

logger = logging.getLogger("fourfold.test")


@renamed_keywords(sentences="inputs", dimension="width")
def encode(inputs, *, width=1):
    """Its documentation."""
    return inputs, width


def test_a_warning_appears_once_for_each_text(caplog):
    for text in ("one", "one", "two"):
        warn_once(logger, text)
    assert caplog.messages == ["one", "two"]


def test_an_old_name_works_and_says_so_once(caplog):
    for _ in range(2):
        assert encode(sentences="a", dimension=3) == ("a", 3)
    assert caplog.messages == [
        "The argument sentences= has been renamed; use inputs= instead.",
        "The argument dimension= has been renamed; use width= instead.",
    ]
    assert {record.name for record in caplog.records} == {__name__}


def test_the_new_name_wins_without_a_word(caplog):
    assert encode(sentences="old", inputs="new") == ("new", 1)
    assert encode(inputs="new", dimension=3, width=None) == ("new", None)
    assert caplog.messages == []


def test_the_new_name_given_by_position_is_a_clash():
    with pytest.raises(TypeError, match="multiple values"):
        encode("new", sentences="old")


def test_the_function_looks_the_same():
    assert list(inspect.signature(encode).parameters) == ["inputs", "width"]
    assert encode.__doc__ == "Its documentation."
