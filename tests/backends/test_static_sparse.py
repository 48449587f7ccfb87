"""Sparse models whose queries are looked up, in numpy: torch's numbers without torch."""

import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import tolerances
from tests.support import TEXTS, needs_no_settings, read_json

import fourfold
from fourfold import SparseEncoder
from fourfold.backends.static_sparse import SparseStaticBackend, table_of
from fourfold.errors import FolderError, FourfoldError, InputError, WeightsError
from fourfold.modules import Dense, Router
from fourfold.store.source import Source
from fourfold.testing import tiny, tiny_folder

HARSH = [*TEXTS, "the the text the", "[CLS] a [PAD]", "long " * 300, ("a pair", "of texts"), {"text": "a document"}]


def table(seed=0):
    module = tiny("sparse", "static", seed=seed)[0]
    with torch.no_grad():
        module.weight[5::3] = 0  # some tokens weigh nothing
    return module


def splade():
    return [*tiny("sparse")]


def routed(**options):
    return Router.for_query_document([table()], splade(), **options)


MODELS = {
    "alone": lambda: [table()],
    "free queries": lambda: [routed()],
    "by default": lambda: [routed(default_route="query")],
    "two tables": lambda: [Router.for_query_document([table()], [table(1)])],
    "one table": lambda: [Router.for_query_document([shared := table()], [shared])],
    "nested": lambda: [Router({"query": [routed()], "document": splade()}, default_route="document")],
    "mapped": lambda: [
        Router(
            {"lookup": [table()], "other": splade()},
            route_mappings={("query", "text"): "lookup", ("document", None): "other"},
        )
    ],
}


@pytest.fixture(params=MODELS)
def saved(request, tmp_path):
    return save(tmp_path / "model", MODELS[request.param]())


def save(folder, modules, **options):
    SparseEncoder(modules=modules, device="cpu", **options).save(folder, create_model_card=False)
    return folder


def rows(found):
    return found.dense() if hasattr(found, "dense") else found.to_dense().numpy()


def queries_agree(folder, **options):
    encoder = fourfold.load(folder, **options)
    assert encoder.backend == "static"
    model = SparseEncoder(str(folder), device="cpu", **options)
    got, wanted = encoder.encode_query(HARSH), model.encode_query(HARSH)
    assert (got.weights.dtype, got.offsets.dtype, got.terms.dtype) == (np.float32, np.int64, np.int32)
    assert got.weights.all()
    np.testing.assert_array_equal(got.dense(), wanted.to_dense())
    assert got.width == wanted.shape[1] == encoder.get_embedding_dimension()
    return encoder, model


def test_queries_are_torchs(saved):
    encoder, _ = queries_agree(saved)
    for count in (1, 64, 300):  # alone, and where words are remembered
        texts = [f"{TEXTS[i % len(TEXTS)]} {'long ' * (i % 90)}{i}" for i in range(count)]
        whole = encoder.encode_query(texts)
        each = [encoder.encode_query(text) for text in texts]
        np.testing.assert_array_equal(whole.dense(), np.concatenate([row.dense() for row in each]))


def test_other_texts_are_torchs_too(saved):
    encoder, model = fourfold.load(saved), SparseEncoder(str(saved), device="cpu")
    for call in (
        lambda m: m.encode_document(TEXTS),
        lambda m: m.encode(TEXTS),
        lambda m: m.encode(TEXTS, task="query"),
        lambda m: m.encode_document(TEXTS[0], max_active_dims=2),
    ):
        got, wanted = call(encoder).dense(), call(model).to_dense().numpy()
        np.testing.assert_allclose(got, wanted.reshape(got.shape), rtol=0, atol=tolerances.BATCH * 10)


def half(folder):
    file = folder / "model.safetensors"
    save_file({"weight": load_file(file)["weight"].half()}, file)


def as_json(folder, **more):
    vocabulary = table().tokenizer.get_vocab()
    weights = {token: 1.5 + number / 7 for token, number in vocabulary.items() if number % 3}
    (folder / "idf.json").write_text(json.dumps({**weights, "not a token": 3.0, **more}))
    (folder / "config.json").write_text(json.dumps({"frozen": True, "path": "idf.json"}))
    (folder / "model.safetensors").unlink()


def settings(**changes):
    def change(folder):
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps({**read_json(file), **changes}))

    return change


@pytest.mark.parametrize(
    "change",
    [
        half,
        as_json,
        settings(model_max_length=5),
        settings(model_max_length=5, truncation_side="left"),
        settings(model_max_length=10**30),
        pytest.param(lambda folder: (folder / "tokenizer_config.json").unlink(), marks=needs_no_settings),
    ],
    ids=["float16", "json", "short", "short from the left", "no limit", "no settings"],
)
def test_whatever_the_folder_holds(tmp_path, change):
    folder = save(tmp_path / "model", [table()])
    change(folder)
    encoder, model = queries_agree(folder)
    many = [f"{text} {'a of ' * 9}" for text in TEXTS] * 12
    np.testing.assert_array_equal(encoder.encode(many).dense(), model.encode(many).to_dense())


def test_a_table_in_the_models_own_folder(tmp_path):
    folder = save(tmp_path / "model", [routed()])
    for file in (folder / "query_0_SparseStaticEmbedding").iterdir():
        shutil.move(str(file), str(folder / file.name))
    config = read_json(folder / "router_config.json")
    config["types"][""] = config["types"].pop("query_0_SparseStaticEmbedding")
    config["structure"]["query"] = [""]
    (folder / "router_config.json").write_text(json.dumps(config))
    queries_agree(folder)
    assert table_of(Source(str(folder)), "query") == Source(str(folder))
    assert table_of(Source(str(folder)), "document") is None


def test_the_files_of_a_router_before_it_was_one(tmp_path):
    folder = save(tmp_path / "model", [routed()])
    config = read_json(folder / "router_config.json")
    config["parameters"] = {"allow_empty_key": True}
    (folder / "router_config.json").rename(folder / "config.json")
    (folder / "config.json").write_text(json.dumps(config))
    entries = read_json(folder / "modules.json")
    (folder / "modules.json").write_text(json.dumps([{**entries[0], "type": "sentence_transformers.models.Asym"}]))
    encoder, _ = queries_agree(folder)
    np.testing.assert_array_equal(encoder.encode(TEXTS).dense(), encoder.encode_query(TEXTS).dense())


# -- what is not for numpy ---------------------------------------------------------------------------------------------


def without_tokenizer_file(folder):
    (folder / "tokenizer.json").unlink()


def bfloat(folder):
    file = folder / "model.safetensors"
    save_file({"weight": load_file(file)["weight"].bfloat16()}, file)


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "change", [bfloat, pickled, settings(tokenizer_class="BertTokenizer", do_lower_case=False)],
    ids=["bfloat16", "pickle", "tokenizer"],
)  # fmt: skip
def test_what_only_torch_reads_alike_runs_there(tmp_path, change):
    folder = save(tmp_path / "model", [table()])
    change(folder)
    encoder = fourfold.load(folder)
    assert encoder.backend == "torch"
    wanted = SparseEncoder(str(folder), device="cpu").encode_query(TEXTS).float().to_dense()
    np.testing.assert_array_equal(encoder.encode_query(TEXTS).dense(), wanted)


def test_other_models_are_not_for_it(tmp_path):
    reverse = save(tmp_path / "reverse", [Router.for_query_document(splade(), [table()])])
    longer = save(tmp_path / "longer", [table(), Dense(154, 8)])
    strange = save(tmp_path / "strange", [Router({"a": [table()], "b": [table()]})])
    for folder in (reverse, longer, strange, tiny_folder("sparse"), tiny_folder("dense", "static")):
        assert not SparseStaticBackend.fits(Source(str(folder)))
    for folder in (reverse, longer):
        with pytest.raises(InputError, match="does not look queries up"):
            fourfold.load(folder, backend="static")
        assert fourfold.load(folder).backend == "torch"
    assert SparseStaticBackend.fits(Source(str(tiny_folder("sparse", "static"))))


def edited(**changes):
    def change(folder):
        file = folder / "router_config.json"
        file.write_text(json.dumps({**read_json(file), **changes}))

    return change


def inside(change):
    return lambda folder: change(folder / "query_0_SparseStaticEmbedding")


def short(folder):
    save_file({"weight": torch.ones(3)}, folder / "model.safetensors")


def other(folder):
    save_file({"weights": torch.ones(300)}, folder / "model.safetensors")


def flat(folder):
    save_file({"weight": torch.ones(300, 1)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (inside(short), WeightsError, r"ids up to 153, the file 3 weights"),
        (inside(other), FolderError, r"model\.safetensors must hold 'weight'.*got weights"),
        (inside(flat), FolderError, r"model\.safetensors must hold 'weight'"),
        (inside(lambda f: as_json(f, a="x")), FolderError, r"idf\.json: the weight of 'a'"),
        (inside(lambda f: (as_json(f), (f / "idf.json").unlink())), FolderError, r"idf\.json is missing"),
        (inside(settings(model_max_length=0)), FolderError, r"tokenizer_config\.json: model_max_length"),
        (inside(lambda f: (f / "tokenizer.json").write_text("{")), FolderError, r"tokenizer\.json cannot be read"),
        (edited(parameters={"default_route": "nowhere"}), FolderError, "name the routes \\['nowhere'\\]"),
        (edited(structure={"query": ["../x"]}, types={"../x": "a.B"}), FolderError, "relative path"),
        (edited(structure={"query": ["x"]}), FolderError, "names 'x', which 'types' lacks"),
        (
            edited(structure={"query": [""]}, types={"": "sentence_transformers.models.Router"}, parameters={}),
            FolderError,
            "this router is a part of itself",
        ),
    ],
)  # fmt: skip
def test_a_broken_folder_is_told_by_file_and_key(tmp_path, change, error, said):
    folder = save(tmp_path / "model", [routed()])
    change(folder)
    with pytest.raises(error, match=said) as caught:
        fourfold.load(folder)
    assert isinstance(caught.value, FourfoldError)
    assert str(folder) in str(caught.value)


# -- without torch -----------------------------------------------------------------------------------------------------


def run(code):
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    return out.stdout.strip()


@pytest.mark.parametrize("name", ["free queries", "two tables"])
def test_neither_torch_nor_transformers_is_imported(tmp_path, name):
    folder = str(save(tmp_path / "model", MODELS[name]()))
    both = name == "two tables"
    code = f"""
        import sys, fourfold
        encoder = fourfold.load({folder!r})
        rows = encoder.encode_query(["the text", ""])
        encoder.similarity(rows, rows), encoder.decode(rows, 3), encoder.sparsity(rows), encoder.fingerprint
        list(encoder.encode_stream(["a", "b"], task="query")), encoder.encode([{{"query": "a"}}])
        {both} and encoder.similarity(rows, encoder.encode_document(["the text"]))
        {both} and encoder.encode([{{"query": "a"}}, {{"document": "b"}}])
        print(rows.lengths.tolist(), [name for name in ("torch", "transformers", "scipy") if name in sys.modules])
    """
    lengths = SparseEncoder(folder, device="cpu").encode_query(["the text", ""]).to_dense().count_nonzero(dim=1)
    assert run(code) == f"{lengths.tolist()} []"


def test_what_needs_torch_says_how_to_install_it(tmp_path):
    folder = str(save(tmp_path / "model", [routed()]))
    code = f"""
        import sys

        class Without:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "transformers"):
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Without())
        import fourfold
        encoder = fourfold.load({folder!r})
        print(len(encoder.encode_query(["the text"])))
        for call in (
            lambda: encoder.encode_document(["the text"]),
            lambda: encoder.encode(["the text"]),
            lambda: list(encoder.encode_stream(["the text"])),
            lambda: encoder.encode([{{"query": "a"}}, {{"document": "b"}}]),
            lambda: fourfold.load({folder!r}, backend="torch"),
        ):
            try:
                call()
            except ImportError as error:
                print(type(error).__name__, error)
    """
    first, *others = run(code).splitlines()
    assert first == "1"
    assert len(others) == 5
    for line in others:
        assert line.startswith("MissingExtraError")
        assert folder in line
        assert line.endswith('pip install "fourfold[torch]"')
