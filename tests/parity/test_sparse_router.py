"""Sparse models with routes beside the older library: the same rows, the same folders, both ways on disk."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.support import TEXTS
from tests.tolerances import PACKED
from transformers import AutoTokenizer

import fourfold
from fourfold import SparseEncoder
from fourfold.testing import WIDTH, checkpoint


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("masked") / "bert", head="masked"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return str(checkpoint("distilbert", tmp_path_factory.mktemp("other") / "other", seed=3, head="masked"))


class Theirs:
    def __init__(self):
        from sentence_transformers import SparseEncoder
        from sentence_transformers.base.modules import Router, Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling
        from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder, SparseStaticEmbedding, SpladePooling

        self.SparseEncoder, self.Router, self.Transformer, self.Pooling = SparseEncoder, Router, Transformer, Pooling
        self.SparseAutoEncoder, self.SparseStaticEmbedding = SparseAutoEncoder, SparseStaticEmbedding
        self.SpladePooling = SpladePooling


class Ours:
    def __init__(self):
        from fourfold import modules

        self.SparseEncoder = SparseEncoder
        for name in ("Router", "Transformer", "Pooling", "SparseAutoEncoder", "SparseStaticEmbedding", "SpladePooling"):
            setattr(self, name, getattr(modules, name))


def mlm(parts, folder):
    return parts.Transformer(folder, transformer_task="fill-mask")


def static(parts, folder, seed=0, **options):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = torch.rand(len(tokenizer), generator=torch.Generator().manual_seed(seed)) * 5
    weights[5::7] = 0
    return parts.SparseStaticEmbedding(tokenizer, weights, **options)


def inference_free(parts, masked, other):
    document = [mlm(parts, masked), parts.SpladePooling("max")]
    return [parts.Router.for_query_document([static(parts, masked, frozen=True)], document)]


def inference_free_by_default_query(parts, masked, other):
    document = [mlm(parts, masked), parts.SpladePooling("sum", activation_function="log1p_relu")]
    routes = {"document": document, "query": [static(parts, masked)]}
    return [parts.Router(routes, default_route="query", allow_empty_key=False)]


def shared_transformer(parts, masked, other):
    transformer = mlm(parts, masked)
    routes = {"query": [transformer, parts.SpladePooling("max")], "document": [transformer, parts.SpladePooling("sum")]}
    return [parts.Router(routes, route_mappings={("search", "text"): "query", (None, ("text", "image")): "document"})]


def two_transformers(parts, masked, other):
    query = [mlm(parts, masked), parts.SpladePooling()]
    return [parts.Router.for_query_document(query, [mlm(parts, other), parts.SpladePooling()])]


def two_tables(parts, masked, other):
    return [parts.Router.for_query_document([static(parts, masked)], [static(parts, masked, seed=1)])]


def one_table(parts, masked, other):
    table = static(parts, masked)
    return [parts.Router.for_query_document([table], [table])]


def pooled_afterwards(parts, masked, other):
    routes = parts.Router.for_query_document([mlm(parts, masked)], [mlm(parts, other)])
    return [routes, parts.SpladePooling()]


def heads(parts, masked, other):
    def top(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return parts.SparseAutoEncoder(WIDTH, hidden_dim=4 * WIDTH, k=8, k_aux=16)

    return [parts.Transformer(masked), parts.Pooling(WIDTH), parts.Router.for_query_document([top(0)], [top(1)])]


def nested(parts, masked, other):
    inner = parts.Router({"query": [static(parts, masked)], "document": [mlm(parts, masked), parts.SpladePooling()]})
    return [parts.Router({"query": [inner], "document": [inner]}, default_route="document")]


LAYOUTS = [
    inference_free, inference_free_by_default_query, shared_transformer, two_transformers, two_tables, one_table,
    pooled_afterwards, heads, nested,
]  # fmt: skip

CALLS = {
    "encode": lambda m: m.encode(TEXTS),
    "query": lambda m: m.encode_query(TEXTS),
    "document": lambda m: m.encode_document(TEXTS),
    "task": lambda m: m.encode(TEXTS, task="query"),
    "one": lambda m: m.encode_query(TEXTS[3]),
    "active": lambda m: m.encode_document(TEXTS, max_active_dims=3),
    "active queries": lambda m: m.encode_query(TEXTS, max_active_dims=2, convert_to_sparse_tensor=False),
    "prompt": lambda m: m.encode_query(TEXTS, prompt="query: "),
    "small batches": lambda m: m.encode_document(TEXTS, batch_size=2),
}
STATED = {task: lambda m, task=task: m.encode([{task: text} for text in TEXTS]) for task in ("query", "document")}


def dense(rows):
    return (rows if rows.layout == torch.strided else rows.to_dense()).numpy()


def tree(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() and p.name != "README.md"}


def loaded(folder):
    """Return a folder's model in both libraries."""
    return [parts().SparseEncoder(str(folder), device="cpu") for parts in (Ours, Theirs)]


def agree(models, calls):
    for name, call in calls.items():
        first, *others = (dense(call(model)) for model in models)
        for rows in others:
            np.testing.assert_allclose(rows, first, rtol=0, atol=PACKED, err_msg=name)


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: layout.__name__)
def layout(request, st, masked, other, tmp_path_factory):
    """Both libraries' models of a layout, and the folders that they save."""
    folder = tmp_path_factory.mktemp(request.param.__name__)
    models = []
    for name, parts in (("ours", Ours()), ("theirs", Theirs())):
        models.append(parts.SparseEncoder(modules=request.param(parts, masked, other), device="cpu"))
        models[-1].save_pretrained(str(folder / name))
    return request.param, models, folder


def test_the_same_rows_from_both_and_from_each_others_folders(layout):
    build, models, folder = layout
    calls = CALLS if build is heads else {**CALLS, **STATED}
    if build is shared_transformer:
        calls = {**calls, "mapped": lambda m: m.encode(TEXTS, task="search")}
    agree([*models, *loaded(folder / "ours"), *loaded(folder / "theirs")], calls)


def test_the_routes_differ(layout):
    build, (ours, _), _ = layout
    queries, documents = (dense(encode(TEXTS)) for encode in (ours.encode_query, ours.encode_document))
    assert (np.abs(queries - documents).max() > 0.01) == (build is not one_table)


def test_the_same_files_with_the_same_settings(layout):
    _, _, folder = layout
    ours, theirs = tree(folder / "ours"), tree(folder / "theirs")
    assert ours.keys() == theirs.keys()
    for file in ours:
        if file.endswith(".json") and not file.endswith("tokenizer.json"):
            got, wanted = (json.loads(files[file].read_text()) for files in (ours, theirs))
            assert (got, list(got)) == (wanted, list(wanted)), file


def test_shared_modules_stay_shared(layout):
    build, (model, _), folder = layout
    if build not in (shared_transformer, one_table, nested):
        pytest.skip("nothing is shared")
    again = SparseEncoder(str(folder / "theirs"), device="cpu")
    for router in (model[0], again[0]):
        assert router.sub_modules["query"][0] is router.sub_modules["document"][0]


def test_what_models_say_of_themselves(layout):
    _, (ours, theirs), _ = layout
    assert set(ours.get_model_kwargs()) == set(theirs.get_model_kwargs())
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
    assert ours.max_seq_length == theirs.max_seq_length
    assert ours.max_active_dims == theirs.max_active_dims
    rows = ours.encode_query(TEXTS[:2])
    got, wanted = (model.decode(rows, top_k=4) for model in (ours, theirs))
    # Of equal weights each may come first.
    assert [[weight for _, weight in row] for row in got] == [[weight for _, weight in row] for row in wanted]


def test_rows_of_different_tasks_are_the_older_librarys_in_calls_of_their_own(layout):
    build, (ours, theirs), _ = layout
    if build is heads:
        pytest.skip("dictionaries mean nothing behind a transformer")
    mixed = [{("query", "document")[i % 2]: text} for i, text in enumerate(TEXTS)]
    with pytest.raises(ValueError, match="different task"):
        theirs.encode(mixed)
    np.testing.assert_allclose(
        dense(ours.encode(mixed)), np.stack([dense(theirs.encode(item)) for item in mixed]), rtol=0, atol=PACKED
    )


STATIC = (inference_free, inference_free_by_default_query, two_tables, one_table, nested)


def test_numpy_encoders_give_the_older_librarys_rows(layout):
    build, (_, theirs), folder = layout
    encoder = fourfold.load(folder / "theirs", **({} if build in STATIC else {"device": "cpu"}))
    assert encoder.backend == ("static" if build in STATIC else "torch")
    mixed = TEXTS if build is heads else [{("query", "document")[i % 2]: text} for i, text in enumerate(TEXTS)]
    wanted = np.stack([dense(theirs.encode(item)) for item in mixed])
    for rows in (
        encoder.encode(mixed).dense(),
        [row.dense()[0] for row in encoder.encode_stream(iter(mixed), window=3)],
    ):
        np.testing.assert_allclose(rows, wanted, rtol=0, atol=PACKED)
    for name, call in CALLS.items():
        if name != "active queries":  # which asks for dense tensors
            np.testing.assert_allclose(
                call(encoder).dense(),
                dense(call(theirs)).reshape(-1, wanted.shape[1]),
                rtol=0,
                atol=PACKED,
                err_msg=name,
            )
    rows = [model.encode_query(TEXTS) for model in (encoder, theirs)]
    for name in ("similarity", "similarity_pairwise"):
        got, want = (getattr(model, name)(some, some) for model, some in zip((encoder, theirs), rows, strict=True))
        np.testing.assert_allclose(got, want, rtol=PACKED, atol=PACKED)
    assert encoder.sparsity(rows[0]) == pytest.approx(theirs.sparsity(rows[1]))


# -- folders that no saving writes -------------------------------------------------------------------------------------

OLD = "sentence_transformers.sparse_encoder.models"


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def hand_made(folder, saved, masked, *, types=OLD, file="router_config.json", root_type="MLMTransformer"):
    """Make the folder of an inference-free model as people put them together: the checkpoint in the root."""
    shutil.copytree(saved, folder)
    shutil.move(folder / "document_1_SpladePooling", folder / "document_1_SpladePooling_")
    for name in (folder / "document_0_Transformer").iterdir():
        shutil.move(str(name), str(folder / name.name))
    (folder / "document_0_Transformer").rmdir()
    shutil.move(folder / "document_1_SpladePooling_", folder / "document_1_SpladePooling")
    (folder / "router_config.json").unlink()
    change_type = {"query_0_SparseStaticEmbedding": "SparseStaticEmbedding", "": root_type}
    config = {
        "types": {
            **{name: f"{types}.{kind}" for name, kind in change_type.items()},
            "document_1_SpladePooling": f"{types}.SpladePooling",
        },
        "structure": {"query": ["query_0_SparseStaticEmbedding"], "document": ["", "document_1_SpladePooling"]},
        "parameters": {"default_route": "document", "allow_empty_key": True},
    }
    (folder / file).write_text(json.dumps(config))
    entries = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}]
    (folder / "modules.json").write_text(json.dumps(entries))


@pytest.fixture
def saved(st, masked, other, tmp_path):
    folder = tmp_path / "saved"
    SparseEncoder(modules=inference_free(Ours(), masked, other), device="cpu").save(str(folder))
    return folder


def with_json(folder):
    """Let the table's weights lie in a JSON file by token, as published models have them."""
    table = folder / "query_0_SparseStaticEmbedding"
    model = SparseEncoder(str(folder), device="cpu")[0].sub_modules["query"][0]
    ids = model.tokenizer.get_vocab()
    weights = {token: model.weight[number].item() for token, number in ids.items() if model.weight[number] != 0}
    (table / "idf.json").write_text(json.dumps(weights))
    (table / "model.safetensors").unlink()
    change(table / "config.json", path="idf.json")


@pytest.mark.parametrize("json_weights", [False, True], ids=["weights", "json"])
def test_the_empty_id_is_the_models_own_folder(saved, masked, tmp_path, monkeypatch, json_weights):
    if json_weights:
        with_json(saved)
        monkeypatch.chdir(saved / "query_0_SparseStaticEmbedding")  # from where the older library looks
    hand_made(tmp_path / "made", saved, masked)
    agree([*loaded(saved), *loaded(tmp_path / "made")], {**CALLS, **STATED})
    for name, model in zip(("ours", "theirs"), loaded(tmp_path / "made"), strict=True):
        model.save_pretrained(str(tmp_path / name))
        agree([*loaded(saved), *loaded(tmp_path / name)], CALLS)
    ours, theirs = (tree(tmp_path / name) for name in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    configs = [json.loads(files["router_config.json"].read_text()) for files in (ours, theirs)]
    assert configs[0] == configs[1]


def test_ids_of_the_first_routers(saved, tmp_path):
    """Asym: a number in each id, and the settings in ``config.json``."""
    old = tmp_path / "old"
    shutil.copytree(saved, old)
    config = json.loads((old / "router_config.json").read_text())
    names = {name: f"{name.split('_')[0]}-1397{i}_{name.split('_')[2]}" for i, name in enumerate(config["types"])}
    for name, new in names.items():
        (old / name).rename(old / new)
    config["types"] = {names[name]: kind for name, kind in config["types"].items()}
    config["structure"] = {route: [names[name] for name in chain] for route, chain in config["structure"].items()}
    config["parameters"] = {"allow_empty_key": True, "default_route": "document"}
    (old / "router_config.json").unlink()
    (old / "config.json").write_text(json.dumps(config))
    agree([*loaded(saved), *loaded(old)], {**CALLS, **STATED})


def test_a_router_in_a_folder_of_its_own(saved, tmp_path):
    inside = tmp_path / "inside"
    shutil.copytree(saved, inside / "0_Router")
    for name in ("modules.json", "config_sentence_transformers.json"):
        shutil.move(inside / "0_Router" / name, inside / name)
    entries = json.loads((inside / "modules.json").read_text())
    (inside / "modules.json").write_text(json.dumps([{**entries[0], "path": "0_Router"}]))
    agree([*loaded(saved), *loaded(inside)], CALLS)


BROKEN = {
    "an id out of the folder": lambda f: change(
        f / "router_config.json", structure={"query": ["../x"], "document": ["document_0_Transformer"]},
        types={"../x": f"{OLD}.SparseStaticEmbedding", "document_0_Transformer": f"{OLD}.MLMTransformer"},
    ),
    "a folder that is gone": lambda f: shutil.rmtree(f / "query_0_SparseStaticEmbedding"),
    "weights that are gone": lambda f: (f / "query_0_SparseStaticEmbedding" / "model.safetensors").unlink(),
    "JSON that is gone": lambda f: change(f / "query_0_SparseStaticEmbedding" / "config.json", path="idf.json"),
    "an unknown id": lambda f: change(f / "router_config.json", structure={"query": ["nowhere"]}),
    "an unknown default": lambda f: change(f / "router_config.json", parameters={"default_route": "nowhere"}),
    "a router within itself": lambda f: change(
        f / "router_config.json", structure={"query": [""]}, types={"": "sentence_transformers.models.Router"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_are_refused_by_both(saved, name):
    from fourfold.errors import FourfoldError

    BROKEN[name](saved)
    with pytest.raises(FourfoldError) as caught:
        Ours().SparseEncoder(str(saved), device="cpu")
    assert str(saved) in str(caught.value)
    with pytest.raises(Exception):  # noqa: B017 - of whatever kind
        Theirs().SparseEncoder(str(saved), device="cpu")


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.encode(TEXTS, task="other"),
        lambda m: m.encode([{"other": "a"}]),
        lambda m: m.encode([{"query": "a", "document": "b"}]),
        lambda m: m.preprocess([{"query": "a"}, {"document": "b"}]),
        lambda m: m.encode_query([{"query": "a"}]),
        lambda m: m.encode_query([{"query": "a"}, {"document": "b"}]),
    ],
)
def test_both_refuse(saved, call):
    for model in loaded(saved):
        with pytest.raises((ValueError, TypeError)):
            call(model)
