"""The lazy namespaces: every row of the table leads somewhere, below fourfold, and nothing is loaded for it early."""

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fourfold
from fourfold.compat import paths
from fourfold.errors import MissingNameError
from fourfold.modules import registry

ROOT = Path(__file__).parents[2]
HERE = [path for path in paths.contract() if path and paths.exists(path)]
OLD = [old for old, new in paths.renamed().items() if paths.exists(new)]


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_whole():
    assert len(paths.contract()) == 212
    assert len(paths.renamed()) == 133
    assert set(paths.renamed().values()) <= set(paths.contract())
    assert not set(paths.renamed()) & set(paths.contract())


def test_no_home_is_for_a_name_that_the_contract_lacks():
    known = {name for row in paths.contract().values() for name in (*row.defined, *row.besides)}
    known |= {"_convert_to_float_tensor", "_move_tensors_to_device", "_tensor_to_numpy"}
    assert set(paths._homes()) <= known


@pytest.mark.parametrize("path", HERE)
def test_every_name_of_every_path_is_there(path):
    module = importlib.import_module(f"fourfold.{path}")
    assert module.__name__ == f"fourfold.{path}"
    for name, home in paths.names(path).items():
        place, _, ours = home.partition(":")
        assert getattr(module, name) is getattr(importlib.import_module(place), ours)
    assert set(module.__all__) == set(paths.contract()[path].defined) - set(paths.missing(path))
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("old", OLD)
def test_every_deprecated_path_is_the_canonical_module(old):
    module = importlib.import_module(f"fourfold.{old}")
    if getattr(module, "__file__", None):  # a folder of ours, which has the names of the path
        for name, home in paths.names(paths.renamed()[old]).items():
            place, _, ours = home.partition(":")
            if name in paths.contract()[paths.renamed()[old]].defined:
                assert getattr(module, name) is getattr(importlib.import_module(place), ours)
        return
    assert module is sys.modules[f"fourfold.{old}"] is sys.modules[f"fourfold.{paths.renamed()[old]}"]


def test_a_class_is_not_hidden_by_the_submodule_of_its_name():
    import fourfold.losses.TripletLoss

    from fourfold.losses import TripletLoss

    assert fourfold.losses.TripletLoss is TripletLoss
    import fourfold.models.Pooling
    import fourfold.SentenceTransformer

    assert fourfold.models.Pooling.__module__ == "fourfold.modules.pooling"
    assert fourfold.SentenceTransformer.__module__ == "fourfold.families.dense"
    from fourfold.SentenceTransformer import SentenceTransformer

    assert SentenceTransformer is fourfold.SentenceTransformer


def test_every_model_part_is_in_the_namespaces():
    part_names = {registry.get(stem).__name__ for stem in registry.names()}
    contract = {name for row in paths.contract().values() for name in row.defined}
    assert part_names & contract <= {name for path in HERE for name in paths.names(path)}
    assert {"Pooling", "Transformer", "StaticEmbedding"} <= part_names


def test_the_top_has_the_names_of_the_contract_and_says_what_it_lacks():
    assert set(fourfold._CONTRACT) <= set(paths.contract()[""].defined)
    with pytest.raises(MissingNameError, match=r"fourfold.MultiVectorEncoder is part of .* not of fourfold"):
        from fourfold import MultiVectorEncoder  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match="is part of"):
        importlib.import_module("fourfold.cross_encoder.evaluation")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'fourfold\.nothing'") as caught:
        importlib.import_module("fourfold.nothing")
    assert caught.value.name == "fourfold.nothing"
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from fourfold.util import nothing  # noqa: F401
    assert not hasattr(fourfold, "MultiVectorEncoder")
    assert not hasattr(fourfold.util, "__file__")


def test_folders_of_ours_come_first():
    import fourfold.modules
    import fourfold.search

    assert fourfold.modules.__file__
    assert fourfold.search.__file__


def test_importing_a_namespace_loads_nothing():
    code = "import sys, fourfold.util, fourfold.models; from fourfold import util; "
    code += (
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'transformers', 'tqdm'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_importing_the_package_touches_no_table():
    code = "import sys, fourfold; print([name for name in sys.modules if name.startswith('fourfold')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['fourfold']\n"


def test_a_namespace_without_torch_says_what_it_needs():
    code = "import sys; sys.modules['torch'] = None\nfrom fourfold.models import Pooling\nPooling(3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'Pooling needs the package torch. Install it with: pip install "fourfold[torch]"' in done.stderr


def test_generated_files_are_fresh():
    for path, text in generator().files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: run make fix"
    stubs = {path.stem for path in (ROOT / "src" / "fourfold").glob("*.pyi")}
    assert {"util", "models", "quantization"} <= stubs


def test_stubs_name_what_is_there():
    for path in (ROOT / "src" / "fourfold").glob("*.pyi"):
        announced = re.findall(r'^    "(\w+)",$', path.read_text(encoding="utf-8"), re.MULTILINE)
        module = importlib.import_module(f"fourfold.{path.stem}")
        assert announced
        assert all(hasattr(module, name) for name in announced)
