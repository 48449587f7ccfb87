"""The weights of one text and what two share, as bars, as JSON and as a picture."""

import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fourfold.cli import explain
from fourfold.cli._bars import Bar, draw
from fourfold.cli._terms import BUILT_IN, Weighed, Weigher
from fourfold.cli.main import main
from fourfold.search import Index
from fourfold.testing import tiny, tiny_folder

QUERY, DOCUMENT = "how do owls hunt at night", "Owls hunt by hearing: an owl's ears are uneven."


def told(capsys, *arguments):
    assert main(["explain", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def weights(found):
    return {row["token"]: row["weight"] for row in found["weights"]}


def test_the_words_of_a_query_by_how_rare_they_are(capsys):
    found = told(capsys, QUERY)
    assert (found["model"], found["as"], found["active"]) == (BUILT_IN, "query", 5)
    shown = weights(found)
    assert list(shown) == ["owl", "hunt", "night", "how", "do"]
    assert list(shown.values()) == sorted(shown.values(), reverse=True)


def test_two_texts_share_what_a_search_finds_one_by_the_other_for(capsys, tmp_path):
    found = told(capsys, QUERY, DOCUMENT)
    assert [row["token"] for row in found["shared"]] == ["owl", "hunt"]
    for row in found["shared"]:
        assert row["product"] == pytest.approx(math.prod(row["weights"]))
        assert row["share"] == pytest.approx(row["product"] / found["scores"]["dot"])
    assert sum(row["product"] for row in found["shared"]) == pytest.approx(found["scores"]["dot"])
    # In an index of this passage alone, a word's rarity counts one passage more: its score is close by.
    index = Index(tmp_path, folder=tmp_path / "index")
    index.put("text", [DOCUMENT], vectors=False)
    (hit,) = index.search(QUERY, mode="lexical")
    assert found["scores"]["dot"] == pytest.approx(hit.score, rel=0.3)


def test_the_page_of_one_text(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["explain", QUERY, "-k", "2"]) == 0
    head, count, blank, *rows, rest = capsys.readouterr().out.splitlines()
    assert (head, count, blank) == (f"query: {QUERY}", f"5 tokens · {BUILT_IN}", "")
    assert [row.split()[0] for row in rows] == ["owl", "hunt"]
    assert rows[0].count("█") > rows[1].count("█") > 10
    assert max(map(len, [*rows, rest])) <= 60
    assert rest.split() == ["…", "3", "more"]


def test_the_page_of_two_texts(capsys):
    assert main(["explain", QUERY, DOCUMENT]) == 0
    shown = capsys.readouterr().out
    assert f"query: {QUERY}\ndocument: {DOCUMENT}\ndot product " in shown
    assert "2 shared tokens of 5 of the query, 5 of the document\n" in shown
    assert "query alone: night " in shown
    assert "document alone: ear 0.400, hear 0.400, uneven 0.400\n" in shown
    shares = [float(line.split()[3]) for line in shown.splitlines() if line.startswith(("owl ", "hunt "))]
    assert sum(shares) == pytest.approx(100, abs=0.11)


def test_as_says_what_both_texts_are(capsys):
    found = told(capsys, "owl owl night", "owl", "--as", "document")
    assert [text["as"] for text in found["texts"]] == ["document", "document"]
    assert weights(found["texts"][0]) == pytest.approx({"owl": 2 / 3.5, "night": 1 / 2.5})


def test_what_has_no_word(capsys):
    assert main(["explain", "?"]) == 0
    assert capsys.readouterr().out == f"query: ?\n0 tokens · {BUILT_IN}\n"
    assert main(["explain", "owl", "iron"]) == 0
    shown = capsys.readouterr().out
    assert "dot product 0.0000" in shown
    assert "0 shared tokens of 1 of the query, 1 of the document" in shown
    assert told(capsys, "owl", "iron")["shared"] == []


def page(*texts, similarity="dot", room=80, rows=20):
    """Return the lines about texts whose weights are given."""
    roles = ("query", "document")
    weighed = [Weighed("text", role, text) for role, text in zip(roles, texts, strict=False)]
    weigher = Weigher("model", 100, similarity, lambda text, role: {})
    lines = explain._lines_of_one if len(weighed) == 1 else explain._lines_of_two
    return list(lines(weigher, *weighed, room, rows))


def test_a_model_that_compares_by_cosine_and_weights_below_zero():
    lines = page({"a": 3.0, "b": 4.0}, {"a": 2.0, "b": -1.0}, similarity="cosine")
    assert lines[2] == f"cosine {2 / (5 * 5**0.5):.4f}, dot product 2.0000 · model"
    assert [line.split()[:4] for line in lines[-2:]] == [
        ["a", "3.000", "2.000", "300.0"],
        ["b", "4.000", "-1.000", "-200.0"],
    ]
    bars = [line.count("█") for line in lines[-2:]]
    assert bars[0] > bars[1] > 0


def test_what_is_not_shown_is_counted():
    texts = [{f"t{i:02}": 2.0 for i in range(30)}, {f"t{i:02}": 1.0 for i in range(30)}]
    lines = page(*texts, rows=3)
    assert [line[:3] for line in lines[6:9]] == ["t00", "t01", "t02"]
    assert lines[9].split() == ["90.0", "%", "27", "more"]
    assert page(texts[0], rows=3)[1] == "30 tokens of 100 · model"


def test_odd_tokens_and_a_narrow_terminal_keep_the_columns():
    lines = page({"\x1b[31m": 3.0, " ": 2.0, "日本語" * 20: 1.0, "##s": 0.5}, room=30)[3:]
    assert lines[0].startswith("'\\x1b[31m'")
    assert lines[1].startswith("' '")
    assert lines[2].startswith("日本語")
    assert "…" in lines[2]
    assert all(line.split()[-2] in ("3.000", "2.000", "1.000", "0.500") for line in lines)


def test_a_terminal_without_blocks(monkeypatch):
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", plain)
    assert main(["explain", "owl"]) == 0
    plain.seek(0)
    head, count, _, row = plain.read().splitlines()
    assert (head, count) == ("query: owl", f"1 token - {BUILT_IN}")
    assert row.split()[2].strip("#") == ""


def test_pictures(tmp_path, capsys):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    assert main(["explain", QUERY, "--png", str(one)]) == 0
    assert main(["explain", QUERY, DOCUMENT, "--png", str(two), "--json"]) == 0
    assert f"drew {one}\nfourfold: drew {two}\n" in capsys.readouterr().err
    for file, bars in ((one, 5), (two, 2)):
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert picture.size[0] > 500
            assert picture.size[1] > 26 * bars
    assert main(["explain", QUERY, "--png", str(tmp_path / "x.jpg")]) == 2
    assert "--png must name a .png file" in capsys.readouterr().err


def test_bars_are_as_long_as_their_values():
    picture = np.asarray(draw([Bar("a", 4.0, ""), Bar("b", -1.0, ""), Bar("c", 0.0, "")], ["title"]))
    rows = [picture[middle] for middle in (62, 88, 114)]
    filled = [int((row.min(axis=1) < 200).sum()) for row in rows]
    assert filled[0] == pytest.approx(4 * filled[1], abs=24)
    assert filled[2] < 12  # the label alone
    assert draw([], ["nothing"]).size[1] > 20


def test_the_built_in_weights_need_no_torch():
    code = (
        "import sys; from fourfold.cli.main import main\n"
        "main(['explain', 'owls', 'an owl'])\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")


def test_a_dense_model_has_no_weights_to_show(capsys):
    folder = str(tiny_folder("dense", "static"))
    assert main(["explain", "a text", "-m", folder]) == 2
    assert f"{folder} is no sparse model and has none. Name a sparse one with --model" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bert", "static"])
def test_a_sparse_model_shows_what_it_decodes(capsys, kind):
    model = tiny("sparse", kind)
    folder = tiny_folder("sparse", kind)
    found = told(capsys, "a short text", "the text", "-m", folder)
    for text, encode in zip(found["texts"], (model.encode_query, model.encode_document), strict=True):
        expected = dict(model.decode(encode([text["text"]]))[0])
        assert weights(text) == pytest.approx(expected, rel=1e-4)
    rows = model.encode_query(["a short text"]), model.encode_document(["the text"])
    assert found["scores"]["dot"] == pytest.approx(float(model.similarity(*rows)[0, 0]), rel=1e-4)
    assert main(["explain", "a text", "-m", str(folder)]) == 0
    assert f" of {model.get_embedding_dimension() or rows[0].shape[1]:,} · {folder}\n" in capsys.readouterr().out


def test_units_of_an_auto_encoder_are_no_tokens(capsys):
    found = told(capsys, "a short text", "-m", tiny_folder("sparse", "qwen3"))
    assert 0 < found["active"] <= 8
    assert all(row["token"].startswith("unit ") for row in found["weights"])
