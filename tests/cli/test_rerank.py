"""Documents sorted by a cross encoder, in the terminal."""

import json

import pytest

from fourfold import CrossEncoder
from fourfold.cli.main import main
from fourfold.testing import checkpoint, tiny_folder

DOCUMENTS = ["the short text", "a document of the world", "long text", "query"]


@pytest.fixture(scope="module")
def model():
    return str(tiny_folder("cross"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "documents.txt"
    path.write_text("\n".join(DOCUMENTS) + "\n")
    return str(path)


def expected(model, **options):
    return CrossEncoder(model, device="cpu").rank("the query", DOCUMENTS, return_documents=True, **options)


def test_documents_come_best_first(model, file, capsys):
    assert main(["rerank", "the query", file, "-m", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{hit['score']:8.4f}  {hit['text']}" for hit in expected(model)]


def test_json(model, file, capsys):
    assert main(["rerank", "the query", file, "-m", model, "--json", "-k", "2"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert [hit["corpus_id"] for hit in hits] == [hit["corpus_id"] for hit in expected(model, top_k=2)]
    assert [hit["text"] for hit in hits] == [DOCUMENTS[hit["corpus_id"]] for hit in hits]


def test_the_best_passage_of_long_documents(model, tmp_path, capsys):
    long = "the long text of the world. " * 60 + "A document. " * 40
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*DOCUMENTS, long]))
    assert main(["rerank", "the query", str(path), "-m", model, "--passages", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    wanted = CrossEncoder(model, device="cpu").rank_passages("the query", [*DOCUMENTS, long], return_documents=True)
    assert hits == [{**hit, "score": pytest.approx(hit["score"])} for hit in wanted]
    assert main(["rerank", "the query", str(path), "-m", model, "--passages", "-k", "1"]) == 0
    passage = wanted[0]["text"][wanted[0]["start"] : wanted[0]["stop"]]
    assert capsys.readouterr().out.split(maxsplit=1)[1].strip()[:20] == passage[:20]


def test_json_lines_and_one_text(model, tmp_path, capsys):
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    assert main(["rerank", "the query", str(path), "-m", model, "-k", "1"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert main(["rerank", "the query", "one document", "-m", model]) == 0
    assert "one document" in capsys.readouterr().out


def test_what_cannot_rank_is_one_line(tmp_path, file, capsys):
    folder = checkpoint("bert", tmp_path / "three", head="labels", num_labels=3)
    assert main(["rerank", "the query", file, "-m", str(folder)]) == 2
    assert "one label" in capsys.readouterr().err
    (tmp_path / "empty.txt").write_text("\n")
    assert main(["rerank", "the query", str(tmp_path / "empty.txt"), "-m", str(folder)]) == 2
    assert "holds no texts" in capsys.readouterr().err
