"""Model cards of sparse encoders in both libraries: the same front matter, headings and data; the prose is our own."""

import pytest
from tests.parity.test_cards import front_of, headings, saved
from tests.support import TEXTS

from fourfold import SparseEncoder
from fourfold.families.model_card import SparseEncoderModelCardData
from fourfold.modules import Dense, Pooling, Router, SparseAutoEncoder, Transformer
from fourfold.testing import WIDTH, checkpoint, tiny

DATA = {
    "nothing": {},
    "everything": {"language": "en", "license": "mit", "model_name": "Mine", "model_id": "me/mine", "tags": ["a", "b"]},
    "task": {"language": ["en", "de"], "generate_widget_examples": False, "task_name": "finding"},
}


def routed():
    return SparseEncoder(
        modules=[Router.for_query_document([*tiny("sparse", "static")], [*tiny("sparse")])], device="cpu"
    )


def beneath_routes(folder):
    body = Transformer(str(checkpoint("bert", folder)))
    router = Router.for_query_document([Dense(WIDTH, WIDTH)], [Dense(WIDTH, WIDTH)])
    return SparseEncoder(modules=[body, Pooling(WIDTH), router, SparseAutoEncoder(WIDTH, 40, 3, 4)], device="cpu")


MODELS = {
    "splade": lambda folder: tiny("sparse"),
    "few": lambda folder: tiny("sparse", max_active_dims=16, similarity_fn_name="cosine"),
    "csr": lambda folder: tiny("sparse", "qwen3"),
    "static": lambda folder: tiny("sparse", "static"),
    "inference-free": lambda folder: routed(),
    "routes above": beneath_routes,
}


@pytest.fixture
def bare(tmp_path):
    """A folder without a card, which both libraries then write."""

    def make(kind):
        MODELS[kind](tmp_path / "checkpoint").save(str(tmp_path / kind), create_model_card=False)
        return str(tmp_path / kind)

    return make


def rows(text):
    """Return the rows of the description that both know; their model of unknown width has ``None`` dimensions."""
    lines = text.split("### Model Description")[1].split("### Model Sources")[0].splitlines()
    pairs = (line.removeprefix("- **").split(":** ") for line in lines if line.startswith("- **"))
    return {name: value for name, value in pairs if name != "Routes"}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("data", DATA)
def test_front_matter_headings_and_description_are_equal(st, bare, tmp_path, kind, data):
    folder = bare(kind)
    ours, text = saved(SparseEncoder, folder, tmp_path, "ours", SparseEncoderModelCardData(**DATA[data]))
    theirs, other = saved(st.SparseEncoder, folder, tmp_path, "theirs", st.SparseEncoderModelCardData(**DATA[data]))
    assert front_of(text) == front_of(other)
    assert list(front_of(text)) == list(front_of(other))
    assert headings(text) == headings(other)
    assert ours.model_card_data.tags == theirs.model_card_data.tags
    got, wanted = rows(text), rows(other)
    assert list(got) == list(wanted)
    # How many of the dimensions are active is said in other words.
    dimensions = [found.pop("Output Dimensionality") for found in (got, wanted)]
    assert got == wanted
    if data != "task":  # who does not run the model does not know the size of its vocabulary
        numbers = [[int(word) for word in row.replace(",", "").split() if word.isdigit()] for row in dimensions]
        assert numbers[0] == numbers[1]
    strings = (
        part.split("### Full Model Architecture")[1].split("```")[1].replace("'embedding_dimension': None", "")
        for part in (text, other)
    )
    assert next(strings) == next(strings)


@pytest.mark.parametrize("kind", MODELS)
def test_dictionaries_are_equal(st, bare, kind):
    folder = bare(kind)
    ours, theirs = (cls(folder, device="cpu") for cls in (SparseEncoder, st.SparseEncoder))
    for model in (ours, theirs):
        model.encode_query(TEXTS)
        model.encode_document(TEXTS)
    assert ours.model_card_data.to_yaml() == theirs.model_card_data.to_yaml()
    known, wanted = ours.model_card_data.to_dict(), theirs.model_card_data.to_dict()
    # Whether it is a model of retrieval they settle at once, and ours when it is asked.
    shared = set(known) & set(wanted) - {"version", "usage_examples", "ir_model"}
    assert {key: known[key] for key in shared} == {key: wanted[key] for key in shared}
    assert {"model_max_length", "output_dimensionality", "similarity_fn_name", "tags", "model_name"} <= shared


def test_arguments_and_defaults_are_equal(st):
    import inspect

    ours, theirs = (
        list(inspect.signature(cls).parameters) for cls in (SparseEncoderModelCardData, st.SparseEncoderModelCardData)
    )
    assert ours == theirs
    made, wanted = SparseEncoderModelCardData(), st.SparseEncoderModelCardData()
    # Theirs knows neither its task nor its pipeline before it has a model.
    for name in {*ours, "library_name", "widget", "datasets"} - {"task_name"}:
        assert getattr(made, name) == getattr(wanted, name), name


@pytest.mark.parametrize("direction", ["ours reads theirs", "theirs reads ours"])
def test_a_card_is_kept_by_the_other_library(st, bare, tmp_path, direction):
    first, second = SparseEncoder, st.SparseEncoder
    if direction == "ours reads theirs":
        first, second = second, first
    _, text = saved(first, bare("inference-free"), tmp_path, "first")
    _, again = saved(second, str(tmp_path / "first"), tmp_path, "second")
    assert again == text
    model = second(str(tmp_path / "first"), device="cpu")
    model.save(str(tmp_path / "third"), model_name="me/mine")
    named = (tmp_path / "third" / "README.md").read_text(encoding="utf-8")
    assert named == text.replace("sparse_encoder_model_id", "me/mine")


def test_a_trained_model_gets_a_fresh_card_in_both(st, bare, tmp_path):
    _, first = saved(SparseEncoder, bare("splade"), tmp_path, "first")
    texts = []
    for name, cls in (("ours", SparseEncoder), ("theirs", st.SparseEncoder)):
        model = cls(str(tmp_path / "first"), device="cpu")
        model.model_card_data.add_tags("generated_from_trainer")
        model.save(str(tmp_path / name))
        texts.append((tmp_path / name / "README.md").read_text(encoding="utf-8"))
    assert front_of(texts[0]) == front_of(texts[1])
    assert front_of(texts[0])["tags"][-2:] == ["splade", "generated_from_trainer"]
    assert first not in texts


@pytest.mark.filterwarnings("ignore")
def test_both_push_what_the_other_loads(st, hub, bare):
    import numpy as np

    folder = bare("inference-free")
    ours, theirs = SparseEncoder(folder, device="cpu"), st.SparseEncoder(folder, device="cpu")
    for name, model, cls in (("me/ours", ours, st.SparseEncoder), ("me/theirs", theirs, SparseEncoder)):
        url = model.push_to_hub(name, token="hf_good", private=True)
        assert url == f"{hub.url}/{name}/commit/{hub.head(name).sha}"
        assert hub.head(name).message == "Add new SparseEncoder model"
        loaded = cls(name, device="cpu", token="hf_good")
        for method in ("encode_query", "encode_document"):
            got, wanted = (getattr(each, method)(TEXTS).to_dense().numpy() for each in (loaded, ours))
            np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert set(hub.files("me/ours")) == set(hub.files("me/theirs"))
