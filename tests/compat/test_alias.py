"""The older library's name on request. Each test has a Python of its own: the suite's has the real package imported."""

import subprocess
import sys
import textwrap

import pytest

from fourfold.testing import tiny_folder


@pytest.fixture(scope="module")
def folder():
    return str(tiny_folder("dense", "bert"))


def run(code, *arguments, check=True):
    """Run a script and return what it printed; a failed assertion in it fails the test."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 or not check, done.stderr
    return done


def test_every_path_resolves_and_deprecated_ones_warn_once_where_they_are_imported():
    run(
        """
        import importlib, sys, warnings
        from fourfold.compat import install_alias, paths
        install_alias()
        install_alias()
        import sentence_transformers
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for path in paths.contract():
                if path and paths.exists(path):
                    ours = importlib.import_module(f"fourfold.{path}")
                    old = importlib.import_module(f"sentence_transformers.{path}")
                    assert old.__name__ == f"sentence_transformers.{path}"
                    assert old.__all__ == ours.__all__
                    for name in paths.names(path):
                        assert getattr(old, name) is getattr(ours, name)
        warnings.simplefilter("always")
        deprecated = [old for old, new in paths.renamed().items() if paths.exists(new)]
        assert len(deprecated) > 30
        for old in deprecated:
            with warnings.catch_warnings(record=True) as caught:
                exec(compile(f"import sentence_transformers.{old}", f"file of {old}", "exec"))
                exec(f"import sentence_transformers.{old}")
            mine = [w for w in caught if str(w.message).startswith(f"sentence_transformers.{old} is deprecated")]
            assert len(mine) <= 1  # none, if it is a parent of one before
            assert all(w.category is DeprecationWarning for w in caught)
            assert {w.filename for w in mine} <= {f"file of {old}"}, [str(w) for w in mine]
            new = sys.modules[f"sentence_transformers.{paths.renamed()[old]}"]
            assert sys.modules[f"sentence_transformers.{old}"] is new
        """
    )


def test_names_versions_and_what_is_missing():
    run(
        """
        import importlib.metadata, importlib.util, pickle
        from fourfold.compat import install_alias
        install_alias()
        import fourfold, sentence_transformers
        from sentence_transformers import *
        assert SentenceTransformer is fourfold.SentenceTransformer
        assert sentence_transformers.__version__ == importlib.metadata.version("sentence-transformers") == "6.2.0"
        assert importlib.metadata.version("sentence_transformers") == "6.2.0"
        assert "sentence_transformers" in importlib.metadata.packages_distributions()
        assert importlib.metadata.version("numpy")
        assert sentence_transformers.__MODEL_HUB_ORGANIZATION__ == "sentence-transformers"
        assert importlib.util.find_spec("sentence_transformers").name == "sentence_transformers"
        assert importlib.util.find_spec("sentence_transformers.util") is not None
        assert importlib.util.find_spec("sentence_transformers.nothing") is None
        # Canonical packages are attributes without an import of their own, deprecated ones are not.
        assert sentence_transformers.util.cos_sim is fourfold.util.cos_sim
        assert sentence_transformers.sentence_transformer.modules.Pooling is fourfold.modules.Pooling
        assert sentence_transformers.backend.load_onnx_model is fourfold.backend.load_onnx_model
        assert not hasattr(sentence_transformers, "models")
        from sentence_transformers import models
        assert sentence_transformers.models is models
        for line in (
            "from sentence_transformers import MultiVectorEncoderTrainer",
            "import sentence_transformers.multi_vector_encoder",
            "from sentence_transformers.sparse_encoder.evaluation import SparseNanoBEIREvaluator",
            "from sentence_transformers.multi_vector_encoder.trainer import MultiVectorEncoderTrainer",
        ):
            try:
                exec(line)
            except ImportError as error:
                assert "is part of sentence-transformers 6.2.0 and not of fourfold" in str(error), (line, error)
            else:
                raise AssertionError(line)
        try:
            import sentence_transformers.nothing
        except ModuleNotFoundError as error:
            assert error.name == "sentence_transformers.nothing"
        """
    )


def test_models_are_seen_subclassed_pickled_and_saved_as_clients_expect(folder, tmp_path):
    run(
        """
        import json, pickle, sys
        from pathlib import Path
        folder, target = sys.argv[1:]
        import fourfold
        before = fourfold.SentenceTransformer(folder, device="cpu")
        assert "sentence_transformers" not in str(type(before))
        from fourfold.compat import install_alias, uninstall_alias
        install_alias()
        import sentence_transformers
        from sentence_transformers import SentenceTransformer, models
        from sentence_transformers.models import Dense
        after = SentenceTransformer(folder, device="cpu")
        for model in (before, after):
            assert isinstance(model, sentence_transformers.SentenceTransformer)
            assert isinstance(model, fourfold.SentenceTransformer)
            assert "sentence_transformers" in str(type(model)), type(model)

        class Twice(SentenceTransformer):
            def encode(self, *args, **kwargs):
                return 2 * super().encode(*args, **kwargs)

        class MyDense(Dense):
            def __init__(self, width):
                super(models.Dense, self).__init__()

        assert isinstance(Twice(folder, device="cpu"), SentenceTransformer)
        assert str(Twice) == "<class '__main__.Twice'>"
        assert isinstance(MyDense(3), fourfold.modules.Dense)
        Path(target, "model.pickle").write_bytes(pickle.dumps(after))
        again = pickle.loads(pickle.dumps(after))
        assert (again.encode("a text") == after.encode("a text")).all()
        after.save(f"{target}/model")
        types = [entry["type"] for entry in json.loads(Path(target, "model/modules.json").read_text())]
        assert types[0] == "sentence_transformers.base.modules.transformer.Transformer"
        assert types[1] == "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
        uninstall_alias()
        assert "sentence_transformers" not in str(type(after))
        assert not [name for name in sys.modules if name.startswith("sentence_transformers")]
        """,
        folder,
        str(tmp_path),
    )
    # A pickle made under the old name opens in a Python that knows only fourfold.
    code = "import pickle, sys; m = pickle.load(open(sys.argv[1], 'rb')); print(m.encode('a text').shape)"
    assert run(code, str(tmp_path / "model.pickle")).stdout == "(32,)\n"


def test_the_real_package_is_not_mixed_in():
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    done = run(
        """
        import sys, types
        real = types.ModuleType("sentence_transformers")
        real.__file__ = "/somewhere/sentence_transformers/__init__.py"
        sys.modules["sentence_transformers"] = real
        from fourfold.compat import install_alias
        install_alias()
        """,
        check=False,
    )
    assert done.returncode == 1
    assert "AliasError: sentence_transformers is imported already, from /somewhere/" in done.stderr
    assert "install_alias() before anything imports it" in done.stderr


def test_uninstalling_gives_the_name_back():
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    run(
        """
        from fourfold.compat import install_alias, uninstall_alias
        uninstall_alias()
        install_alias()
        import sentence_transformers.util
        uninstall_alias()
        import importlib.util
        spec = importlib.util.find_spec("sentence_transformers")
        assert spec.origin.endswith("sentence_transformers/__init__.py"), spec
        """
    )
