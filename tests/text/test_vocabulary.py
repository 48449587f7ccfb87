import pytest
from tests.support import TOKENIZERS, byte_level, metaspace, whole_words, wordpiece
from tokenizers import AddedToken, processors

from fourfold.errors import InputError
from fourfold.text.vocabulary import add_words, surroundings, unknown_token, without

TEXT = "the quick brown fox jumps over a lazy dog"


def tokens(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).tokens


def test_special_tokens_around_a_text():
    assert surroundings(wordpiece()) == ([1], [2])
    assert surroundings(byte_level()) == ([], [])
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    assert surroundings(tokenizer) == ([], [tokenizer.token_to_id("</s>")])


def test_the_unknown_token():
    assert [unknown_token(make()) for make in (wordpiece, byte_level, metaspace)] == ["[UNK]", None, "<unk>"]


@pytest.mark.parametrize("kind", [*TOKENIZERS, "whole words"])
def test_leaving_nothing_out_changes_no_text(kind):
    old = whole_words("[UNK]", *TEXT.split()) if kind == "whole words" else TOKENIZERS[kind]()
    old.enable_truncation(3)
    new, kept = without(old, lambda token: False)
    old.no_truncation()
    assert tokens(new, TEXT) == tokens(old, TEXT)
    assert [old.id_to_token(number) for number in kept] == [new.id_to_token(i) for i in range(len(kept))]
    assert new.get_vocab_size() == old.get_vocab_size() == len(kept)
    assert new.encode(TEXT).ids == new.encode(TEXT, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_is_left_out_is_not_found_any_more(kind):
    old = TOKENIZERS[kind]()
    gone = {"quick", "Ġquick", "▁quick", "Ġfo", "b"}
    new, kept = without(old, gone.__contains__)
    assert not gone & set(new.get_vocab())
    assert sorted(new.get_vocab().values()) == list(range(len(kept)))
    found = tokens(new, TEXT)
    assert not gone & set(found)
    assert found != tokens(old, TEXT)
    for token in found:
        assert old.id_to_token(kept[new.token_to_id(token)]) == token


def test_the_unknown_token_stays():
    for make in (wordpiece, metaspace, lambda: whole_words("[UNK]", "a")):
        new, kept = without(make(), lambda token: True)
        assert len(kept) == 1
        assert new.get_vocab() == {unknown_token(make()): 0}
        assert set(new.encode("the fox").ids) == {0}


def test_added_tokens_are_numbered_anew_or_left_out():
    old = metaspace()
    old.add_special_tokens(["<s>", "<pad>"])
    old.add_tokens([AddedToken("helloworld")])
    new, kept = without(old, lambda token: token in ("<s>", "a"))
    assert new.get_vocab_size() == len(kept) == old.get_vocab_size() - 2
    assert tokens(new, "the helloworld<pad>") == ["▁the", "▁", "helloworld", "<pad>"]
    assert "<s>" not in tokens(new, "<s>")


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_words_and_phrases_become_one_token_where_they_stand_alone(kind):
    tokenizer = TOKENIZERS[kind]()
    before = tokenizer.get_vocab_size()
    added = add_words(tokenizer, ["penguin", "quick brown", "", "penguin", "fox" if kind == "wordpiece" else ""])
    assert added == ["penguin", "quick brown"]
    assert [tokenizer.token_to_id(word) for word in added] == [before, before + 1]
    found = [token.strip() for token in tokens(tokenizer, "the quick brown penguin")]
    assert found == [found[0], "quick brown", "penguin"]
    assert "penguin" not in [token.strip() for token in tokens(tokenizer, "penguins")]


def test_words_that_a_normalizer_makes_equal_are_one():
    tokenizer = wordpiece()
    assert add_words(tokenizer, ["Zebra", "zebra", "ZÉBRA", "The"]) == ["Zebra"]
    size = tokenizer.get_vocab_size()
    assert tokenizer.encode("a zebra, the ZEBRA", add_special_tokens=False).ids.count(size - 1) == 2


def test_what_is_no_word_is_refused():
    with pytest.raises(InputError, match="got 3"):
        add_words(wordpiece(), ["a", 3])
