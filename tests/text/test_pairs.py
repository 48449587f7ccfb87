"""Pairs whose texts are tokenised once, beside what the tokenizer makes of each pair."""

import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support import byte_level, metaspace, wordpiece
from tokenizers import Tokenizer, processors

from fourfold.errors import InputError
from fourfold.text.pairs import PairLayout, longest_first
from fourfold.text.tokenizer import FastTokenizer


def roberta():
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    ids = [(token, tokenizer.token_to_id(token)) for token in ("</s>", "<s>")]
    tokenizer.post_processor = processors.RobertaProcessing(*ids, add_prefix_space=False)
    return tokenizer


def ending():
    """As decoders have it: nothing in front, one token at the end."""
    tokenizer = wordpiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A $B:1 [SEP]:1", special_tokens=[("[SEP]", 2)]
    )
    return tokenizer


def turned():
    """The second text first, which is not the texts side by side."""
    tokenizer = wordpiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="[CLS] $B $A", special_tokens=[("[CLS]", 1)]
    )
    return tokenizer


KINDS = {
    "wordpiece": wordpiece, "roberta": roberta, "ending": ending, "plain": byte_level, "metaspace": metaspace,
    "turned": turned,
}  # fmt: skip
MADE = {name: make() for name, make in KINDS.items()}
TEXT = st.text("the quick fox.ü漢 ", max_size=40) | st.just("the quick brown fox " * 20) | st.just("a\ud800b")


def reference(tokenizer, pairs, max_length, side, special):
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    if max_length is not None:
        tokenizer.enable_truncation(max_length, strategy="longest_first", direction=side)
    clean = [tuple(text.replace("\ud800", "\ufffd") for text in pair) for pair in pairs]
    return [tokenizer.encode(*pair, add_special_tokens=special) for pair in clean]


@settings(deadline=None, max_examples=150)
@given(
    pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8),
    kind=st.sampled_from(sorted(KINDS)),
    max_length=st.none() | st.integers(5, 40),
    side=st.sampled_from(["left", "right"]),
    special=st.booleans(),
)
def test_any_pairs_are_what_the_tokenizer_makes_of_each(pairs, kind, max_length, side, special):
    tokenizer = FastTokenizer(MADE[kind], truncation_side=side, add_special_tokens=special)
    got = tokenizer.encode([*pairs, *map(list, pairs)], max_length)
    wanted = reference(MADE[kind], pairs, max_length, side, special) * 2
    types = np.zeros(len(got.ids), np.int32) if got.type_ids is None else got.type_ids
    for row, one in enumerate(wanted):
        part = slice(got.offsets[row], got.offsets[row + 1])
        assert got.ids[part].tolist() == one.ids
        assert types[part].tolist() == one.type_ids


@example(pairs=[("", "the quick brown fox " * 20)], kind="metaspace", max_length=5, side="left", cut="only_first")
@given(
    pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8),
    kind=st.sampled_from(sorted(KINDS)),
    max_length=st.integers(5, 40),
    side=st.sampled_from(["left", "right"]),
    cut=st.sampled_from(["only_first", "only_second"]),
)
def test_one_text_alone_is_cut_as_the_tokenizer_cuts_it(pairs, kind, max_length, side, cut):
    tokenizer = FastTokenizer(MADE[kind], truncation_side=side)
    base = Tokenizer.from_str(MADE[kind].to_str())
    base.enable_truncation(max_length, strategy=cut, direction=side)
    clean = [tuple(text.replace("\ud800", "\ufffd") for text in pair) for pair in pairs]
    wanted = []
    with contextlib.suppress(Exception):  # a plain one, if a text is too short to be cut
        wanted += [base.encode(*pair).ids for pair in clean]
    if not wanted:
        with pytest.raises(InputError, match=f"truncation='{cut}'"):
            tokenizer.encode(pairs, max_length, cut)
        return
    got = tokenizer.encode(pairs, max_length, cut)
    assert [got.ids[a:b].tolist() for a, b in itertools.pairwise(got.offsets.tolist())] == wanted


def test_a_single_text_has_no_second_one_to_cut():
    tokenizer = FastTokenizer(wordpiece())
    assert len(tokenizer.encode(["the fox"], 20, "only_second")) == 1
    with pytest.raises(InputError, match="short enough"):
        tokenizer.encode(["the fox " * 30], 20, "only_second")


@given(first=st.integers(0, 30), second=st.integers(0, 30), room=st.integers(0, 40))
def test_what_is_cut(first, second, room):
    kept = longest_first(np.array([[first, second]]), room)[0]
    assert kept.sum() == min(first + second, room)
    assert (kept >= 0).all()
    assert kept[0] <= first
    assert kept[1] <= second
    if kept.sum() < first + second and min(first, second) * 2 <= room:
        assert min(kept) == min(first, second)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_which_layouts_are_understood(kind):
    layout = PairLayout.of(MADE[kind], special=True)
    assert (layout is None) is (kind == "turned")


def test_a_text_is_tokenised_once_however_many_pairs_it_is_in(monkeypatch):
    seen = []
    tokenizer = FastTokenizer(wordpiece())
    whole = tokenizer._tokens
    monkeypatch.setattr(
        tokenizer, "_tokens", lambda texts, *args, **how: seen.extend(texts) or whole(texts, *args, **how)
    )
    tokenizer.encode([("a query", f"document {i % 3}") for i in range(50)], 20)
    assert sorted(seen) == ["a query", "document 0", "document 1", "document 2"]


def test_single_texts_among_pairs(monkeypatch):
    tokenizer = FastTokenizer(wordpiece())
    mixed = tokenizer.encode(["the fox", ("the fox", "a dog")], 20)
    alone = [tokenizer.encode([item], 20).ids.tolist() for item in ("the fox", ("the fox", "a dog"))]
    assert [mixed.ids[a:b].tolist() for a, b in zip(mixed.offsets, mixed.offsets[1:], strict=False)] == alone
