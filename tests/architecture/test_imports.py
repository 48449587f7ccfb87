"""What starts fast stays fast: no heavy import before it is needed, and a core that stands without torch."""

import subprocess
import sys

import pytest

from fourfold.testing import tiny_folder

HEAVY = ("torch", "transformers", "sentence_transformers", "pandas", "scipy", "sklearn", "pyarrow")

SHOW = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"

# Python runs a module of this name at start-up: the interpreter then behaves as if the packages were not installed.
WITHOUT_TORCH = f"""
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {HEAVY!r} else find(name, path, target)

PathFinder.find_spec = find_spec
"""

COMMANDS = [["info"], ["similarity", "a", "b", "-m"], ["encode", "t.txt", "-o", "t.npy", "-m"]]


def loaded_by(code):
    done = subprocess.run([sys.executable, "-c", f"{code}\n{SHOW}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import fourfold",
        "import fourfold; dir(fourfold); fourfold.__version__",
        "from fourfold import load",
        "import fourfold.testing",
        "import fourfold.search",
        "from fourfold.cli.main import main; main(['--help'])",
    ],
)
def test_nothing_heavy_is_imported_early(code):
    assert loaded_by(code).isdisjoint(HEAVY)


def test_the_package_and_its_help_do_not_even_need_numpy():
    assert "numpy" not in loaded_by("import fourfold")
    assert loaded_by("from fourfold.cli.main import main; main(['--help'])").isdisjoint(
        {"numpy", "tokenizers", "rich", "tqdm", "huggingface_hub", "typer"}
    )


def test_the_compiler_is_for_those_who_compile():
    """It takes as long to import as torch itself. (transformers imports it with its first model.)"""
    code = f"""
import sys
from fourfold import SentenceTransformer
SentenceTransformer({str(tiny_folder("dense", "static"))!r}, device="cpu").encode("a text")
assert "torch" in sys.modules and "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def without_torch(tmp_path, monkeypatch):
    """Return a function that runs Python where torch and its like cannot be imported."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(*arguments):
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path)

    return run


def test_the_blocker_blocks(without_torch):
    assert "No module named 'torch'" in without_torch("-c", "import torch").stderr


def test_a_static_model_encodes_without_torch(without_torch, tmp_path):
    model = str(tiny_folder("dense", "static"))
    code = f"""
import fourfold
encoder = fourfold.load({model!r})
vectors = encoder.encode(["hello world", "a model"])
print(vectors.shape, encoder.similarity(vectors, vectors).shape)
"""
    done = without_torch("-c", code)
    assert (done.stdout, done.stderr) == ("(2, 32) (2, 2)\n", "")


@pytest.mark.parametrize("arguments", COMMANDS)
def test_commands_run_without_torch(arguments, without_torch, tmp_path):
    (tmp_path / "t.txt").write_text("hello\nworld\n")
    done = without_torch("-m", "fourfold.cli.main", *arguments, str(tiny_folder("dense", "static")))
    assert done.returncode == 0, done.stderr


def test_a_model_that_needs_torch_says_how_to_get_it(without_torch):
    done = without_torch("-m", "fourfold.cli.main", "similarity", "a", "b", "-m", str(tiny_folder("dense", "bert")))
    assert done.returncode == 2
    assert done.stderr.startswith("fourfold: error: ")
    assert 'pip install "fourfold[torch]"' in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_class_that_needs_torch_says_so_too(without_torch):
    done = without_torch("-c", "import fourfold; fourfold.SentenceTransformer('x')")
    assert 'pip install "fourfold[torch]"' in done.stderr
