"""Texts come out of files as they went in, and a broken file says where."""

import gzip
import json

import pytest

from fourfold.cli._texts import TextFile, texts_of
from fourfold.errors import InputError

TEXTS = ["plain", "", "with  space ", "über\u2028line\x0bseparators\x85", '日本語, "quoted"']


def write(path, data):
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_lines(tmp_path, suffix):
    path = write(tmp_path / f"a.txt{suffix}", "\n".join(TEXTS) + "\n")
    assert list(TextFile(path)) == TEXTS


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_json_lines(tmp_path, suffix):
    rows = "\n\n".join(json.dumps({"body": text, "id": 3}, ensure_ascii=False) for text in TEXTS)
    assert list(TextFile(write(tmp_path / f"a.jsonl{suffix}", rows), "body")) == TEXTS


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv.gz", ",")])
def test_tables_keep_line_breaks_in_a_cell(tmp_path, name, delimiter):
    texts = ["one", "two\nlines", "x" * 200_000]
    cells = "".join(f'1{delimiter}"{text}"\n' for text in texts)
    path = write(tmp_path / name, f"id{delimiter}text\n{cells}")
    assert list(TextFile(path)) == texts


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    assert list(TextFile(write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n"))) == ["one", "two"]


def test_a_file_can_be_read_twice_and_says_how_far_it_is(tmp_path):
    file = TextFile(write(tmp_path / "a.txt", "one\ntwo\n"))
    assert file.position() == 0
    first = list(file)
    assert list(file) == first
    assert file.size == 8


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", '{"text": "ok"}\n{"text": ', "line 2 is not valid JSON"),
        ("a.jsonl", '["text"]', "line 1 must hold a JSON object, got list"),
        ("a.jsonl", '{"txt": "x"}', "line 1 has no field 'text'; it has: txt. Did you mean 'txt'?"),
        ("a.jsonl", '{"zzzzz": "x"}', "it has: zzzzz. Choose one with --field."),
        ("a.jsonl", '{"text": 3}', "line 1: field 'text' must hold a text, got 3"),
        ("a.csv", 'text\n"open', "is not valid CSV: unexpected end of data"),
        ("a.csv", "id,text\n1\n", "line 2: field 'text' must hold a text, got None"),
        ("a.txt", b"ok\n\xff\xfe\n", "is not UTF-8 text: byte 0xff cannot be read"),
    ],
)
def test_a_broken_file_says_where(tmp_path, name, data, message):
    path = write(tmp_path / name, data)
    with pytest.raises(InputError) as caught:
        list(TextFile(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_cut_or_false_gzip_file(tmp_path):
    whole = gzip.compress(b"some text\n" * 1000)
    (tmp_path / "a.txt.gz").write_bytes(whole[:-10])
    (tmp_path / "b.txt.gz").write_bytes(b"plain text")
    for name in ("a.txt.gz", "b.txt.gz"):
        with pytest.raises(InputError, match="is not a whole gzip file"):
            list(TextFile(tmp_path / name))


def test_an_argument_is_a_text_or_a_file(tmp_path):
    path = write(tmp_path / "a.txt", "one\n\ntwo\n")
    assert texts_of(str(path)) == ["one", "two"]
    assert texts_of("just a text") == ["just a text"]
    assert texts_of("x" * 100_000) == ["x" * 100_000]
    assert texts_of("a\0b") == ["a\0b"]
    with pytest.raises(InputError, match="holds no texts"):
        texts_of(str(write(tmp_path / "empty.txt", "\n")))
