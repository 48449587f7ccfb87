"""Model cards of both libraries: the same front matter, headings and data; the prose is each one's own."""

import dataclasses
import re

import pytest
import yaml
from tests.support import TEXTS

from fourfold import SentenceTransformer
from fourfold.families.model_card import SentenceTransformerModelCardData
from fourfold.testing import tiny, tiny_folder

CASES = {
    "plain": {},
    "prompts": {"prompts": {"query": "query: "}},
    "settings": {"truncate_dim": 16, "similarity_fn_name": "dot"},
}
DATA = {
    "nothing": {},
    "everything": {"language": "en", "license": "mit", "model_name": "Mine", "model_id": "me/mine", "tags": ["a", "b"]},
    "languages": {"language": ["en", "de"], "generate_widget_examples": False, "task_name": "finding"},
}


@pytest.fixture
def bare(tmp_path):
    """A folder without a card, which both libraries then write."""
    return lambda kind: _without_card(tmp_path / kind, kind)


def _without_card(folder, kind):
    tiny("dense", kind).save(str(folder), create_model_card=False)
    return str(folder)


def saved(cls, folder, tmp_path, name, card_data=None, **options):
    model = cls(folder, device="cpu", model_card_data=card_data, **options)
    model.save(str(tmp_path / name))
    return model, (tmp_path / name / "README.md").read_text(encoding="utf-8")


def front_of(text):
    return yaml.safe_load(text.split("---\n")[1])


def headings(text):
    """Return the headings, hidden ones included; an untrained model of theirs cites nothing, ours the method."""
    lines = re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines()
    found = [line for line in lines if re.match(r"#+ ", line)]
    return [line for line in found if line != "#### Sentence Transformers"]


@pytest.mark.parametrize("kind", ["bert", "static"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("data", DATA)
def test_front_matter_and_headings_are_equal(st, bare, tmp_path, kind, case, data):
    folder = bare(kind)
    _, ours = saved(
        SentenceTransformer, folder, tmp_path, "ours", SentenceTransformerModelCardData(**DATA[data]), **CASES[case]
    )
    _, theirs = saved(
        st.SentenceTransformer, folder, tmp_path, "theirs",
        st.SentenceTransformerModelCardData(**DATA[data]), **CASES[case],
    )  # fmt: skip
    assert front_of(ours) == front_of(theirs)
    assert list(front_of(ours)) == list(front_of(theirs))
    assert headings(ours) == headings(theirs)
    assert ("encode_query" in ours) is ("encode_query" in theirs)


def test_rows_of_the_description_are_equal(st, bare, tmp_path):
    folder = bare("bert")
    _, ours = saved(SentenceTransformer, folder, tmp_path, "ours", truncate_dim=8)
    _, theirs = saved(st.SentenceTransformer, folder, tmp_path, "theirs", truncate_dim=8)

    def rows(text):
        return re.findall(r"^(?:<!-- )?- \*\*(.+?):\*\* (.+)$", text.split("### Model Sources")[0], re.MULTILINE)

    assert [name for name, _ in rows(ours)] == [name for name, _ in rows(theirs)]
    known = [row for row in rows(theirs) if "nknown" not in row[1]]
    assert [row for row in rows(ours) if "nknown" not in row[1]] == known
    assert (
        ours.split("### Full Model Architecture")[1].split("```")[1]
        == (theirs.split("### Full Model Architecture")[1].split("```")[1])
    )


def test_results_give_the_same_index_and_the_same_tables(st, bare, tmp_path):
    from sentence_transformers.evaluation import (
        EmbeddingSimilarityEvaluator,
        InformationRetrievalEvaluator,
        TripletEvaluator,
    )

    evaluators = [
        EmbeddingSimilarityEvaluator(["a", "b", "c"], ["a", "b", "d"], [1, 0.5, 0.1], name="sts-dev"),
        EmbeddingSimilarityEvaluator(["a", "b", "c"], ["a", "x", "d"], [1, 0.4, 0.1], name="sts-test"),
        TripletEvaluator(["a", "b"], ["a", "c"], ["d", "e"], name="all-nli_dev"),
        InformationRetrievalEvaluator(
            {"q": "a"}, {"d": "a", "e": "b"}, {"q": {"d"}}, name="nano", truncate_dim=16, mrr_at_k=[3]
        ),
    ]
    folder = bare("static")
    theirs = st.SentenceTransformer(folder, device="cpu")
    ours = SentenceTransformer(folder, device="cpu")
    results = [evaluator(theirs) for evaluator in evaluators]
    theirs.model_card_data.training_logs = []
    for data in (theirs.model_card_data, ours.model_card_data):
        data.model_name = "Mine"
        for step, (evaluator, metrics) in enumerate(zip(evaluators, results, strict=True)):
            data.set_evaluation_metrics(evaluator, metrics, epoch=1, step=step // 2)
    assert ours.model_card_data.training_logs == theirs.model_card_data.training_logs
    cards = []
    for name, model in (("ours", ours), ("theirs", theirs)):
        model.save(str(tmp_path / name))
        cards.append((tmp_path / name / "README.md").read_text(encoding="utf-8"))
    assert front_of(cards[0]) == front_of(cards[1])
    assert headings(cards[0]) == headings(cards[1])
    tables = [[line.replace(" ", "") for line in text.splitlines() if re.match(r"\| ", line)] for text in cards]
    assert tables[0] == tables[1]
    assert len(tables[0]) > 20


def test_a_training_is_noted_alike(st, bare, tmp_path):
    from sentence_transformers.losses import CoSENTLoss, MultipleNegativesRankingLoss

    folder = bare("static")
    cards = []
    for name, cls in (("ours", SentenceTransformer), ("theirs", st.SentenceTransformer)):
        model = cls(folder, device="cpu")
        data = model.model_card_data
        losses = st.SentenceTransformer(folder, device="cpu")
        data.set_losses([MultipleNegativesRankingLoss(losses), CoSENTLoss(losses)])
        data.add_tags(["generated_from_trainer", "dataset_size:12"])
        data.set_best_model_step(50)
        data.non_default_hyperparameters, data.all_hyperparameters = {"lr": 0.1}, {"lr": 0.1, "x": {"y": 1}}
        data.training_logs = [
            {"Epoch": i / 100, "Step": i, "Training Loss": i / 7}
            | ({"Validation Loss": 1.0, "x loss": 0.12345, "sts_spearman": 0.5} if i % 50 == 0 else {})
            for i in range(1, 103)
        ]
        model.save(str(tmp_path / name))
        cards.append((tmp_path / name / "README.md").read_text(encoding="utf-8"))
    assert front_of(cards[0]) == front_of(cards[1])
    assert headings(cards[0]) == headings(cards[1])
    logs = [text.split("### Training Logs")[1].split("###")[0] for text in cards]
    for part in ("<details>", "bold row"):
        assert all(part in log for log in logs)
    assert re.findall(r"^\|.*$", logs[0], re.MULTILINE) == re.findall(r"^\|.*$", logs[1], re.MULTILINE)


@pytest.mark.parametrize("direction", ["ours reads theirs", "theirs reads ours"])
def test_a_card_is_kept_by_the_other_library(st, bare, tmp_path, direction):
    first, second = SentenceTransformer, st.SentenceTransformer
    if direction == "ours reads theirs":
        first, second = second, first
    _, text = saved(first, bare("static"), tmp_path, "first")
    _, again = saved(second, str(tmp_path / "first"), tmp_path, "second")
    assert again == text
    model = second(str(tmp_path / "first"), device="cpu")
    model.save(str(tmp_path / "third"), model_name="me/mine")
    named = (tmp_path / "third" / "README.md").read_text(encoding="utf-8")
    assert named == text.replace("sentence_transformers_model_id", "me/mine")


def test_a_card_of_another_family_is_dropped_by_both(st, tmp_path):
    import json

    folder = tmp_path / "other"
    tiny("dense", "bert").save(str(folder))
    (folder / "README.md").write_text("of another family")
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    (folder / "config_sentence_transformers.json").write_text(json.dumps({**config, "model_type": "CrossEncoder"}))
    for name, cls in (("ours", SentenceTransformer), ("theirs", st.SentenceTransformer)):
        _, text = saved(cls, str(folder), tmp_path, name)
        assert text.startswith("---\ntags:")


# -- data --------------------------------------------------------------------------------------------------------------


def test_arguments_and_defaults_are_equal(st):
    import inspect

    ours, theirs = (
        {name: p.default for name, p in inspect.signature(cls).parameters.items()}
        for cls in (SentenceTransformerModelCardData, st.SentenceTransformerModelCardData)
    )
    assert list(ours) == list(theirs)
    made, wanted = SentenceTransformerModelCardData(), st.SentenceTransformerModelCardData()
    for name in ours:
        assert getattr(made, name) == getattr(wanted, name), name


def test_what_is_filled_by_itself_has_the_same_names_and_starts(st):
    made, wanted = SentenceTransformerModelCardData(), st.SentenceTransformerModelCardData()
    names = [field.name for field in dataclasses.fields(wanted) if not field.init]
    # Their own insides: the template, caches of the rendering, and media files of samples.
    inside = {
        "template_path", "first_save", "widget_step", "save_dir", "similarities", "usage_examples_display",
        "label_example_list", "_asset_cache", "_cached_dict", "model", "version",
    }  # fmt: skip
    for name in set(names) - inside:
        assert getattr(made, name) == getattr(wanted, name), name
    assert made.model is None
    assert made.version["Python"] == wanted.version["python"]


@pytest.mark.parametrize("options", DATA.values(), ids=DATA)
def test_yaml_and_dictionary_are_equal(st, bare, options):
    folder = bare("static")
    ours = SentenceTransformer(folder, device="cpu", model_card_data=SentenceTransformerModelCardData(**options))
    theirs = st.SentenceTransformer(
        folder, device="cpu", model_card_data=st.SentenceTransformerModelCardData(**options)
    )
    assert ours.model_card_data.to_yaml() == theirs.model_card_data.to_yaml()
    known, wanted = ours.model_card_data.to_dict(), theirs.model_card_data.to_dict()
    shared = set(known) & set(wanted) - {"version", "usage_examples"}
    assert {key: known[key] for key in shared} == {key: wanted[key] for key in shared}
    assert {
        "model_max_length", "model_string", "supported_modalities", "output_dimensionality", "similarity_fn_name",
        "query_length", "document_length", "language", "license", "tags", "model_id", "base_model", "widget",
    } <= shared  # fmt: skip


def test_methods_do_the_same(st):
    results = []
    for cls in (SentenceTransformerModelCardData, st.SentenceTransformerModelCardData):
        data = cls(train_datasets=[{"id": "org/data"}, {"name": "x"}], local_files_only=True)
        data.set_language("de")
        data.set_license("mit")
        data.set_model_id("me/mine")
        data.add_tags("x")
        data.add_tags(["x", "y"])
        data.set_best_model_step(3)
        found = data.set_base_model("org/base")
        values = (data.language, data.license, data.model_id, data.tags, data.best_model_step, data.train_datasets)
        results.append((*values, found, data.base_model))
    assert results[0] == results[1]


def test_both_look_up_the_base_model(st, hub):
    hub.add("org/base", {"config.json": b"{}"})
    results = []
    for cls in (SentenceTransformerModelCardData, st.SentenceTransformerModelCardData):
        data = cls()
        results.append([(data.set_base_model(n), data.base_model) for n in ("org/none", "org/base", "org/none")])
        results[-1].append(data.base_model_revision)
    assert results[0] == results[1]


# -- the hub -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_both_push_what_the_other_loads(st, hub):
    import numpy as np

    ours = SentenceTransformer(str(tiny_folder("dense", "bert")), device="cpu")
    theirs = st.SentenceTransformer(str(tiny_folder("dense", "bert")), device="cpu")
    for name, model, cls in (("me/ours", ours, st.SentenceTransformer), ("me/theirs", theirs, SentenceTransformer)):
        url = model.push_to_hub(name, token="hf_good", private=True)
        assert url == f"{hub.url}/{name}/commit/{hub.head(name).sha}"
        assert hub.head(name).message == "Add new SentenceTransformer model"
        loaded = cls(name, device="cpu", token="hf_good")
        np.testing.assert_allclose(loaded.encode(TEXTS), ours.encode(TEXTS), atol=1e-5)
    assert set(hub.files("me/ours")) == set(hub.files("me/theirs"))


def test_functions_for_files_answer_alike(st, hub):
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
    from sentence_transformers import util

    from fourfold.store import source

    hub.add("me/model", {"modules.json": b"[]", "sub/x.json": b"{}"})
    for module in (source, util):
        assert module.is_sentence_transformer_model("me/model") is True
        assert module.load_file_path("me/model", "x.json", "sub").endswith("sub/x.json")
        assert module.load_file_path("me/model", "none.json") is None
        assert module.load_file_path("not a--name!", "x") is None
        assert module.load_dir_path("me/model", "sub").endswith("sub")
        assert module.load_dir_path("me/other", "sub", local_files_only=True) is None
        for wrong in ("../x", "/x", "C:\\x", "a\0b"):
            with pytest.raises(ValueError):
                module.load_file_path("me/model", wrong)
        with pytest.raises(OSError):
            module.load_dir_path("me/model", "none")
        for token in (None, "hf_good"):
            with pytest.raises(RepositoryNotFoundError):
                module.is_sentence_transformer_model("me/none", token=token)
            with pytest.raises(RepositoryNotFoundError):
                module.load_dir_path("me/none", "sub", token=token)
        with pytest.raises(RevisionNotFoundError):
            module.load_file_path("me/model", "x", revision="none")


@pytest.mark.parametrize("options", [{}, {"token": "hf_good"}, {"token": "hf_bad"}, {"revision": "none"}])
def test_constructors_raise_alike(st, hub, options):
    from huggingface_hub.errors import HfHubHTTPError

    hub.add("me/model", {"modules.json": b"[]"})
    name = "me/model" if options.get("token") == "hf_bad" or "revision" in options else "me/none"
    raised = []
    for cls in (SentenceTransformer, st.SentenceTransformer):
        with pytest.raises(HfHubHTTPError) as caught:
            cls(name, device="cpu", **options)
        raised.append(type(caught.value))
    assert raised[0] is raised[1]
