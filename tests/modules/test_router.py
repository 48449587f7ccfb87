"""Which way a call goes, that every way runs as it does alone, and that routers travel."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, wordpiece

from fourfold import SentenceTransformer
from fourfold.errors import FirstModuleError, FolderError, FourfoldError, InputError
from fourfold.modules import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from fourfold.modules.router import Router
from fourfold.testing import WIDTH, checkpoint


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    return str(checkpoint("roberta", tmp_path_factory.mktemp("roberta"), seed=1))


def static(seed=0, width=WIDTH):
    torch.manual_seed(seed)
    return StaticEmbedding(wordpiece(), torch.randn(wordpiece().get_vocab_size(), width))


def named(*names):
    return {name: [Dense(8, 4)] for name in names}


def dense(seed, width=WIDTH, out=WIDTH):
    torch.manual_seed(seed)
    return Dense(width, out)


def model_of(*modules):
    return SentenceTransformer(modules=list(modules), device="cpu")


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerances.PACKED)


# -- construction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sub_modules": {}}, "at least one route"),
        ({"sub_modules": named("a"), "default_route": "b"}, "default_route must be one of 'a', got 'b'"),
        ({"sub_modules": named("a"), "route_mappings": {("x", None): "b"}}, "maps to 'b'; the routes are 'a'"),
        ({"sub_modules": named("a"), "route_mappings": {"x": "a"}}, "a key must be"),
        ({"sub_modules": named("a.b")}, "'a.b'"),
        ({"sub_modules": named("")}, "''"),
        ({"sub_modules": named("items")}, "'items'"),
    ],
)
def test_what_is_no_router(arguments, said):
    with pytest.raises(InputError, match=said):
        Router(**arguments)


def test_the_first_route_is_the_default_if_calls_may_come_without_a_task():
    assert Router(named("a", "b")).default_route == "a"
    assert Router(named("a", "b"), allow_empty_key=False).default_route is None
    assert Router(named("a", "b"), default_route="b", allow_empty_key=False).default_route == "b"


def test_queries_and_documents():
    router = Router.for_query_document([Dense(8, 4)], [Dense(8, 4)])
    assert (router.default_route, list(router.sub_modules)) == ("document", ["query", "document"])
    assert Router.for_query_document([Dense(8, 4)], [Dense(8, 4)], default_route=None).default_route == "query"


def test_state_keys_name_route_and_place():
    keys = list(Router({"a": [Dense(2, 2)], "b": [Normalize(), Dense(2, 2)]}).state_dict())
    assert keys == [f"sub_modules.{x}.linear.{kind}" for x in ("a.0", "b.1") for kind in ("weight", "bias")]


def test_repr_shows_the_routes():
    shown = repr(Router(named("a"), route_mappings={("x", None): "a"}))
    assert "default_route='a', route_mappings={('x', None): 'a'}" in shown
    assert "Dense({'in_features': 8" in shown


# -- which way ---------------------------------------------------------------------------------------------------------

MAPPINGS = {
    ("find", "image"): "both",
    ("find", None): "task",
    (None, "image"): "kind",
    (None, ("text", "image")): "pair",
}


@pytest.mark.parametrize(
    ("task", "modality", "wanted"),
    [
        ("find", "image", "both"),
        ("find", "text", "task"),
        ("find", None, "task"),
        (None, "image", "kind"),
        ("plain", "image", "kind"),
        (None, ("image", "text"), "pair"),
        (None, ["text", "image"], "pair"),
        ("plain", "text", "plain"),
        (None, "audio", "audio"),
        ("plain", None, "plain"),
        (None, "text", "default"),
        (None, None, "default"),
    ],
)
def test_the_order_in_which_a_route_is_looked_for(task, modality, wanted):
    routes = ("default", "both", "task", "kind", "pair", "plain", "audio")
    router = Router(named(*routes), route_mappings=MAPPINGS)
    assert router.route(task, modality) is router.sub_modules[wanted]


def test_a_mapping_for_anything_wins_over_names():
    router = Router(named("a", "b"), route_mappings={(None, None): "b"})
    assert router.route("a") is router.sub_modules["b"]


def test_a_task_that_leads_nowhere_is_an_error_in_spite_of_a_default():
    with pytest.raises(InputError, match=r"no route for task 'qery'.*'query', 'document'.*Did you mean 'query'\?"):
        Router(named("query", "document")).route("qery")


def test_no_task_and_no_default_asks_for_one():
    with pytest.raises(InputError, match="router_mapping"):
        Router(named("a", "b"), allow_empty_key=False).route()


# -- each route as it does alone ---------------------------------------------------------------------------------------


@pytest.fixture
def asymmetric(bert):
    return model_of(Router.for_query_document([static()], [Transformer(bert), Pooling(WIDTH)]), Normalize())


def test_each_route_gives_what_its_modules_give_alone(asymmetric, bert):
    queries, documents = model_of(static(), Normalize()), model_of(Transformer(bert), Pooling(WIDTH), Normalize())
    close(asymmetric.encode_query(TEXTS), queries.encode(TEXTS))
    close(asymmetric.encode_document(TEXTS), documents.encode(TEXTS))
    close(asymmetric.encode(TEXTS), documents.encode(TEXTS))
    close(asymmetric.encode(TEXTS, task="query"), queries.encode(TEXTS))
    close(asymmetric.encode_document(TEXTS, prompt="query: "), documents.encode(TEXTS, prompt="query: "))


def test_two_transformers_run_packed(bert, roberta):
    from fourfold.backends.torch import TorchBackend

    model = model_of(
        Router.for_query_document([Transformer(bert), Pooling(WIDTH)], [Transformer(roberta), Pooling(WIDTH)])
    )
    for kwargs in ({}, {"task": "query"}, {"task": "document"}):
        backend = TorchBackend(model, kwargs=kwargs)
        assert backend.tokenises
        assert backend.packed
    close(model.encode_query(TEXTS), model_of(Transformer(bert), Pooling(WIDTH)).encode(TEXTS))
    close(model.encode_document(TEXTS), model_of(Transformer(roberta), Pooling(WIDTH)).encode(TEXTS))


def test_a_route_with_a_module_that_needs_padding_does_not_stop_the_other(bert, roberta):
    from fourfold.backends.torch import TorchBackend

    padded = Transformer(roberta, unpad_inputs=False)
    model = model_of(Router.for_query_document([Transformer(bert), Pooling(WIDTH)], [padded, Pooling(WIDTH)]))
    assert TorchBackend(model, kwargs={"task": "query"}).packed
    assert not TorchBackend(model, kwargs={"task": "document"}).packed
    assert not TorchBackend(model).packed
    close(model.encode_document(TEXTS), model_of(Transformer(roberta), Pooling(WIDTH)).encode(TEXTS))
    close(model.encode([{"query": text} for text in TEXTS]), model.encode_query(TEXTS))


@pytest.mark.parametrize(("chain", "found"), [([], "it is empty"), ([Dense(8, 8)], "it begins with Dense")])
def test_a_route_without_a_module_that_takes_inputs_is_told(bert, chain, found):
    model = model_of(Router({"query": chain, "document": [Transformer(bert), Pooling(WIDTH)]}))
    calls = [
        lambda: model.encode(["a"]),
        lambda: model.encode_query(["a"]),
        lambda: model.encode([{"query": "a"}]),
        lambda: model[0].longest_input(task="query"),
        lambda: model[0].locating_tokenizer(task="query"),
    ]
    for call in calls:
        with pytest.raises(FirstModuleError, match=f"the route 'query'.*{found}"):
            call()
    close(model.encode_document(["a"]), model_of(Transformer(bert), Pooling(WIDTH)).encode(["a"]))


def test_an_unknown_task_is_told(asymmetric):
    with pytest.raises(ValueError, match="no route for task 'other'"):
        asymmetric.encode(["a"], task="other")


def test_what_preprocess_returns_names_task_and_modality(asymmetric):
    for task in ("query", "document", None):
        features = asymmetric.preprocess(TEXTS, task=task)
        assert (features["task"], features["modality"]) == (task, "text")
        wanted = asymmetric.encode(TEXTS, task=task)
        close(asymmetric(features)["sentence_embedding"].detach().numpy(), wanted)


def test_features_of_a_call_name_its_task(asymmetric):
    (row,) = asymmetric.encode(["a"], output_value=None, task="query")
    assert (row["task"], row["modality"]) == ("query", "text")
    assert {"input_ids", "offsets", "sentence_embedding"} <= row.keys()


# -- older inputs: one-key dictionaries --------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["query", "document"])
def test_one_key_dictionaries_state_the_task(asymmetric, task):
    wanted = asymmetric.encode(TEXTS, task=task)
    close(asymmetric.encode([{task: text} for text in TEXTS]), wanted)
    close(asymmetric.encode({task: TEXTS[0]}), wanted[0])
    close(
        asymmetric.encode([{task: text} for text in TEXTS], prompt="a "), asymmetric.encode(TEXTS, "", "a ", task=task)
    )
    rows = asymmetric.encode([{task: text} for text in TEXTS], output_value=None)
    assert {row["task"] for row in rows} == {task}


@pytest.mark.parametrize(
    "inputs",
    [
        [{"query": "a", "document": "b"}],
        [{"query": "a"}, {"query": "a", "document": "b"}],
        [{"query": "a"}, {"text": "b"}],
        [{"query": "a"}, {}],
        [{"query": "a"}, {3: "b"}],
        [{"query": "a"}, "b"],
        ["b", {"query": "a"}],
    ],
)
def test_inputs_that_do_not_all_state_one_task_are_refused(asymmetric, inputs):
    for call in (asymmetric.encode, asymmetric.preprocess):
        with pytest.raises(ValueError, match=r"a dictionary of one key like|modality|Multimodal|Unsupported"):
            call(inputs)


def test_padded_features_are_of_one_task(asymmetric):
    with pytest.raises(InputError, match="the inputs state 'document', 'query'"):
        asymmetric.preprocess([{"query": "a"}, {"document": "b"}])


def test_a_dictionary_of_a_modality_is_an_input(asymmetric):
    close(asymmetric.encode([{"text": "a"}]), asymmetric.encode(["a"]))


def test_dictionaries_beside_a_task_are_inputs_of_that_task(asymmetric):
    with pytest.raises(ValueError, match="query"):
        asymmetric.encode([{"query": "a"}], task="document")


# -- behind a transformer ----------------------------------------------------------------------------------------------


@pytest.fixture
def later(bert):
    heads = Router.for_query_document([dense(0, out=8)], [dense(1, out=8)])
    return model_of(Transformer(bert), Pooling(WIDTH), heads)


def test_a_later_router_only_routes(later, bert):
    for task, seed in (("query", 0), ("document", 1), (None, 1)):
        alone = model_of(Transformer(bert), Pooling(WIDTH), dense(seed, out=8))
        close(later.encode(TEXTS, task=task), alone.encode(TEXTS))
    close(later.encode_query(TEXTS), later.encode(TEXTS, task="query"))
    with pytest.raises(ValueError, match="no route for task 'other'"):
        later.encode(["a"], task="other")


def test_a_later_router_runs_packed(later):
    from fourfold.backends.torch import TorchBackend

    assert TorchBackend(later, kwargs={"task": "query"}).packed


def test_dictionaries_mean_nothing_behind_a_transformer(later):
    with pytest.raises(ValueError, match=r"query|dict"):
        later.encode([{"query": "a"}])


# -- keywords ----------------------------------------------------------------------------------------------------------


def test_a_model_with_a_router_takes_task_and_modality(later, asymmetric):
    assert {"task", "modality"} <= set(later.get_model_kwargs())
    assert {"task", "modality"} <= set(asymmetric.get_model_kwargs())


class Scaled(torch.nn.Module):
    forward_kwargs = {"scale", "task"}  # noqa: RUF012 - as other people write it

    def forward(self, features, scale=1.0, task=None):
        features["sentence_embedding"] = features["sentence_embedding"] * scale * (2 if task == "query" else 1)
        return features


def test_keywords_reach_the_modules_of_a_route():
    model = model_of(Router({"query": [static(), Scaled()], "document": [static()]}))
    assert set(model.get_model_kwargs()) == {"task", "modality", "scale"}
    plain = model.encode(TEXTS, task="document")
    close(model.encode(TEXTS, task="query", scale=3.0) / 6, plain)
    close(model.encode(TEXTS, task="document", scale=3.0), plain)
    close(model.encode([{"query": text} for text in TEXTS]) / 2, plain)


def test_a_router_within_a_router():
    inner = Router({"query": [static(0)], "document": [static(1)]}, default_route="document")
    model = model_of(Router({"query": [inner], "other": [static(2)]}))
    close(model.encode(TEXTS, task="query"), model_of(static(0)).encode(TEXTS))
    close(model.encode(TEXTS, task="other"), model_of(static(2)).encode(TEXTS))


def test_every_module_is_told_once_when_the_model_is_ready():
    told = []

    class Listening(Normalize):
        def on_model_ready(self, model):
            told.append((self, model))

    shared, own = Listening(), Listening()
    model = model_of(Router({"a": [static(), shared], "b": [static(), shared, own]}))
    assert told == [(shared, model), (own, model)]


# -- what the module is ------------------------------------------------------------------------------------------------


def test_lengths(bert, roberta, caplog):
    first, second = Transformer(bert), Transformer(roberta)
    router = Router({"a": [first], "b": [second]})
    first.max_seq_length = second.max_seq_length = 20
    assert router.max_seq_length == 20
    assert not caplog.records
    second.max_seq_length = 30
    assert router.max_seq_length == router.max_seq_length == 30
    assert len(caplog.records) == 1
    router.max_seq_length = 11
    assert (first.max_seq_length, second.max_seq_length) == (11, 11)


def test_lengths_of_routes_without_one(bert, caplog):
    router = Router({"a": [static()], "b": [Transformer(bert)]})
    router.max_seq_length = 9
    assert router.sub_modules["b"][0].max_seq_length == 9
    assert router.max_seq_length == float("inf")
    caplog.clear()
    none = Router({"a": [Normalize()]})
    assert none.max_seq_length is None
    none.max_seq_length = 3
    assert "max_seq_length" in caplog.text


def test_widths(caplog):
    assert Router({"a": [Dense(8, 4), Normalize()], "b": [Dense(8, 4)]}).get_embedding_dimension() == 4
    assert not caplog.records
    assert Router({"a": [Dense(8, 4)], "b": [Dense(8, 5)]}).get_embedding_dimension() == 4
    assert "[4, 5]" in caplog.text
    assert Router({"a": [Normalize()]}).get_embedding_dimension() is None


def test_the_tokenizer_is_the_first_that_a_route_has(bert):
    transformer = Transformer(bert)
    assert Router({"a": [Normalize()], "b": [transformer]}).tokenizer is transformer.tokenizer
    assert Router({"a": [Normalize()]}).tokenizer is None
    with pytest.raises(AttributeError):
        Router({"a": [transformer]}).tokenizer = None


def test_the_kinds_of_input_are_those_of_all_routes():
    class Images(Normalize):
        modalities = ("image", ("image", "text"))

    assert Router({"a": [Normalize()], "b": [Images()]}).modalities == [("image", "text"), "image", "text"]


# -- folders -----------------------------------------------------------------------------------------------------------


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_router_travels_and_shared_modules_stay_shared(bert, tmp_path):
    transformer = Transformer(bert)
    router = Router(
        {"a": [transformer, Pooling(WIDTH)], "b": [transformer, Pooling(WIDTH, "cls"), dense(3, out=8)]},
        route_mappings={("find", "text"): "b", (None, ("text", "image")): "a"},
    )
    model = model_of(router)
    model.save(tmp_path / "model", create_model_card=False)
    assert {name for name in files(tmp_path / "model") if "Transformer" in name} == {
        f"a_0_Transformer/{name}"
        for name in ("config.json", "model.safetensors", "sentence_bert_config.json", "tokenizer.json",
                     "tokenizer_config.json")
    }  # fmt: skip
    config = json.loads((tmp_path / "model" / "router_config.json").read_text())
    assert config["structure"] == {
        "a": ["a_0_Transformer", "a_1_Pooling"],
        "b": ["a_0_Transformer", "b_1_Pooling", "b_2_Dense"],
    }
    assert list(config["types"]) == ["a_0_Transformer", "a_1_Pooling", "b_1_Pooling", "b_2_Dense"]
    assert config["parameters"] == {
        "default_route": "a",
        "allow_empty_key": True,
        "route_mappings": {"('find', 'text')": "b", "(None, ('image', 'text'))": "a"},
    }
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert again[0].sub_modules["a"][0] is again[0].sub_modules["b"][0]
    assert again[0].route_mappings == router.route_mappings
    for task in ("a", "b", "find", None):
        close(again.encode(TEXTS, task=task), model.encode(TEXTS, task=task))


def test_a_later_router_has_a_folder_of_its_own(later, tmp_path):
    later.save(tmp_path / "model", create_model_card=False)
    assert {name for name in files(tmp_path / "model") if name.startswith("2_")} == {
        "2_Router/router_config.json",
        *(
            f"2_Router/{r}_0_Dense/{name}"
            for r in ("query", "document")
            for name in ("config.json", "model.safetensors")
        ),
    }
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    for task in ("query", "document"):
        close(again.encode(TEXTS, task=task), later.encode(TEXTS, task=task))


def change(folder, function, name="router_config.json"):
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(function(config) or config))


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "model"
    model_of(Router({"query": [static(0), Dense(WIDTH, 4)], "document": [static(1), Dense(WIDTH, 4)]})).save(folder)
    return folder


def test_the_older_file_name_and_free_ids(saved):
    wanted = SentenceTransformer(str(saved), device="cpu").encode(TEXTS, task="query")
    old = json.loads((saved / "router_config.json").read_text())
    (saved / "router_config.json").unlink()
    (saved / "query_1_Dense").rename(saved / "query-139734_Dense")
    old["types"]["query-139734_Dense"] = "sentence_transformers.models.Dense"
    old["structure"]["query"][1] = "query-139734_Dense"
    old["parameters"] = {"allow_empty_key": True}
    (saved / "config.json").write_text(json.dumps(old))
    change(saved, lambda entries: entries[0].update(type="sentence_transformers.models.Asym"), "modules.json")
    model = SentenceTransformer(str(saved), device="cpu")
    assert type(model[0]) is Router
    close(model.encode([{"query": text} for text in TEXTS]), wanted)


def test_an_empty_id_is_the_routers_own_folder(saved):
    wanted = SentenceTransformer(str(saved), device="cpu").encode(TEXTS, task="document")
    for file in (saved / "document_0_StaticEmbedding").iterdir():
        shutil.move(str(file), str(saved / file.name))

    def root(config):
        config["types"][""] = config["types"].pop("document_0_StaticEmbedding")
        config["structure"]["document"][0] = ""

    change(saved, root)
    close(SentenceTransformer(str(saved), device="cpu").encode(TEXTS, task="document"), wanted)


@pytest.mark.parametrize(
    ("mutate", "error", "said"),
    [
        (lambda c: c.pop("types") and c, KeyError, "'types'"),
        (lambda c: c.pop("structure") and c, KeyError, "'structure'"),
        (lambda c: c.pop("parameters") and c, KeyError, "'parameters'"),
        (lambda c: c.update(types=3), ValueError, "'types'"),
        (lambda c: c["structure"].update(query="x"), ValueError, "'query'"),
        (lambda c: c["structure"].update(query=[3]), ValueError, "'query'"),
        (lambda c: c["structure"]["query"].append("nowhere"), KeyError, "'nowhere'"),
        (lambda c: c.update(structure={}), ValueError, "at least one route"),
        (lambda c: c["parameters"].update(extra=1), TypeError, "'extra'"),
        (lambda c: c["parameters"].update(default_route="other"), ValueError, "default_route"),
        (lambda c: c["parameters"].update(route_mappings={"('q', None)": "other"}), ValueError, "'other'"),
        (lambda c: c["parameters"].update(route_mappings=[1]), ValueError, "route_mappings"),
        (lambda c: c["types"].update({"query_1_Dense": "os.system"}), ValueError, "trust_remote_code"),
        (lambda c: c["types"].update({"query_1_Dense": "sentence_transformers.models.Dens"}), ImportError, "Dense"),
        (lambda c: c["types"].update({"query_1_Dense": 3}), ValueError, "'query_1_Dense'"),
    ],
)
def test_a_broken_folder_is_told_by_file_and_key(saved, mutate, error, said):
    change(saved, mutate)
    with pytest.raises(error, match=said) as caught:
        SentenceTransformer(str(saved), device="cpu")
    assert isinstance(caught.value, FourfoldError)
    assert "router_config.json" in str(caught.value)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize("path", ["", ".", "query_1_Dense"])
def test_a_router_that_is_a_part_of_itself_is_told(saved, path):
    def inside(config):
        config["types"][path] = "sentence_transformers.models.Router"
        config["structure"]["query"] = [path]

    if path not in ("", "."):
        (saved / path).rename(saved / "moved")
        (saved / path).symlink_to(saved, target_is_directory=True)
    change(saved, inside)
    with pytest.raises(FolderError, match=r"router_config\.json: this router is a part of itself") as caught:
        SentenceTransformer(str(saved), device="cpu")
    assert str(saved) in str(caught.value)


def test_after_a_router_that_is_a_part_of_itself_others_load(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "whole")
    test_a_router_that_is_a_part_of_itself_is_told(saved, "")
    SentenceTransformer(str(tmp_path / "whole"), device="cpu")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("gone", "said"),
    [("query_1_Dense", r"query_1_Dense/config\.json"), ("query_0_StaticEmbedding", "tokenizer.json is missing")],
)
def test_a_missing_folder_is_told_by_its_name(tmp_path, gone, said, nested):
    router = Router({"query": [static(0), Dense(WIDTH, 4)], "document": [static(1), Dense(WIDTH, 4)]})
    model = model_of(Router({"query": [router], "document": [router]}) if nested else router)
    model.save(tmp_path / "model")
    inside = tmp_path / "model" / ("query_0_Router" if nested else "")
    shutil.rmtree(inside / gone)
    with pytest.raises(FolderError, match=said) as caught:
        SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert str(inside / gone) in str(caught.value)


def test_routers_within_routers_travel(tmp_path):
    inner = Router({"query": [static(0)], "document": [static(1)]}, default_route="document")
    model = model_of(Router({"query": [inner, dense(2)], "other": [static(3)], "document": [inner]}))
    model.save(tmp_path / "model")
    assert (tmp_path / "model/query_0_Router/document_0_StaticEmbedding/model.safetensors").is_file()
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    for task in ("query", "other", "document", None):
        close(again.encode(TEXTS, task=task), model.encode(TEXTS, task=task))


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "C:\\x"])
def test_an_id_that_leaves_the_folder_is_refused(saved, path):
    def leave(config):
        config["types"][path] = config["types"]["query_1_Dense"]
        config["structure"]["query"][1] = path

    change(saved, leave)
    with pytest.raises(FolderError, match="relative path"):
        SentenceTransformer(str(saved), device="cpu")


def test_a_missing_file_is_a_missing_key(saved):
    (saved / "router_config.json").unlink()
    with pytest.raises(FolderError, match="'types'") as caught:
        SentenceTransformer(str(saved), device="cpu")
    assert isinstance(caught.value, KeyError)


def test_mappings_that_cannot_be_read_are_skipped(saved, caplog):
    mappings = {"zz": "query", "('q', None)": "query", "('a',)": "query", "__import__('os')": "query"}
    change(saved, lambda config: config["parameters"].update(route_mappings=mappings))
    model = SentenceTransformer(str(saved), device="cpu")
    assert model[0].route_mappings == {("q", None): "query"}
    for bad in ("zz", "('a',)", "__import__"):
        assert bad in caplog.text


def test_a_callers_class_is_asked_first(saved):
    class Mine(Dense):
        pass

    folder = str(saved)
    router = Router.load(folder, module_classes={"sentence_transformers.base.modules.dense.Dense": Mine})
    assert type(router.sub_modules["query"][1]) is Mine
    assert type(Router.load(folder).sub_modules["query"][1]) is Dense


def test_a_pickled_router_loads(tmp_path):
    model = model_of(Router({"query": [static(0)], "document": [static(1)]}))
    model.save(tmp_path / "model", safe_serialization=False)
    assert not list((tmp_path / "model").rglob("*.safetensors"))
    close(SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS, task="query"),
          model.encode(TEXTS, task="query"))  # fmt: skip
