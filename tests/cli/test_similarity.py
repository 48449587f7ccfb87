"""Scores on the terminal, as JSON and as a picture."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import fourfold
from fourfold.cli import similarity
from fourfold.cli.main import main
from fourfold.testing import tiny_folder


@pytest.fixture(scope="module")
def model():
    return str(tiny_folder("dense", "static"))


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.txt").write_text("hello world\nthe model\n")
    (tmp_path / "b.txt").write_text("a document\nhello\nshort text\n")
    return str(tmp_path / "a.txt"), str(tmp_path / "b.txt")


def test_two_texts_give_one_number(model, capsys):
    assert main(["similarity", "hello world", "hello", "-m", model]) == 0
    encoder = fourfold.load(model)
    expected = encoder.similarity(encoder.encode(["hello world"]), encoder.encode(["hello"]))[0, 0]
    assert capsys.readouterr().out == f"{expected:.4f}\n"


def test_queries_and_documents_have_their_prompts(model, tmp_path, capsys):
    folder = shutil.copytree(model, tmp_path / "prompted")
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    settings["prompts"] = {"query": "find ", "document": "world "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    encoder = fourfold.load(folder)
    for texts in (["hello world", "hello"], ["hello"]):
        assert main(["similarity", *texts, "-m", str(folder), "--queries"]) == 0
        rows = encoder.encode_query(texts[:1]), encoder.encode_document(texts[-1:])
        assert capsys.readouterr().out == f"{encoder.similarity(*rows)[0, 0]:.4f}\n"


def test_files_give_a_table(model, files, capsys):
    assert main(["similarity", *files, "-m", model]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["a", "document", "hello", "short", "text"]
    assert [row[:11].strip() for row in rows] == ["hello world", "the model"]
    assert [len(row[11:].split()) for row in rows] == [3, 3]
    assert len({len(line) for line in [head, *rows]}) == 1


def test_a_single_argument_is_compared_with_itself(model, files, capsys):
    assert main(["similarity", files[0], "-m", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["a"] == found["b"] == ["hello world", "the model"]
    np.testing.assert_allclose(np.diag(found["scores"]), 1, atol=1e-6)


def test_many_columns_become_the_best_of_each_row():
    columns = [f"text number {i}" for i in range(30)]
    scores = np.linspace(0, 1, 30)[None]
    lines = list(similarity._lines(scores, ["the question"], columns, 60))
    assert lines == [
        "the question",
        "    1.0000  text number 29",
        "    0.9655  text number 28",
        "    0.9310  text number 27",
    ]


def test_a_text_without_room_over_its_column_is_a_number():
    texts = [f"quite a long text that is number {i}" for i in range(1, 7)]
    lines = list(similarity._lines(np.eye(6), texts, texts, 100))
    assert lines[0].split() == ["1.", "2.", "3.", "4.", "5.", "6."]
    assert lines[1].startswith("1. quite a long text that is number 1  ")
    assert max(map(len, lines)) <= 100
    narrow = list(similarity._lines(np.eye(6), texts, texts, 40))
    assert narrow[:2] == [texts[0], "    0.0000  quite a long text that is n…"]


def test_wide_and_odd_characters_keep_the_columns(model):
    lines = list(similarity._lines(np.eye(2), ["日本語", "a\tb\x1b[31m"], ["x", "y" * 40], 80))
    assert lines[1].startswith("日本語  ")
    assert lines[2].startswith("a b[31m ")
    assert lines[0].endswith("y…")


def test_a_picture(model, files, tmp_path, capsys):
    png = tmp_path / "map.png"
    assert main(["similarity", *files, "-m", model, "--png", str(png)]) == 0
    with Image.open(png) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 100
    assert f"drew {png}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "texts", "message"),
    [("map.jpg", 2, "--png must name a .png file"), ("map.png", 201, "at most 200 texts a side, got 201 x 1")],
)
def test_a_picture_that_cannot_be(tmp_path, name, texts, message, capsys):
    (tmp_path / "a.txt").write_text("text\n" * texts)
    assert main(["similarity", str(tmp_path / "a.txt"), "b", "--png", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["static", "bert"])
def test_a_sparse_model_compares_by_its_own_similarity(kind, capsys):
    folder = tiny_folder("sparse", kind)
    assert main(["similarity", "hello world", "hello", "-m", str(folder)]) == 0
    encoder = fourfold.load(folder)
    assert encoder.similarity_fn_name == "dot"
    expected = encoder.similarity(encoder.encode(["hello world"]), encoder.encode(["hello"]))[0, 0]
    assert capsys.readouterr().out == f"{expected:.4f}\n"
    assert expected > 1.1
