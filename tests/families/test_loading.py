"""How the classes that a folder names are found and called: ours, a folder's own, a caller's, of every interface."""

import json
import logging
import sys
import textwrap
import types
from typing import Any

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, wordpiece

from fourfold import SentenceTransformer
from fourfold.errors import FolderError, FourfoldError, UnknownModuleError
from fourfold.modules import Dense, Pooling, Router, StaticEmbedding, Transformer
from fourfold.testing import WIDTH, checkpoint

SEEN: list[Any] = []
"""What the folder's own code was called with: the code finds this list through the module ``seen``."""


@pytest.fixture(autouse=True)
def _seen(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "seen", types.SimpleNamespace(calls=SEEN))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    SEEN.clear()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("bert") / "bert"))


CODE = """
import json, os
import seen
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

class Part(nn.Module):
    def __init__(self, %s):
        super().__init__()
        given = dict(locals())
        self.given = {key: value for key, value in given.items() if key not in ("self", "__class__")}
        seen.calls.append(("init", self.given))
        self.weight = nn.Parameter(torch.ones(1))

    @staticmethod
    def load(input_path):
        seen.calls.append(("load", input_path))
        return Part.__new__(Part)
"""


def folder_with(bert, tmp_path, code, *, inside="", settings=None, kind="own_part.Part"):
    folder = tmp_path / "model"
    checkpoint("bert", folder / inside)
    (folder / "own_part.py").write_text(code)
    if settings is not None:
        (folder / inside / "sentence_bert_config.json").write_text(json.dumps(settings))
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": inside, "type": kind}]))
    return folder


def load(folder, **options):
    return SentenceTransformer(str(folder), device="cpu", trust_remote_code=True, **options)


def built(folder, **options):
    """Return the arguments that the folder's class was built with."""
    load(folder, **options)
    ((how, given),) = SEEN
    assert how == "init"
    return given


def hub(inside="", **more):
    return {"subfolder": inside, "token": None, "cache_dir": None, "revision": None, "local_files_only": False,
            "trust_remote_code": True, **more}  # fmt: skip


OLD = "model_name_or_path, max_seq_length=None, model_args=None, tokenizer_args=None, config_args=None, cache_dir=None, do_lower_case=False"  # noqa: E501
SETTINGS = {"max_seq_length": 20, "do_lower_case": True}


# -- load(path) --------------------------------------------------------------------------------------------------------


def test_load_with_one_parameter_gets_the_local_folder(bert, tmp_path):
    code = CODE.replace("return Part.__new__(Part)", "return Part()") % "x=1"
    folder = folder_with(bert, tmp_path, code, inside="0_Part")
    load(folder)
    assert SEEN[0] == ("load", str(folder / "0_Part"))


@pytest.mark.parametrize("tail", ["", ", **kwargs"])
def test_a_class_with_the_old_arguments_is_built_like_a_transformer(bert, tmp_path, tail):
    folder = folder_with(bert, tmp_path, CODE % (OLD + tail), inside="0_Part", settings=SETTINGS)
    options = {"model_kwargs": {"dtype": "float32"}, "processor_kwargs": {"x": 2}}
    given = built(folder, **options)
    assert given["model_name_or_path"] == str(folder)
    assert given["model_args"] == hub("0_Part", dtype="float32")
    assert given["tokenizer_args"] == hub("0_Part", x=2)
    assert given["config_args"] == hub("0_Part")
    assert (given["max_seq_length"], given["do_lower_case"]) == (20, True)
    assert given.get("kwargs", {"backend": "torch"}) == {"backend": "torch"}


def test_todays_names_are_used_where_the_class_has_them(bert, tmp_path):
    arguments = "model_name_or_path, model_kwargs=None, config_kwargs=None, **kwargs"
    given = built(folder_with(bert, tmp_path, CODE % arguments, settings=SETTINGS))
    assert (given["model_kwargs"], given["config_kwargs"]) == (hub(), hub())
    assert given["kwargs"] == {**SETTINGS, "processor_kwargs": hub(), "backend": "torch"}


def test_model_kwargs_alone_are_not_enough(bert, tmp_path):
    code = CODE.replace("return Part.__new__(Part)", "return Part('x')") % "model_name_or_path, model_kwargs=None"
    folder = folder_with(bert, tmp_path, code)
    load(folder)
    assert [how for how, _ in SEEN] == ["load", "init"]


def test_settings_of_modalities_are_left_out_where_the_class_does_not_name_them(bert, tmp_path):
    settings = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
    }
    folder = folder_with(bert, tmp_path, CODE % (OLD + ", **kwargs"), settings=settings)
    assert built(folder)["kwargs"] == {"transformer_task": "feature-extraction", "backend": "torch"}


def test_settings_that_the_class_does_not_take_are_told(bert, tmp_path):
    folder = folder_with(bert, tmp_path, CODE % OLD, settings={"other": 1})
    with pytest.raises(FolderError, match=r"sentence_bert_config\.json.*Part.*'other'") as caught:
        load(folder)
    assert isinstance(caught.value, TypeError)


def test_a_folder_cannot_grant_trust(bert, tmp_path):
    folder = folder_with(bert, tmp_path, CODE % OLD, settings={"model_args": {"z": 1, "trust_remote_code": False}})
    assert built(folder)["model_args"] == hub(z=1)


# -- load(model_name_or_path, subfolder, ...) --------------------------------------------------------------------------

NEW = """
import seen
import torch
from torch import nn

class Part(nn.Module):
    @classmethod
    def load(cls, %s):
        given = dict(locals())
        given.pop("cls"), given.pop("__class__", None)
        seen.calls.append(given)
        return cls()
"""


def test_the_newer_interface_gets_everything(bert, tmp_path):
    folder = folder_with(bert, tmp_path, NEW % "model_name_or_path, **kwargs", inside="0_Part")
    load(folder, model_kwargs={"a": 1}, revision="main")
    assert SEEN[0]["model_name_or_path"] == str(folder)
    assert SEEN[0]["kwargs"] == {
        "subfolder": "0_Part", "token": None, "cache_folder": None, "revision": "main", "local_files_only": False,
        "trust_remote_code": True, "model_kwargs": {"a": 1}, "processor_kwargs": {}, "config_kwargs": {},
        "backend": "torch",
    }  # fmt: skip


def test_classes_are_handed_on_only_where_they_are_declared(bert, tmp_path):
    class Known(SentenceTransformer):
        _module_classes = {"some.Type": Dense}  # noqa: RUF012

    folder = folder_with(bert, tmp_path, NEW % "model_name_or_path, subfolder='', module_classes=None, **kwargs")
    Known(str(folder), device="cpu", trust_remote_code=True)
    assert SEEN[0]["module_classes"] == {"some.Type": Dense}


def test_a_load_that_takes_less_gets_less(bert, tmp_path):
    folder = folder_with(bert, tmp_path, NEW % "model_name_or_path, subfolder=''", inside="0_Part")
    load(folder)
    (given,) = SEEN
    assert given == {"model_name_or_path": str(folder), "subfolder": "0_Part"}


def test_a_load_that_refuses_keywords_gets_the_local_folder(bert, tmp_path):
    code = (NEW % "path, **kwargs").replace(
        "seen.calls.append(given)", "seen.calls.append(given)\n        if kwargs: raise TypeError('only a path')"
    )
    folder = folder_with(bert, tmp_path, code, inside="0_Part")
    load(folder)
    assert SEEN[-1] == {"path": str(folder / "0_Part"), "kwargs": {}}


def test_its_own_type_error_is_not_hidden(bert, tmp_path):
    code = (NEW % "path, **kwargs").replace("return cls()", "raise TypeError('its own mistake')")
    with pytest.raises(TypeError, match="its own mistake"):
        load(folder_with(bert, tmp_path, code))


def test_a_class_without_load_is_told(bert, tmp_path):
    code = "from torch import nn\nclass Part(nn.Module):\n    pass\n"
    with pytest.raises(FolderError, match=r"Part has no method load"):
        load(folder_with(bert, tmp_path, code))


# -- where code may come from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", [False, 0, "", None])
def test_code_needs_trust(bert, tmp_path, trusted):
    folder = folder_with(bert, tmp_path, "raise SystemExit('ran')")
    with pytest.raises(FolderError, match=r"modules\.json: module type 'own_part\.Part'.*trust_remote_code=True"):
        SentenceTransformer(str(folder), device="cpu", trust_remote_code=trusted)


@pytest.mark.parametrize("kind", ["torch.nn.modules.linear.Identity", "nowhere.at.All", "X", "own_part.Missing", ".X"])
def test_trusted_code_that_is_no_part_is_told(bert, tmp_path, kind):
    folder = folder_with(bert, tmp_path, NEW % "path", kind=kind)
    with pytest.raises(FolderError, match=r"modules\.json|no method load|defines no Missing"):
        load(folder)


def test_an_installed_package_is_imported_by_name(bert, tmp_path, monkeypatch):
    (tmp_path / "packages" / "their_package").mkdir(parents=True)
    (tmp_path / "packages" / "their_package" / "__init__.py").write_text("")
    (tmp_path / "packages" / "their_package" / "parts.py").write_text(NEW % "model_name_or_path, subfolder=''")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    folder = folder_with(bert, tmp_path, "", kind="their_package.parts.Part")
    with pytest.raises(FolderError, match="trust_remote_code"):
        SentenceTransformer(str(folder), device="cpu")
    assert type(load(folder)[0]).__module__ == "their_package.parts"


@pytest.fixture
def asked(monkeypatch):
    """What transformers' loader of code is asked for, and a class for an answer."""
    from transformers import dynamic_module_utils

    calls = []

    class Part(torch.nn.Module):
        @classmethod
        def load(cls, model_name_or_path, **kwargs):
            calls.append(kwargs)
            return cls()

    def get(reference, place, **kwargs):
        calls.append((reference, place, kwargs))
        return Part

    monkeypatch.setattr(dynamic_module_utils, "get_class_from_dynamic_module", get)
    return calls


def test_code_of_another_repository_and_revision(bert, tmp_path, asked):
    folder = folder_with(bert, tmp_path, "", kind="owner/repo--file.Class")
    load(folder, model_kwargs={"code_revision": "v1", "a": 1}, revision="v2", token="t", cache_folder="c")
    (reference, place, kwargs), loaded = asked
    assert (reference, place) == ("owner/repo--file.Class", str(folder))
    wanted = {"code_revision": "v1", "revision": "v2", "token": "t", "cache_dir": "c", "local_files_only": False}
    assert kwargs == wanted
    assert loaded["model_kwargs"] == {"a": 1}  # the code's revision was for the code


def test_the_codes_revision_stays_for_transformers_where_all_modules_are_ours(bert, tmp_path):
    SentenceTransformer(modules=[Transformer(bert), Pooling(WIDTH)], device="cpu").save(tmp_path / "model")
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu", model_kwargs={"code_revision": "v1"})
    assert model.encode("a").shape == (WIDTH,)


def test_a_callers_class_needs_no_trust(bert, tmp_path):
    folder = folder_with(bert, tmp_path, "raise SystemExit('ran')")

    class Mine(Transformer):
        pass

    class Known(SentenceTransformer):
        _module_classes = {"own_part.Part": Mine}  # noqa: RUF012

    assert type(Known(str(folder), device="cpu")[0]) is Mine


def test_no_weights_are_read_before_every_class_is_known(bert, tmp_path, monkeypatch):
    SentenceTransformer(modules=[Transformer(bert), Pooling(WIDTH)], device="cpu").save(tmp_path / "model")
    file = tmp_path / "model" / "modules.json"
    entries = json.loads(file.read_text())
    entries[1]["type"] = "sentence_transformers.models.Poling"
    file.write_text(json.dumps(entries))
    monkeypatch.setattr(Transformer, "load", lambda *args, **kwargs: pytest.fail("a module was loaded"))
    with pytest.raises(UnknownModuleError, match=r"Did you mean 'Pooling'\?"):
        SentenceTransformer(str(tmp_path / "model"), device="cpu")


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("multi_vector_encoder.modules.MultiVectorMask", "multi_vector"),
    ],
)
def test_parts_of_families_to_come_say_so(bert, tmp_path, kind, family):
    folder = folder_with(bert, tmp_path, "", kind=f"sentence_transformers.{kind}")
    with pytest.raises(UnknownModuleError, match=rf"modules\.json: {kind.rpartition('.')[2]}.*{family}.*not supported"):
        load(folder)


# -- saving code -------------------------------------------------------------------------------------------------------

HELPER = "FACTOR = 3.0\n"
TIMES = textwrap.dedent(
    """
    import json, os
    import torch
    from .helper import FACTOR

    class Times(torch.nn.Module):
        def forward(self, features, factor=None):
            features["sentence_embedding"] = features["sentence_embedding"] * FACTOR
            return features

        def get_sentence_embedding_dimension(self):
            return 7

        def save(self, path):
            open(os.path.join(path, "times.json"), "w").close()

        @classmethod
        def load(cls, path):
            return cls()
    """
)


def write_times(folder, path):
    (folder / "times.py").write_text(TIMES)
    (folder / "helper.py").write_text(HELPER)
    return {"idx": 0, "name": path[:1], "path": path, "type": "times.Times"}


def static():
    torch.manual_seed(0)
    return StaticEmbedding(wordpiece(), torch.randn(wordpiece().get_vocab_size(), WIDTH))


@pytest.fixture
def times(tmp_path):
    folder = tmp_path / "times"
    SentenceTransformer(modules=[static()], device="cpu").save(folder)
    entries = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*entries, write_times(folder, "1_Times")]))
    return folder


def test_saved_code_is_whole_and_lies_in_the_root_and_beside_its_part(times, tmp_path):
    model = load(times)
    model.save(tmp_path / "again")
    for place in ("", "1_Times"):
        assert (tmp_path / "again" / place / "times.py").read_text() == TIMES
        assert (tmp_path / "again" / place / "helper.py").read_text() == HELPER
    again = load(tmp_path / "again")
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    assert model.get_embedding_dimension() == 7


@pytest.mark.parametrize("kept", ["root", "beside"])
def test_either_place_is_enough(times, tmp_path, kept):
    model = load(times)
    model.save(tmp_path / "again")
    for name in ("times.py", "helper.py"):
        (tmp_path / "again" / ("1_Times" if kept == "root" else "") / name).unlink()
    np.testing.assert_array_equal(load(tmp_path / "again").encode(TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize("later", [False, True])
def test_code_inside_a_router(tmp_path, later):
    folder = tmp_path / "model"
    routes = {"query": [Dense(WIDTH, WIDTH)], "document": [Dense(WIDTH, WIDTH)]}
    if not later:
        routes = {route: [static(), *parts] for route, parts in routes.items()}
    SentenceTransformer(modules=[*([static()] if later else []), Router(routes)], device="cpu").save(folder)
    inside = folder / "1_Router" if later else folder
    config = json.loads((inside / "router_config.json").read_text())
    config["types"]["own"] = write_times(folder, "x")["type"]
    config["structure"]["query"].append("own")
    (inside / "own").mkdir()
    (inside / "router_config.json").write_text(json.dumps(config))
    with pytest.raises(FolderError, match=r"router_config\.json: module type 'times\.Times'.*trust_remote_code"):
        SentenceTransformer(str(folder), device="cpu")
    model = load(folder)
    wanted = model.encode_query(TEXTS)
    model.save(tmp_path / "again")
    np.testing.assert_allclose(load(tmp_path / "again").encode_query(TEXTS), wanted, atol=tolerances.SAME)
    assert (tmp_path / "again" / "times.py").exists()


# -- checkpoints in a subfolder ----------------------------------------------------------------------------------------


def everywhere(name):
    return {kind: {"subfolder": name} for kind in ("model_kwargs", "processor_kwargs", "config_kwargs")}


def test_a_plain_checkpoint_in_a_subfolder(bert, tmp_path):
    checkpoint("bert", tmp_path / "outer" / "inner")
    wanted = SentenceTransformer(bert, device="cpu").encode(TEXTS)
    got = SentenceTransformer(str(tmp_path / "outer"), device="cpu", **everywhere("inner")).encode(TEXTS)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerances.BATCH)


def test_a_subfolder_of_the_caller_wins_over_the_modules_path(bert, tmp_path):
    SentenceTransformer(modules=[Transformer(bert), Pooling(WIDTH)], device="cpu").save(tmp_path / "model")
    checkpoint("bert", tmp_path / "model" / "other", seed=5)
    wanted = SentenceTransformer(str(tmp_path / "model" / "other"), device="cpu").encode(TEXTS)
    got = SentenceTransformer(str(tmp_path / "model"), device="cpu", **everywhere("other")).encode(TEXTS)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerances.BATCH)


def test_a_subfolder_that_is_not_there_is_told(bert, tmp_path):
    checkpoint("bert", tmp_path / "outer" / "inner")
    with pytest.raises((FourfoldError, OSError)) as caught:
        SentenceTransformer(str(tmp_path / "outer"), device="cpu", **everywhere("missing"))
    assert "missing" in str(caught.value)
    assert logging.getLogger("fourfold").handlers == []
