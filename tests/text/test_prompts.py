import logging

import pytest

from fourfold.errors import InputError
from fourfold.text.prompts import DOCUMENT_NAMES, QUERY_NAMES, check_default, merge, name_for, prepend, resolve

PROMPTS = {"query": "query: ", "document": "", "passage": "passage: "}


@pytest.mark.parametrize(
    ("default", "prompt", "name", "want"),
    [
        (None, None, None, None),
        (None, None, "query", "query: "),
        (None, None, "document", None),
        (None, "own: ", None, "own: "),
        (None, "own: ", "query", "own: "),
        (None, "own: ", "unknown", "own: "),
        (None, "", "query", None),
        ("query", None, None, "query: "),
        ("query", "", None, None),
        ("query", None, "passage", "passage: "),
        ("query", None, "document", None),
        ("query", "own: ", None, "own: "),
    ],
)
def test_which_prompt_a_call_means(default, prompt, name, want):
    assert resolve(PROMPTS, default, prompt, name) == want


def test_both_prompt_and_name_warn(caplog):
    with caplog.at_level(logging.WARNING):
        resolve(PROMPTS, None, "own: ", "query")
    assert "prompt_name='query' is ignored" in caplog.text


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(InputError, match=r"'querry' is not among the prompts: 'query', .*Did you mean 'query'\?"):
        resolve(PROMPTS, None, prompt_name="querry")


@pytest.mark.parametrize(
    ("given", "saved", "want"),
    [
        (None, {}, {"query": "", "document": ""}),
        (None, {"query": "q"}, {"query": "q", "document": ""}),
        ({"query": "g"}, {"query": "q", "x": "s"}, {"query": "g", "document": "", "x": "s"}),
        ({"query": ""}, {"query": "q"}, {"query": "", "document": ""}),
    ],
)
def test_given_prompts_win_over_saved_ones(given, saved, want):
    assert merge(given, saved, ("query", "document")) == want


def test_a_default_must_be_a_prompt():
    check_default(PROMPTS, None)
    check_default(PROMPTS, "query")
    with pytest.raises(InputError, match=r"default_prompt_name 'x', .* is not among"):
        check_default(PROMPTS, "x")


def test_query_and_document_names():
    assert name_for(PROMPTS, QUERY_NAMES) == "query"
    assert name_for(PROMPTS, DOCUMENT_NAMES) == "document"
    assert name_for({"corpus": "", "passage": ""}, DOCUMENT_NAMES) == "passage"
    assert name_for({"corpus": ""}, DOCUMENT_NAMES) == "corpus"
    assert name_for({}, DOCUMENT_NAMES) is None


def test_prompts_go_before_the_first_text_only():
    assert prepend("p: ", ["a", ("b", "c"), ["d", "e"]]) == ["p: a", ("p: b", "c"), ("p: d", "e")]
    assert prepend(None, ["a"]) == ["a"]
    assert prepend("", ["a"]) == ["a"]
