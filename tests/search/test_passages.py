from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fourfold.search.passages import ENOUGH, LIMIT, Passage, size_of, split
from fourfold.search.readers import Block

paragraphs = st.lists(st.text(st.sampled_from("abcdefgh   .\nZ"), min_size=1, max_size=2000), max_size=8)


@given(paragraphs, st.sampled_from(["prose", "code", "record"]))
def test_every_word_once_in_order_with_its_line(parts, kind):
    source, blocks, line = "", [], 1
    for part in parts:
        blocks.append(Block(line, part, "", kind))
        source += part + "\n\n"
        line += part.count("\n") + 2
    lines = source.split("\n")
    passages = list(split(blocks))
    assert "".join("".join(p.text.split()) for p in passages) == "".join(source.split())
    for passage in passages:
        first = passage.text.split("\n")[0]
        assert first.strip() in lines[passage.line - 1]
        assert first.strip()
        # blank lines between joined blocks are those of the file
        for number, text in enumerate(passage.text.split("\n")):
            assert text.strip() in lines[passage.line - 1 + number]


@given(paragraphs)
def test_no_passage_is_too_long(parts):
    for passage in split([Block(1, part) for part in parts]):
        assert size_of(passage.text) <= LIMIT + len(parts)  # the breaks between paragraphs are not counted


def test_paragraphs_are_joined_until_there_is_enough():
    blocks = [Block(1 + 2 * i, f"word{i} " * 50) for i in range(6)]
    passages = list(split(blocks))
    assert [len(p.text.split()) for p in passages] == [150, 150]
    assert [p.line for p in passages] == [1, 7]
    assert 50 < ENOUGH <= 150


def test_headings_and_records_stand_alone():
    blocks = [
        Block(1, "a", "H"),
        Block(2, "b", "H"),
        Block(3, "c", "I"),
        Block(4, "d", "I", "record"),
        Block(5, "e", "I"),
    ]
    assert list(split(blocks)) == [
        Passage(1, "a\nb", "H"),
        Passage(3, "c", "I"),
        Passage(4, "d", "I"),
        Passage(5, "e", "I"),
    ]


def test_code_is_cut_at_lines_and_keeps_its_indent():
    body = "".join(f"    call({i}, of, many, words)\n" for i in range(100))
    passages = list(split([Block(10, "\n" + body, "f", "code")]))
    assert len(passages) > 1
    assert passages[0].line == 11
    for passage in passages:
        assert all(line.startswith("    call(") for line in passage.text.split("\n"))
