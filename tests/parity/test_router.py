"""Asymmetric models beside the older library: the same vectors, the same folders."""

import json

import numpy as np
import pytest
import torch
from tests.support import TEXTS, wordpiece
from tests.tolerances import PACKED

from fourfold import SentenceTransformer
from fourfold.testing import WIDTH, checkpoint


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("bert") / "bert"))


def static_weights():
    torch.manual_seed(0)
    return torch.randn(wordpiece().get_vocab_size(), WIDTH)


def head(parts, seed, out):
    torch.manual_seed(seed)
    return parts.Dense(WIDTH, out)


def inference_free(parts, bert):
    static = parts.StaticEmbedding(wordpiece(), static_weights())
    document = [parts.Transformer(bert), parts.Pooling(WIDTH)]
    return [parts.Router.for_query_document([static], document), parts.Normalize()]


def shared(parts, bert):
    transformer = parts.Transformer(bert)
    routes = {
        "query": [transformer, parts.Pooling(WIDTH, "cls"), head(parts, 0, WIDTH)],
        "document": [transformer, parts.Pooling(WIDTH)],
    }
    return [parts.Router(routes, route_mappings={("search", "text"): "query", (None, ("text", "image")): "document"})]


def heads(parts, bert):
    routes = {"query": [head(parts, 0, 8)], "document": [head(parts, 1, 8)]}
    return [parts.Transformer(bert), parts.Pooling(WIDTH), parts.Router(routes, default_route="document")]


MODELS = {"inference-free": inference_free, "shared": shared, "heads": heads}


class Theirs:
    def __init__(self):
        from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding

        self.Dense, self.Normalize, self.Router, self.Transformer = Dense, Normalize, Router, Transformer
        self.Pooling, self.StaticEmbedding = Pooling, StaticEmbedding


def ours():
    from fourfold import modules

    return modules


def tree(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() and p.name != "README.md"}


@pytest.mark.parametrize("name", MODELS)
def test_equal_vectors_and_folders_that_both_read(st, bert, tmp_path, name):
    our = SentenceTransformer(modules=MODELS[name](ours(), bert), device="cpu")
    their = st.SentenceTransformer(modules=MODELS[name](Theirs(), bert), device="cpu")
    our.save(str(tmp_path / "ours"))
    their.save(str(tmp_path / "theirs"))
    got, wanted = tree(tmp_path / "ours"), tree(tmp_path / "theirs")
    assert got.keys() == wanted.keys()
    for file in got:
        if file.endswith(".json") and not file.endswith("tokenizer.json"):
            assert json.loads(got[file].read_text()) == json.loads(wanted[file].read_text()), file
            assert list(json.loads(got[file].read_text())) == list(json.loads(wanted[file].read_text())), file
    models = [
        our,
        their,
        SentenceTransformer(str(tmp_path / "theirs"), device="cpu"),
        st.SentenceTransformer(str(tmp_path / "ours"), device="cpu"),
    ]
    calls = [lambda m: m.encode(TEXTS), lambda m: m.encode_query(TEXTS), lambda m: m.encode_document(TEXTS)]
    if name != "heads":
        calls.append(lambda m: m.encode([{"query": text} for text in TEXTS]))
    if name == "shared":
        calls.append(lambda m: m.encode(TEXTS, task="search"))
    for call in calls:
        first, *others = (call(model) for model in models)
        for other in others:
            np.testing.assert_allclose(other, first, atol=PACKED)
    assert set(our.get_model_kwargs()) == set(their.get_model_kwargs())
    assert our.get_embedding_dimension() == their.get_embedding_dimension()
    assert our.max_seq_length == their.max_seq_length
    assert repr(our[-1]) == repr(their[-1])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("task", ["query", None])
def test_features_have_the_same_names(st, bert, name, task):
    our = SentenceTransformer(modules=MODELS[name](ours(), bert), device="cpu")
    their = st.SentenceTransformer(modules=MODELS[name](Theirs(), bert), device="cpu")
    (got,), (wanted,) = (m.encode(["a text"], output_value=None, task=task) for m in (our, their))
    assert got.keys() == wanted.keys()
    assert {k: v for k, v in got.items() if isinstance(v, str)} == {
        k: v for k, v in wanted.items() if isinstance(v, str)
    }


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.encode(["a"], task="other"),
        lambda m: m.preprocess([{"query": "a"}, {"document": "b"}]),
        lambda m: m.encode([{"query": "a", "document": "b"}]),
        lambda m: m.encode([{"other": "a"}]),
        lambda m: m.encode([{"query": "a"}], task="document"),
        lambda m: m.encode(["a"], unknown=3),
    ],
)
def test_both_refuse(st, bert, call):
    for model in (
        SentenceTransformer(modules=shared(ours(), bert), device="cpu"),
        st.SentenceTransformer(modules=shared(Theirs(), bert), device="cpu"),
    ):
        with pytest.raises(ValueError):
            call(model)


def test_rows_of_different_tasks_are_the_older_librarys_in_calls_of_their_own(st, bert):
    our = SentenceTransformer(modules=inference_free(ours(), bert), device="cpu")
    their = st.SentenceTransformer(modules=inference_free(Theirs(), bert), device="cpu")
    mixed = [{("query", "document")[i % 2]: text} for i, text in enumerate(TEXTS)]
    with pytest.raises(ValueError, match="different task"):
        their.encode(mixed)
    wanted = np.stack([their.encode(item) for item in mixed])
    np.testing.assert_allclose(our.encode(mixed), wanted, atol=PACKED)


def test_both_refuse_dictionaries_beside_a_task(st, bert):
    for model in (
        SentenceTransformer(modules=inference_free(ours(), bert), device="cpu"),
        st.SentenceTransformer(modules=inference_free(Theirs(), bert), device="cpu"),
    ):
        for inputs in ([{"query": "a"}], [{"query": "a"}, {"document": "b"}]):
            with pytest.raises((ValueError, TypeError)):
                model.encode_query(inputs)
