import numpy as np
import pytest

from fourfold.containers import Tokens
from fourfold.errors import InputError
from fourfold.text.chat import ChatTemplate

CHAT = [{"role": "user", "content": "hello"}]
PAIR = [{"role": "query", "content": "a"}, {"role": "document", "content": "b"}]


class Processor:
    """Renders by a Python function; its template is only looked at."""

    def __init__(self, render, chat_template=""):
        self.calls = 0
        self._render = render
        self.chat_template = chat_template

    def apply_chat_template(self, chats, tokenize, **options):
        assert tokenize is False
        self.calls += 1
        return [self._render(chat, **options) for chat in chats]


def letters(texts, max_length=None):
    return Tokens.of([[ord(letter) for letter in text][:max_length] for text in texts])


def template(render, source="", message_format="flat"):
    return ChatTemplate(Processor(render, source), letters, message_format)


def closing(chat, end="END"):
    return "".join(f"{m['role']}:{m['content']};" for m in chat) + end


def read(tokens):
    rows = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    return ["".join(map(chr, tokens.ids[start:stop])) for start, stop in rows]


def test_a_cut_text_ends_as_the_template_ends():
    chats = [CHAT, [{"role": "user", "content": "x"}]]
    made = template(closing)
    tokens = letters(made.render(chats, {}), 12)
    assert read(tokens) == ["user:hello;E", "user:x;END"]
    assert read(made.restore_endings(tokens, chats, 12, {})) == ["user:hel;END", "user:x;END"]
    assert read(tokens) == ["user:hello;E", "user:x;END"]  # what was given is not written on
    assert made.restore_endings(tokens, chats, None, {}) is tokens


def test_options_of_the_template_change_its_ending():
    made = template(closing)
    tokens = letters(made.render([CHAT], {"end": "!"}), 8)
    assert read(made.restore_endings(tokens, [CHAT], 8, {"end": "!"})) == ["user:h;!"]
    assert read(made.restore_endings(tokens, [CHAT], 8, {})) == ["user;END"]


def test_an_ending_longer_than_the_text_is_cut_at_its_start():
    made = template(closing)
    assert read(made.restore_endings(letters(["user:"], 2), [CHAT], 2, {})) == ["ND"]


def test_conversations_with_images_are_left_alone():
    chat = [{"role": "user", "content": [{"type": "image", "image": "x"}]}]
    tokens = letters(["abcdef"], 4)
    assert template(closing).restore_endings(tokens, [chat], 4, {}) is tokens


def test_endings_are_rendered_once_for_an_order_of_roles():
    made = template(closing)
    tokens = letters(["abcdef"] * 3, 4)
    for text in "xyz":
        made.restore_endings(tokens, [[{"role": "user", "content": text}]] * 3, 4, {})
    assert made._processor.calls == 1
    made.restore_endings(tokens, [PAIR] * 3, 4, {})
    assert made._processor.calls == 2


def test_padded_features_are_restored_in_place():
    import torch

    chats = [CHAT, [{"role": "user", "content": "x"}]]
    rows = [list(map(ord, text)) for text in ("user:hello;E", "user:x;END")]
    ids = torch.tensor([rows[0], [0, 0, *rows[1]]])
    features = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    template(closing).restore_padded(features, chats, 12, {})
    assert "".join(map(chr, features["input_ids"][0])) == "user:hel;END"
    assert features["input_ids"][1].tolist() == [0, 0, *rows[1]]


@pytest.mark.parametrize(
    ("render", "said"),
    [
        (lambda chat: chat[1]["content"], "leaves out messages of the role 'query'"),
        (lambda chat: chat[0]["content"], "leaves out messages of the role 'document'"),
        (lambda chat: chat[2]["content"], "cannot render"),
    ],
)
def test_a_template_must_show_both_halves_of_a_pair(render, said):
    with pytest.raises(InputError, match=said) as caught:
        template(render).check_pairs({})
    assert "{% for message in messages %}" in str(caught.value)


def test_pairs_are_checked_once_for_the_same_options():
    for message_format in ("flat", "structured"):
        made = template(closing, message_format=message_format)
        for _ in range(3):
            made.check_pairs({})
        assert made._processor.calls == 3
        made.check_pairs({"end": "x"})
        assert made._processor.calls == 6


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("{% if task == 'query' %}x{% endif %}", True),
        ("task {{ messages }}", False),
        ("{% set task = 1 %}{{ task }}", False),
        ("{%- generation -%}{{ task }}{% endgeneration %}", True),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ task }}{% endfor %}", True),
        ("{% broken {{ task }}", False),
        (None, False),
    ],
)
def test_which_variables_a_template_reads(source, used):
    assert template(closing, source).uses("task") is used


def test_tokens_keep_their_segment_ids():
    tokens = Tokens(np.arange(3, dtype=np.int32), np.array([0, 3]), np.ones(3, np.int32))
    assert template(closing).restore_endings(tokens, [CHAT], 3, {}).type_ids is tokens.type_ids
