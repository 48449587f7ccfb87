"""A file of texts becomes a file of vectors, whole or not at all, also after a kill."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fourfold
from fourfold.cli import _spool, encode
from fourfold.cli.main import main
from fourfold.errors import InputError
from fourfold.ops.terms import normalized
from fourfold.testing import tiny_folder

TEXTS = [f"hello {'long ' * (i % 7)}world {i}" for i in range(100)] + [""]


@pytest.fixture(scope="module")
def model():
    return str(tiny_folder("dense", "static"))


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    return path


def test_npy(tmp_path, texts, model, capsys):
    out = tmp_path / "sub" / "out.npy"
    assert main(["encode", str(texts), "-o", str(out), "--model", model]) == 0
    vectors = np.load(out)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, fourfold.load(model).encode(TEXTS))
    assert f"101 texts x 32 -> {out} in " in capsys.readouterr().err
    assert [file.name for file in out.parent.iterdir()] == ["out.npy"]


def test_windows_do_not_change_the_vectors(tmp_path, texts, model, monkeypatch):
    monkeypatch.setattr(encode, "WINDOW_ROWS", 7)
    main(["encode", str(texts), "-o", str(tmp_path / "out.npy"), "--model", model])
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), fourfold.load(model).encode(TEXTS), atol=1e-6)


def test_a_window_is_bounded_in_characters(monkeypatch):
    monkeypatch.setattr(encode, "WINDOW_CHARACTERS", 10)
    assert list(encode._windows(["aaaa", "b" * 30, "c", "d"])) == [["aaaa", "b" * 30], ["c", "d"]]


def test_parquet_holds_texts_and_vectors_in_row_groups(tmp_path, texts, model, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(encode, "WINDOW_ROWS", 40)
    out = tmp_path / "out.parquet"
    assert main(["encode", str(texts), "-o", str(out), "-m", model]) == 0
    file = parquet.ParquetFile(out)
    assert file.num_row_groups == 3
    table = file.read()
    file.close()
    assert table["text"].to_pylist() == TEXTS
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(vectors, fourfold.load(model).encode(TEXTS), atol=1e-6)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.parquet", "texts.txt"]


def test_field_normalize_and_batch_size(tmp_path, model):
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS[:5]))
    out = tmp_path / "out.npy"
    options = ["--field", "body", "--normalize", "--batch-size", "2", "-m", model]
    assert main(["encode", str(source), "-o", str(out), *options]) == 0
    expected = fourfold.load(model).encode(TEXTS[:5], normalize_embeddings=True)
    np.testing.assert_allclose(np.load(out), expected, atol=1e-6)


KILLED_AFTER_FIVE_WINDOWS = """
    import os, signal, sys
    import fourfold
    from fourfold.cli import _spool, encode
    from fourfold.cli.main import main

    encode.WINDOW_ROWS = 10
    _spool._SECONDS_BETWEEN_CHECKPOINTS = 0
    load, seen = fourfold.load, []

    class Doomed:
        def __init__(self, encoder):
            self.encoder, self.fingerprint = encoder, encoder.fingerprint

        def encode(self, texts, **settings):
            seen.append(len(texts))
            if len(seen) > 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return self.encoder.encode(texts, **settings)

    fourfold.load = lambda model: Doomed(load(model))
    main(sys.argv[1:])
"""


@pytest.fixture
def killed(tmp_path, texts, model):
    """Return the arguments of a run that was killed after 50 of 101 texts."""
    arguments = ["encode", str(texts), "-o", str(tmp_path / "out.npy"), "-m", model]
    code = textwrap.dedent(KILLED_AFTER_FIVE_WINDOWS)
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out.npy").exists()
    return arguments


def test_a_killed_run_goes_on(tmp_path, killed, model, monkeypatch, capsys):
    with (tmp_path / "out.npy.part").open("ab") as file:
        file.write(b"half a row")
    encoded = counting(monkeypatch)
    assert main(killed) == 0
    assert encoded == TEXTS[50:]
    assert "continuing after 50 texts" in capsys.readouterr().err
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), fourfold.load(model).encode(TEXTS), atol=1e-6)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.npy", "texts.txt"]


def test_another_task_starts_afresh(tmp_path, killed, texts, monkeypatch):
    texts.write_text("changed\n" + texts.read_text().partition("\n")[2])
    encoded = counting(monkeypatch)
    assert main(killed) == 0
    assert len(encoded) == len(np.load(tmp_path / "out.npy")) == 101


@pytest.mark.parametrize("damage", ["cut", "no json", "no part"])
def test_a_damaged_remainder_starts_afresh(tmp_path, killed, model, damage, monkeypatch):
    part, progress = tmp_path / "out.npy.part", tmp_path / "out.npy.progress"
    if damage == "cut":
        part.write_bytes(part.read_bytes()[:1000])
    elif damage == "no json":
        progress.write_text('{"rows": 50,')
    else:
        part.unlink()
    encoded = counting(monkeypatch)
    assert main(killed) == 0
    assert len(encoded) == 101
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), fourfold.load(model).encode(TEXTS))


def counting(monkeypatch, most=None):
    """Return a list that fills with the texts that are encoded; after so many the run is interrupted."""
    load, encoded = fourfold.load, []

    def counted(model):
        encoder = load(model)
        inner = encoder.encode

        def encode(texts, **settings):
            if most is not None and len(encoded) >= most:
                raise KeyboardInterrupt
            encoded.extend(texts)
            return inner(texts, **settings)

        encoder.encode = encode
        return encoder

    monkeypatch.setattr(fourfold, "load", counted, raising=False)
    return encoded


def test_two_runs_do_not_share_an_output(tmp_path, texts, model, capsys):
    pytest.importorskip("fcntl")
    with _spool.DenseSpool(tmp_path / "out.npy", "x"):
        assert main(["encode", str(texts), "-o", str(tmp_path / "out.npy"), "-m", model]) == 2
    assert "another run is writing" in capsys.readouterr().err


def test_what_stops_a_run_early_leaves_nothing_behind(tmp_path, model, capsys):
    empty, broken = tmp_path / "empty.txt", tmp_path / "broken.jsonl"
    empty.write_text("")
    broken.write_text("{")
    for file in (empty, broken):
        assert main(["encode", str(file), "-o", str(tmp_path / "out.npy"), "-m", model]) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["broken.jsonl", "empty.txt"]
    assert capsys.readouterr().err.startswith(f"fourfold: error: {empty} holds no texts\n")


def test_rows_before_a_broken_line_are_kept(tmp_path, model, monkeypatch):
    monkeypatch.setattr(encode, "WINDOW_ROWS", 2)
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "a"}\n' * 4 + "{")
    assert main(["encode", str(source), "-o", str(tmp_path / "out.npy"), "-m", model]) == 2
    assert json.loads((tmp_path / "out.npy.progress").read_text())["rows"] == 4


def test_only_some_kinds_of_output(tmp_path, texts, capsys):
    assert main(["encode", str(texts), "-o", str(tmp_path / "out.txt")]) == 2
    assert "--output must end in .npy, .parquet, .npz or .jsonl" in capsys.readouterr().err
    assert main(["encode", str(texts), "-o", str(tmp_path / "out.npz")]) == 2
    assert "the model is dense: --output must end in .npy or .parquet" in capsys.readouterr().err
    assert main(["encode", str(texts), "-o", str(tmp_path / "out.npy"), "--max-active-dims", "3"]) == 2
    assert "--max-active-dims is for sparse models; this one is dense" in capsys.readouterr().err


def test_as_puts_the_prompt_of_a_document_first(tmp_path, texts, model):
    folder = shutil.copytree(model, tmp_path / "prompted")
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    settings["prompts"] = {"query": "find ", "document": "world "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    arguments = ["encode", str(texts), "-o", str(tmp_path / "out.npy"), "-m", str(folder)]
    encoder = fourfold.load(folder)
    for options, method in (([], encoder.encode), (["--as", "document"], encoder.encode_document)):
        assert main([*arguments, *options]) == 0
        np.testing.assert_allclose(np.load(tmp_path / "out.npy"), method(TEXTS), atol=1e-6)


def test_a_missing_input_is_found_before_the_model_is_loaded(tmp_path, capsys):
    assert main(["encode", str(tmp_path / "no.txt"), "-o", str(tmp_path / "out.npy"), "-m", "./no-model"]) == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_the_header_is_the_one_numpy_reads(tmp_path):
    for shape in [(0, 3), (1, 1), (10**12, 4096)]:
        header = _spool.npy_header(*shape)
        assert len(header) == _spool.HEADER
        (tmp_path / "a.npy").write_bytes(header)
        with (tmp_path / "a.npy").open("rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            assert np.lib.format.read_array_header_1_0(file) == (shape, False, np.dtype("<f4"))


def test_a_spool_refuses_no_more_than_it_must(tmp_path):
    with _spool.DenseSpool(tmp_path / "a.npy", "x") as spool:
        spool.append(np.ones((2, 3)))
        spool.finish()
    np.testing.assert_array_equal(np.load(spool.part), np.ones((2, 3), np.float32))
    with pytest.raises(InputError), _spool.DenseSpool(tmp_path / "b.npy", "x"):
        raise InputError("early")
    assert not (tmp_path / "b.npy.part").exists()


@pytest.fixture(scope="module", params=["static", "bert"])
def sparse_model(request):
    return str(tiny_folder("sparse", request.param))


def test_a_sparse_model_writes_a_matrix(tmp_path, texts, sparse_model, capsys):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    out = tmp_path / "out.npz"
    arguments = ["encode", str(texts), "-o", str(out), "-m", sparse_model]
    encoder = fourfold.load(sparse_model)
    for options, rows in (
        ([], encoder.encode(TEXTS)),
        (["--normalize"], normalized(encoder.encode(TEXTS))),
        (["--max-active-dims", "3"], encoder.encode(TEXTS, max_active_dims=3)),
        (["--as", "query"], encoder.encode_query(TEXTS)),
    ):
        assert main([*arguments, *options]) == 0
        np.testing.assert_allclose(scipy_sparse.load_npz(out).toarray(), rows.dense(), atol=1e-5)
    assert f"101 texts x {rows.width} -> {out} in " in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.npz", "texts.txt"]


def test_a_sparse_model_writes_weights_by_token(tmp_path, texts, sparse_model, monkeypatch):
    monkeypatch.setattr(encode, "WINDOW_ROWS", 7)
    out = tmp_path / "out.jsonl"
    assert main(["encode", str(texts), "-o", str(out), "-m", sparse_model]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    encoder = fourfold.load(sparse_model)
    assert [line["text"] for line in lines] == TEXTS
    for line, expected in zip(lines, encoder.decode(encoder.encode(TEXTS)), strict=True):
        assert line["terms"] == pytest.approx(dict(expected), abs=1e-5)


def test_a_stopped_sparse_run_goes_on(tmp_path, texts, sparse_model, monkeypatch, capsys):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(encode, "WINDOW_ROWS", 10)
    out = tmp_path / "out.npz"
    arguments = ["encode", str(texts), "-o", str(out), "-m", sparse_model]
    with monkeypatch.context() as stopped:
        encoded = counting(stopped, most=50)
        assert main(arguments) == 130
    assert not out.exists()
    encoded = counting(monkeypatch)
    assert main(arguments) == 0
    assert encoded == TEXTS[50:]
    assert "continuing after 50 texts" in capsys.readouterr().err
    expected = fourfold.load(sparse_model).encode(TEXTS)
    np.testing.assert_allclose(scipy_sparse.load_npz(out).toarray(), expected.dense(), atol=1e-5)


def test_a_sparse_model_writes_no_vectors(tmp_path, texts, sparse_model, capsys):
    assert main(["encode", str(texts), "-o", str(tmp_path / "out.npy"), "-m", sparse_model]) == 2
    assert "the model is sparse: --output must end in .npz or .jsonl" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["texts.txt"]
