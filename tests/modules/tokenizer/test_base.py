import importlib.util

import pytest

from fourfold.errors import FolderError, InputError
from fourfold.modules import tokenizer as tokenizers
from fourfold.modules.tokenizer import registry
from fourfold.modules.tokenizer._base import VocabularyTokenizer, WordTokenizer, check_vocab


def test_the_tokenizers_are_found_by_the_names_of_their_files():
    assert registry.names() == ["phrase_tokenizer", "transformers_tokenizer_wrapper", "whitespace_tokenizer"]
    for name in registry.names():
        assert issubclass(registry.get(name), WordTokenizer)
        assert getattr(tokenizers, registry.get(name).__name__) is registry.get(name)
    assert tokenizers.WordTokenizer is WordTokenizer
    with pytest.raises(AttributeError):
        _ = tokenizers.JiebaTokenizer


def test_modules_do_not_take_the_package_for_a_part():
    from fourfold.modules import registry as modules

    assert "tokenizer" not in modules.names()
    assert importlib.util.find_spec("fourfold.modules.tokenizer") is not None


def test_the_stop_words_are_sorted_and_plain():
    words = tokenizers.ENGLISH_STOP_WORDS
    assert words == sorted(set(words))
    assert len(words) == 386
    assert {"the", "!", "``", "yourselves"} <= set(words)


def test_a_vocabulary_is_words():
    assert check_vocab(iter(["a", "b"])) == ["a", "b"]
    with pytest.raises(InputError, match="got None at position 1"):
        check_vocab(["a", None])
    with pytest.raises(InputError, match="got 'ab'"):
        check_vocab("ab")


@pytest.mark.parametrize("name", ["whitespace_tokenizer", "phrase_tokenizer"])
def test_settings_and_vocabulary_are_one_file(tmp_path, name):
    kind = registry.get(name)
    assert issubclass(kind, VocabularyTokenizer)
    tokenizer = kind(["b", "a", "b"], stop_words=["z", "y"], do_lower_case=True)
    tokenizer.save(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [kind.config_file_name]
    again = kind.load(str(tmp_path))
    assert vars(again) == vars(tokenizer)
    assert again.get_vocab() == ["b", "a", "b"]
    assert again.tokenize("b a") == [2, 1]
    again.set_vocab(["q"])
    assert (again.get_vocab(), again.tokenize("b q")) == (["q"], [0])


@pytest.mark.parametrize("name", ["whitespace_tokenizer", "phrase_tokenizer"])
def test_a_file_that_does_not_fit_is_named(tmp_path, name):
    kind = registry.get(name)
    for content, said in (('{"vocb": []}', "unknown key 'vocb'"), ("[]", "JSON object"), ('{"vocab": 3}', "vocab")):
        (tmp_path / kind.config_file_name).write_text(content)
        with pytest.raises(FolderError) as caught:
            kind.load(str(tmp_path))
        assert kind.config_file_name in str(caught.value)
        assert said in str(caught.value)
    with pytest.raises(OSError, match=f"{kind.config_file_name} is missing"):
        kind.load(str(tmp_path / "nowhere"))
