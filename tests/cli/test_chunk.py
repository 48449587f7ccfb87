"""Chunks on the standard output."""

import io
import json
import sys

import pytest

import fourfold
from fourfold.cli.main import main
from fourfold.testing import tiny, tiny_folder
from fourfold.text import split

TEXT = "The first sentence is short. The second is of a query!\n\n" * 6


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return path


def rows_of(capsys, *arguments):
    assert main(["chunk", *map(str, arguments)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("architecture", ["bert", "static"])
def test_chunks_are_those_of_the_models_tokenizer(architecture, file, capsys):
    folder = str(tiny_folder("dense", architecture))
    rows = rows_of(capsys, file, "--size", 30, "--overlap", 4, "-m", folder)
    model = tiny("dense", architecture)
    expected = split(TEXT, size=30, overlap=4, tokenizer=model[0].locating_tokenizer())
    assert rows == [
        {"file": str(file), "start": c.start, "stop": c.stop, "tokens": c.tokens, "text": c.text} for c in expected
    ]
    assert len(rows) > 3
    offsets = fourfold.load(folder).encode_chunks(TEXT, size=30, overlap=4).offsets
    assert [[row["start"], row["stop"]] for row in rows] == offsets.tolist()


def test_without_a_size_chunks_fill_the_model(file, capsys):
    rows = rows_of(capsys, file, "-m", tiny_folder("dense", "bert"))
    assert len(rows) > 1
    assert 64 < max(row["tokens"] for row in rows) <= 128


def test_characters_need_no_model(file, capsys):
    rows = rows_of(capsys, file, "--size", 40, "--characters")
    assert rows[0] == {"file": str(file), "start": 0, "stop": 28, "text": "The first sentence is short."}


def test_the_standard_input_and_several_files(file, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeffein kurzer Text".encode())))
    rows = rows_of(capsys, "-", file, "--size", 1000, "--characters")
    assert [(row["file"], row["text"]) for row in rows] == [("-", "ein kurzer Text"), (str(file), TEXT)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--size is needed"),
        (["--characters"], "--size is needed"),
        (["--characters", "-m", "x", "--size", "9"], "--characters counts characters, so --model has no meaning"),
        (["--size", "0"], "size must be a whole number of at least 1"),
        (["--size", "5", "--overlap", "5"], "overlap must be less than the 5"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, message, file, capsys):
    assert main(["chunk", str(file), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_file_that_is_no_text_is_named(tmp_path, capsys):
    path = tmp_path / "x.bin"
    path.write_bytes(b"ab\xff")
    assert main(["chunk", str(path), "--size", "9"]) == 2
    assert f"{path} is not UTF-8 text: byte 0xff cannot be read" in capsys.readouterr().err
