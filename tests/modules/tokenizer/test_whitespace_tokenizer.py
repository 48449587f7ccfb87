import pytest

from fourfold.modules.tokenizer import WhitespaceTokenizer


def tokens(tokenizer, text):
    return [tokenizer.get_vocab()[number] for number in tokenizer.tokenize(text)]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("fox  dog\tfox\n", ["fox", "dog", "fox"]),
        ("'fox', (dog)!", ["fox", "dog"]),
        ("FOX Dog", ["fox", "dog"]),
        ("New new NEW", ["New"]),
        ("!x x !X", ["!x"]),
        ("fox-dog unknown ...", []),
        ("the The (the)", []),
        ("", []),
    ],
)
def test_a_word_counts_as_it_is_then_without_punctuation_then_in_lower_case(text, want):
    assert tokens(WhitespaceTokenizer(["fox", "dog", "New", "!x", "the"], stop_words=["the"]), text) == want


def test_the_first_form_that_is_a_stop_word_ends_the_search():
    tokenizer = WhitespaceTokenizer(["b", "B", "B!"], stop_words=["b"])
    assert tokens(tokenizer, "b B B! b! b. B.") == ["B", "B!", "B"]


def test_texts_may_be_lower_cased_first():
    assert tokens(WhitespaceTokenizer(["new", "New"], stop_words=[], do_lower_case=True), "New new") == ["new", "new"]


def test_english_stop_words_are_the_default():
    assert tokens(WhitespaceTokenizer(["the", "fox", "and"]), "the fox and the fox") == ["fox", "fox"]
