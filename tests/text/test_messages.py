import logging

import pytest
from PIL import Image

from fourfold.text import messages
from fourfold.text.messages import conversations, message_format
from fourfold.text.samples import sort_samples

IMAGE = Image.new("RGB", (2, 2))
EVERYTHING = ["text", "image", "audio", "video", "message"]


def part(text):
    return [{"type": "text", "text": text}]


@pytest.mark.parametrize(
    ("model_type", "template", "wanted"),
    [
        ("bert", None, "structured"),
        ("apertus", None, "structured"),
        ("bert", {"default": "x"}, "structured"),
        ("bert", "{{ m['content'] }}", "flat"),
        ("bert", "{{ m.content[0] }}", "structured"),
        ("bert", "{% if c.type == 'text' %}", "structured"),
        ("bert", "{% if c['type'] %}", "structured"),
        ("gpt_oss", "{% if c['type'] %}", "flat"),
    ],
)
def test_the_format_that_a_template_takes(model_type, template, wanted):
    assert message_format(model_type, template) == wanted


@pytest.mark.parametrize(
    ("inputs", "structured", "flat"),
    [
        (["a"], [[("user", part("a"))]], [[("user", "a")]]),
        (
            [("a", "b")],
            [[("query", part("a")), ("document", part("b"))]],
            [[("query", "a"), ("document", "b")]],
        ),
        (
            ["a", {"image": IMAGE}],
            [[("user", part("a"))], [("user", [{"type": "image", "image": IMAGE}])]],
            [[("user", "a")], [("user", IMAGE)]],
        ),
        (
            [("a", IMAGE)],
            [[("query", part("a")), ("document", [{"type": "image", "image": IMAGE}])]],
            [[("query", "a"), ("document", IMAGE)]],
        ),
    ],
)
def test_inputs_as_conversations(inputs, structured, flat):
    for wanted, name in ((structured, "structured"), (flat, "flat")):
        got = conversations(sort_samples(inputs, EVERYTHING), name)
        assert got == [[{"role": role, "content": content} for role, content in chat] for chat in wanted]


def test_several_kinds_are_parts_even_for_a_flat_template(caplog):
    samples = sort_samples([{"image": [IMAGE, IMAGE], "text": "a"}], EVERYTHING)
    with caplog.at_level(logging.WARNING):
        flat = conversations(samples, "flat")
    assert flat == conversations(samples, "structured")
    assert flat == [[{"role": "user", "content": [*[{"type": "image", "image": IMAGE}] * 2, *part("a")]}]]


def test_the_frames_of_a_video_are_one_part():
    content = conversations(sort_samples([{"video": [IMAGE, IMAGE]}], EVERYTHING), "structured")[0][0]["content"]
    assert content == [{"type": "video", "video": [IMAGE, IMAGE]}]


def test_what_the_caller_wrote_stays():
    chat = [{"role": "user", "content": "x"}, {"role": "assistant", "content": part("y")}]
    assert conversations(sort_samples([chat], EVERYTHING), "structured") == [chat]
    assert messages.with_system([chat], "be good ", "flat") == [[{"role": "system", "content": "be good "}, *chat]]
    assert messages.with_system([chat], "p", "structured")[0][0] == {"role": "system", "content": part("p")}


def test_looking_at_conversations():
    texts = [{"role": "user", "content": "x"}, {"role": "user", "content": part("y")}]
    picture = [{"role": "user", "content": [{"type": "image", "image": IMAGE}, *part("y")]}]
    assert messages.is_text_only([texts])
    assert not messages.is_text_only([texts, picture])
    assert not messages.is_text_only([[{"role": "user", "content": None}]])
    assert messages.count_parts([texts, picture], "image") == [0, 1]
    assert messages.with_texts(texts, "0") == [{"role": "user", "content": "0"}, {"role": "user", "content": part("0")}]
    assert messages.has_pair_roles(conversations(sort_samples([("a", "b")], EVERYTHING), "flat"))
    assert not messages.has_pair_roles([texts])
