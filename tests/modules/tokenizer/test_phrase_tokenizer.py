import pytest

from fourfold import errors
from fourfold.modules.tokenizer import PhraseTokenizer

WORDS = ["new_york", "new", "york", "is", "the", "new_york_city", "City", "a__b", "a_b_c_d_e_f", "a_b", "n't", "do"]


def tokens(text, words=WORDS, **options):
    tokenizer = PhraseTokenizer(words, **{"stop_words": [], **options})
    return [tokenizer.get_vocab()[number] for number in tokenizer.tokenize(text)]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("new york is the new", ["new_york", "is", "the", "new"]),
        ("New York CITY is", ["new_york_city", "is"]),
        ("new_york (new york).", ["new_york", "new_york"]),
        ("new, york", ["new", "york"]),
        ("a b c d e f a  b", ["a_b", "a_b"]),
        ("don't", ["do", "n't"]),
        ("City city 'is'", ["City", "is"]),
        ("", []),
    ],
)
def test_phrases_are_joined_longest_first(text, want):
    assert tokens(text) == want


def test_stop_words_may_be_phrases():
    assert tokens("the new york is new", stop_words=["the", "new_york"]) == ["is", "new"]


def test_the_separator_and_the_longest_phrase():
    assert tokens("new york city", ["new-york", "new-york-city"], ngram_separator="-") == ["new-york-city"]
    assert tokens("new york city", max_ngram_length=2) == ["new_york"]


def test_settings_are_saved(tmp_path):
    tokenizer = PhraseTokenizer(WORDS, ngram_separator="-", max_ngram_length=3)
    tokenizer.save(str(tmp_path))
    assert vars(PhraseTokenizer.load(str(tmp_path))) == vars(tokenizer)


def test_without_nltk_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(errors, "installed", lambda package: package != "nltk")
    with pytest.raises(ImportError, match=r'pip install "fourfold\[words\]"'):
        PhraseTokenizer(WORDS)
