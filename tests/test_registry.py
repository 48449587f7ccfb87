import subprocess
import sys

import pytest

from fourfold.errors import InputError
from fourfold.modules import registry
from fourfold.registry import Registry


@pytest.mark.parametrize("name", ["static_embedding", "StaticEmbedding", "staticembedding", "STATIC_EMBEDDING"])
def test_a_part_is_found_by_stem_or_class(name):
    assert registry.stem(name) == "static_embedding"
    assert name in registry
    assert registry.get(name).__name__ == "StaticEmbedding"


def test_names_are_the_files_without_helpers():
    assert registry.names() == sorted(registry.names())
    assert {"pooling", "transformer", "normalize"} <= set(registry.names())
    assert not any(name.startswith("_") for name in registry.names())


@pytest.mark.parametrize("name", ["poolin", "_base", "", "os"])
def test_an_unknown_name_lists_the_known(name):
    assert name not in registry
    with pytest.raises(InputError, match=r"unknown module .*known: .*pooling") as caught:
        registry.get(name)
    assert ("Did you mean 'pooling'" in str(caught.value)) is (name == "poolin")


def test_a_file_that_lacks_its_class_is_a_bug(tmp_path, monkeypatch):
    package = tmp_path / "parts_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "some_part.py").write_text("from decimal import Decimal as SomePart\nclass Other: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="defines no class named after its file"):
        Registry("parts_of_a_test", "part").get("some_part")


def test_asking_for_names_imports_no_part():
    code = "import sys, fourfold.modules as m; m.registry.names(); print('fourfold.modules.pooling' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_classes_are_served_under_their_exact_names_only():
    import fourfold.modules as modules

    assert modules.Pooling is registry.get("pooling")
    for name in ("Poolings", "POOLING_", "nothing", "_base_"):
        with pytest.raises(AttributeError, match=name):
            getattr(modules, name)
