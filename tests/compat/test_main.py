"""``python -m fourfold.compat``: an unchanged script runs as if Python had been given it."""

import os
import subprocess
import sys

import pytest

from fourfold.testing import tiny_folder

SCRIPT = """
import sys
import neighbour
from sentence_transformers import SentenceTransformer, util
from sentence_transformers.models import Pooling

model = SentenceTransformer(sys.argv[1], device="cpu")
vectors = model.encode(["a short text", "a text", "long words"], convert_to_tensor=True)
hits = util.semantic_search(vectors[:1], vectors, top_k=2)
print(__name__, __file__ == sys.argv[0], sys.argv[2:], neighbour.__name__, [hit["corpus_id"] for hit in hits[0]][0])
print(isinstance(model[1], Pooling), "sentence_transformers" in str(type(model)))
"""

SPARSE = """
import sys
from sentence_transformers import SparseEncoder
from sentence_transformers.models import Router
from sentence_transformers.sparse_encoder.models import MLMTransformer, SparseStaticEmbedding, SpladePooling

model = SparseEncoder(sys.argv[1], device="cpu")
vectors = model.encode(["a short text", "the world"])
print(vectors.layout, [type(module) for module in model][1] is SpladePooling)
print(model.similarity(vectors, vectors).shape, len(model.decode(vectors[0], top_k=3)))
documents = [MLMTransformer(sys.argv[1]), SpladePooling("max")]
looked_up = [SparseStaticEmbedding(tokenizer=documents[0].tokenizer, frozen=False)]
router = Router.for_query_document(query_modules=looked_up, document_modules=documents)
model = SparseEncoder(modules=[router], device="cpu", similarity_fn_name="dot")
print(model.decode(model.encode_query("the world")), model.encode_document("the world").ndim)
"""

MANY = """
import multiprocessing, subprocess, sys
from sentence_transformers import SentenceTransformer, __version__

def told(_):
    import sentence_transformers
    return f"{sentence_transformers.__version__} {sentence_transformers.__provider__}"

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(told, [0]))
    code = "import sentence_transformers as s; print(s.__provider__, s.util.cos_sim.__module__)"
    print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
"""


def compat(*arguments, cwd=None, **environment):
    command = [sys.executable, "-m", "fourfold.compat", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment})


def test_an_unchanged_script_runs(tmp_path):
    (tmp_path / "neighbour.py").touch()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = compat(script, tiny_folder("dense", "bert"), "-m", "--flag", cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "__main__ True ['-m', '--flag'] neighbour 0\nTrue True\n"


def test_an_unchanged_sparse_script_runs(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SPARSE)
    done = compat(script, tiny_folder("sparse", "bert"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "torch.sparse_coo True",
        "torch.Size([2, 2]) 3",
        "[('the', 1.0), ('world', 1.0)] 1",
    ]


@pytest.mark.parametrize(
    ("body", "code", "output"),
    [
        ("import sys; sys.exit(7)", 7, ""),
        ("raise SystemExit('a word')", 1, "a word"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import sentence_transformers.nothing", 1, "No module named 'sentence_transformers.nothing'"),
        ("print('done')", 0, ""),
    ],
)
def test_exit_codes_are_the_scripts_own(tmp_path, body, code, output):
    script = tmp_path / "script.py"
    script.write_text(body)
    done = compat(script)
    assert done.returncode == code
    assert output in done.stderr


def test_a_module_and_a_folder_run_too(tmp_path):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys, sentence_transformers as s; print(s.__version__, sys.argv[1:])")
    assert compat("-m", "mine", "x", cwd=tmp_path).stdout == "6.2.0 ['x']\n"
    assert compat("mine", "x", cwd=tmp_path).stdout == "6.2.0 ['x']\n"


def test_processes_that_a_script_starts_know_the_name(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(MANY)
    done = compat(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['6.2.0 fourfold']\nfourfold fourfold.ops.similarity\n"


def test_the_printed_folder_works_from_pythonpath():
    done = compat("--path")
    code = "import sentence_transformers as s; from sentence_transformers.util import cos_sim; print(s.__provider__)"
    environment = {**os.environ, "PYTHONPATH": done.stdout.strip()}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert told.stdout == "fourfold\n", told.stderr


def test_usage_and_mistakes():
    assert compat().returncode == 2
    shown = compat("--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: python -m fourfold.compat")
    assert "no such file" in compat("missing.py").stderr
    assert "unknown option --foo" in compat("--foo").stderr
    assert "-m needs a module" in compat("-m").stderr
