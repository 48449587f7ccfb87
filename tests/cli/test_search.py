from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

import fourfold
from fourfold.cli.main import main
from fourfold.testing import checkpoint, tiny_folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "birds.md").write_text("# Birds\n\nThe heron waits.\n\n## Owls\n\nOwls hunt at night.\n")
    (tmp_path / "docs" / "metal.txt").write_text("Iron rusts in water.\n")
    return tmp_path


def run(capsys, *arguments):
    try:
        code = main(["search", *arguments])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_plain_output(root, capsys):
    code, out, err = run(capsys, "hunting owls", "docs", "--mode", "lexical")
    assert (code, err) == (0, "")
    head, body = out.rstrip("\n").split("\n")
    assert head.startswith("docs/birds.md:7  ")
    assert head.endswith("  Birds > Owls")
    assert body == "    Owls hunt at night."


def test_json_output(root, capsys):
    code, out, err = run(capsys, "rusting iron", "docs", "--mode", "lexical", "--json")
    assert (code, err) == (0, "")
    (hit,) = json.loads(out)
    assert {name: type(value) for name, value in hit.items()} == {
        "path": str,
        "line": int,
        "score": float,
        "text": str,
        "heading": str,
    }
    assert (hit["path"], hit["line"], hit["text"]) == ("docs/metal.txt", 1, "Iron rusts in water.")


def test_nothing_found(root, capsys):
    assert run(capsys, "zebra", "docs", "--mode", "lexical") == (1, "", "fourfold: nothing found\n")
    assert run(capsys, "zebra", "docs", "--mode", "lexical", "--json") == (1, "[]\n", "")


def test_no_text_at_all(root, capsys):
    (root / "empty").mkdir()
    assert run(capsys, "zebra", "empty") == (1, "", "fourfold: no text to search in empty\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "docs"], "the question is empty"),
        (["owls", "none"], "none does not exist"),
        (["owls", "image.png"], "was left out: it is not text"),
        (["owls", "docs", "--mode", "words"], "--mode"),
        (["owls", "docs", "-k", "0"], "at least 1"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_code_2(root, capsys, arguments, message):
    (root / "image.png").write_bytes(b"\x89PNG\0\0")
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_damaged_index_and_rebuild(root, capsys):
    run(capsys, "owls", "docs", "--mode", "lexical")
    (root / "docs" / ".fourfold" / "catalog").write_text("nonsense")
    code, _, err = run(capsys, "owls", "docs", "--mode", "lexical")
    assert code == 2
    assert "--rebuild" in err
    assert run(capsys, "owls", "docs", "--mode", "lexical", "--rebuild")[0] == 0


def test_several_paths_are_searched_as_one(root, capsys):
    (root / "note.txt").write_text("Owls and iron owls.")
    (root / "other.txt").write_text("Owls elsewhere.")
    arguments = ["owls", "docs", "docs/birds.md", "note.txt", "--mode", "lexical", "--json"]
    found = [hit["path"] for hit in json.loads(run(capsys, *arguments)[1])]
    assert sorted(found) == ["docs/birds.md", "note.txt"]
    assert not (root / "docs" / "docs").exists()
    assert {hit["path"] for hit in json.loads(run(capsys, "owls", "--mode", "lexical", "--json")[1])} == {
        "docs/birds.md",
        "note.txt",
        "other.txt",
    }


def test_left_out_files_are_told_once(root, capsys):
    (root / "docs" / "blob.dat").write_bytes(b"\0")
    assert "blob.dat was left out: it is not text" in run(capsys, "owls", "docs", "--mode", "lexical")[2]
    assert run(capsys, "owls", "docs", "--mode", "lexical")[2] == ""


def test_terminal_output_is_styled(root, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert main(["search", "hunting owls", "docs", "--mode", "lexical"]) == 0
    assert "\x1b[1;33mOwls\x1b[0m" in terminal.getvalue()
    assert "docs/birds.md" in terminal.getvalue()


def test_the_same_passage_in_two_files_is_shown_once(root, capsys):
    (root / "docs" / "copy.txt").write_text("Iron rusts in\nwater.")
    assert len(json.loads(run(capsys, "rusting iron", "docs", "--mode", "lexical", "--json")[1])) == 1


def test_a_search_loads_no_torch(root):
    code = (
        "import sys; from fourfold.cli.main import main\n"
        "main(['search', 'owls', 'docs', '--mode', 'lexical'])\n"
        "heavy = {'torch', 'transformers', 'rich', 'tqdm', 'huggingface_hub', 'pypdf'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for _ in range(2):  # the first one indexes, which may show a bar
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (process.returncode, process.stderr) == (0, "")


def test_a_mode_without_a_model_of_its_family_fails_before_anything_is_read(root, capsys):
    code, out, err = run(capsys, "owls", "docs", "--mode", "sparse")
    assert (code, out) == (2, "")
    assert "mode sparse needs a sparse model; got the built-in model, which is dense" in err
    code, _, err = run(capsys, "owls", "docs", "--mode", "dense", "-m", str(tiny_folder("sparse", "static")))
    assert code == 2
    assert "mode dense needs a dense model" in err
    models = [argument for seed in (0, 1) for argument in ("-m", str(tiny_folder("sparse", "static", seed)))]
    assert "at most one dense and one sparse model; got 2 sparse ones" in run(capsys, "owls", "docs", *models)[2]
    assert not (root / "docs" / ".fourfold").exists()


def test_sparse_search(root, capsys):
    folder = tiny_folder("sparse", "static")
    code, out, _ = run(capsys, "Owls hunt at night.", "docs", "--mode", "sparse", "--json", "-m", str(folder))
    assert code == 0
    hits, model = json.loads(out), fourfold.load(folder)
    assert hits[0]["path"] == "docs/birds.md"
    texts = [f"{hit['heading']}\n{hit['text']}" if hit["heading"] else hit["text"] for hit in hits]
    rows = model.encode_query(["Owls hunt at night."]), model.encode_document(texts)
    assert [hit["score"] for hit in hits] == pytest.approx(model.similarity(*rows)[0].tolist(), rel=1e-5)


def test_words_and_models_are_mixed(root, capsys):
    models = ["-m", str(tiny_folder("sparse", "static")), "-m", str(tiny_folder("dense", "static"))]
    for options, best in (
        (models[:2], 1.0),
        ([*models[:2], "--fusion", "rrf"], 2 / 61),
        ([*models, "--fusion", "rrf"], 3 / 61),
    ):
        code, out, _ = run(capsys, "Owls hunt at night.", "docs", *options, "--json")
        hit = json.loads(out)[0]
        assert (code, hit["path"]) == (0, "docs/birds.md")
        assert hit["score"] == pytest.approx(best, rel=1e-3)
    assert run(capsys, "owls", "docs", *models, "--fusion", "rrf")[1].split()[1].startswith("0.0")
    assert "--fusion" in run(capsys, "owls", "docs", "--fusion", "max")[2]


def test_a_sparse_model_without_inference_needs_no_torch(root):
    code = (
        "import sys; from fourfold.cli.main import main\n"
        f"main(['search', 'owls', 'docs', '--mode', 'sparse', '-m', {str(tiny_folder('sparse', 'static'))!r}])\n"
        "heavy = {'torch', 'transformers', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (process.returncode, process.stderr) == (0, "")
    assert "docs/birds.md" in process.stdout


def test_questions_that_are_looked_up_need_no_torch_once_files_are_encoded(root, tmp_path_factory):
    from fourfold import SparseEncoder
    from fourfold.modules import Router
    from fourfold.testing import tiny

    folder = tmp_path_factory.mktemp("models") / "routed"
    routes = Router.for_query_document(list(tiny("sparse", "static")), list(tiny("sparse", "bert")))
    SparseEncoder(modules=[routes], device="cpu").save(folder)
    code = (
        "import sys; from fourfold.cli.main import main\n"
        f"main(['search', 'owls hunt', 'docs', '--mode', 'sparse', '-m', {str(folder)!r}])\n"
        "print('torch' in sys.modules)"
    )
    for torch_is_loaded in ("True", "False"):
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
        assert (process.returncode, process.stderr) == (0, "")
        assert process.stdout.splitlines()[-1] == torch_is_loaded


def test_the_default_search_imports_nothing_of_sparse_models(root):
    code = (
        "import sys; from fourfold.cli.main import main\n"
        "main(['search', 'owls', 'docs'])\n"
        "main(['search', 'owls', 'docs'])\n"
        "found = {'fourfold.families._sparse_encoder', 'fourfold.search.maxscore', 'torch', 'PIL'} & set(sys.modules)\n"
        "assert not found, found"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (process.returncode, process.stderr) == (0, "")


def test_a_cross_encoder_sorts_what_was_found(root, capsys, tmp_path):
    model = str(tiny_folder("cross"))
    code, out, _ = run(capsys, "owls heron water", "docs", "--mode", "lexical", "--rerank", model, "--json")
    assert code == 0
    hits = json.loads(out)
    assert len(hits) == 3
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    pairs = [
        ("owls heron water", f"{hit['heading']}\n{hit['text']}" if hit["heading"] else hit["text"]) for hit in hits
    ]
    wanted = fourfold.CrossEncoder(model, device="cpu").predict(pairs)
    assert [hit["score"] for hit in hits] == pytest.approx(wanted.tolist(), abs=1e-6)
    code, out, _ = run(
        capsys, "owls heron water", "docs", "--mode", "lexical", "--rerank", model, "--rerank-top", "1", "--json"
    )
    assert len(json.loads(out)) == 1
    folder = checkpoint("bert", tmp_path / "three", head="labels", num_labels=3)
    code, _, err = run(capsys, "owls heron water", "docs", "--rerank", str(folder))
    assert code == 2
    assert "3 labels" in err
