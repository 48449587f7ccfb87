"""Card data, and the cards that models write."""

import copy
import logging
import pickle
import time
from types import SimpleNamespace

import pytest
import yaml

from fourfold import SentenceTransformer, SparseEncoder
from fourfold.families.model_card import (
    SentenceTransformerModelCardData,
    SparseEncoderModelCardData,
    generate_model_card,
)
from fourfold.modules import Pooling, Router, SparseAutoEncoder, Transformer
from fourfold.testing import WIDTH, checkpoint, tiny, tiny_folder


def front_of(text):
    return yaml.safe_load(text.split("---\n")[1])


def card_of(model, tmp_path, **options):
    model.save(str(tmp_path / "saved"), **options)
    return (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def model():
    return tiny("dense", "static")


class Evaluator:
    def __init__(self, name="", primary=None, config=None):
        self.name, self.primary_metric, self._config = name, primary, config or {}

    def get_config_dict(self):
        return self._config


class SimilarityEvaluator(Evaluator):
    description = "Semantic Similarity"


class InformationRetrievalEvaluator(Evaluator): ...


# -- data --------------------------------------------------------------------------------------------------------------


def test_a_language_alone_becomes_a_list():
    assert SentenceTransformerModelCardData(language="en").language == ["en"]
    data = SentenceTransformerModelCardData(language=["en", "de"])
    data.set_language("fr")
    assert data.language == ["fr"]


@pytest.mark.parametrize("model_id", ["model", "a/b/c"])
def test_a_model_id_needs_an_owner(model_id, caplog):
    assert SentenceTransformerModelCardData(model_id=model_id).model_id is None
    assert "model_id must be owner/name" in caplog.text


def test_tags_are_added_once():
    data = SentenceTransformerModelCardData()
    data.add_tags("new")
    data.add_tags(["new", "dense", "other"])
    assert data.tags == ["sentence-transformers", "sentence-similarity", "feature-extraction", "dense", "new", "other"]
    assert SentenceTransformerModelCardData().tags[-1] == "dense"


def test_the_front_matter_keeps_its_order():
    data = SentenceTransformerModelCardData(language="en", license="mit")
    data.datasets, data.base_model = ["org/data"], "org/base"
    keys = ["language", "license", "tags", "base_model", "datasets", "pipeline_tag", "library_name"]
    assert list(yaml.safe_load(data.to_yaml())) == keys


def test_data_names_everything_without_a_model_and_more_with_one(model):
    assert SentenceTransformerModelCardData().to_dict()["pipeline_tag"] == "sentence-similarity"
    known = model.model_card_data.to_dict()
    assert known["output_dimensionality"] == WIDTH
    assert known["similarity_fn_name"] == "Cosine Similarity"
    assert known["supported_modalities"] == ["Text"]
    assert known["model_string"] == repr(model)


def test_data_does_not_keep_a_model_alive_nor_stop_it_from_being_copied(model):
    import gc
    import weakref

    data = model.model_card_data
    assert copy.deepcopy(model).model_card_data.tags == data.tags
    assert pickle.loads(pickle.dumps(data)).tags == data.tags
    assert data.model is model
    gc.collect()
    gc.disable()
    try:
        alive = weakref.ref(tiny("dense", "static"))
        assert alive() is None
    finally:
        gc.enable()


# -- the hub's word about names ----------------------------------------------------------------------------------------


def test_a_base_model_that_the_hub_knows_is_kept(hub):
    commit = hub.add("org/base", {"config.json": b"{}"})
    data = SentenceTransformerModelCardData()
    assert data.set_base_model("org/base")
    assert (data.base_model, data.base_model_revision) == ("org/base", commit.sha)
    assert not data.set_base_model("org/none")
    assert data.base_model == "org/base"


def test_nothing_is_looked_up_when_it_must_not(hub, tmp_path, monkeypatch):
    assert not SentenceTransformerModelCardData(local_files_only=True).set_base_model("org/base")
    assert not SentenceTransformerModelCardData().set_base_model(str(tmp_path))
    SentenceTransformerModelCardData(local_files_only=True, train_datasets=[{"id": "org/data"}])
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not SentenceTransformerModelCardData().set_base_model("org/base")
    assert SentenceTransformerModelCardData(train_datasets=[{"id": "org/data"}]).train_datasets[0]["id"] == "org/data"
    assert hub.asked() == []


def test_data_sets_get_names_and_lose_ids_that_nobody_knows(hub, caplog):
    hub.datasets["org/data"] = "de"
    data = SentenceTransformerModelCardData(
        train_datasets=[{"id": "org/data"}, {"name": "mine"}], eval_datasets=[{"id": "org/none", "name": "other"}]
    )
    assert data.train_datasets == [{"id": "org/data", "name": "org/data"}, {"name": "mine"}]
    assert data.eval_datasets == [{"name": "other"}]
    assert data.datasets == ["org/data"]
    assert data.language == ["de"]
    assert "the hub has no data set 'org/none'" in caplog.text


def test_a_hub_that_cannot_be_reached_stops_no_save(hub, tmp_path):
    folder = checkpoint("bert", tmp_path / "bert")
    model = SentenceTransformer(modules=[Transformer(str(folder)), Pooling(WIDTH)], device="cpu")
    model.config._name_or_path = "org/base"
    hub.stop()
    start = time.perf_counter()
    assert "base_model" not in front_of(card_of(model, tmp_path))
    assert time.perf_counter() - start < 20


def test_the_base_model_is_found_by_the_name_in_the_config_once(hub, tmp_path):
    hub.add("org/base", {"config.json": b"{}"})
    folder = checkpoint("bert", tmp_path / "bert")
    model = SentenceTransformer(modules=[Transformer(str(folder)), Pooling(WIDTH)], device="cpu")
    model.config._name_or_path = "org/base"
    assert hub.asked() == []
    text = card_of(model, tmp_path)
    assert front_of(text)["base_model"] == "org/base"
    assert "# SentenceTransformer based on org/base\n" in text
    assert "<!-- at revision " in text
    card_of(model, tmp_path)
    assert hub.asked() == ["GET /api/models/org/base"]


# -- cards of models ---------------------------------------------------------------------------------------------------


def run_snippet(text, capsys):
    """Run a card's snippet, assert that it prints what it says, and return it with what it says."""
    snippet = text.split("```python\n")[1].split("```")[0]
    exec(snippet, {})
    printed = [f"# {line}" for line in capsys.readouterr().out.splitlines()]
    said = [line for line in snippet.splitlines() if line.startswith("# ") and not line.startswith("# From")]
    assert printed == said
    return snippet, said


def test_the_snippet_runs_and_prints_what_it_says(model, tmp_path, capsys):
    for prompts in ({}, {"query": "query: "}):
        model.prompts.update(prompts)
        text = card_of(model, tmp_path, model_name="me/mine").replace('"me/mine"', f'"{tmp_path / "saved"}"')
        snippet, _ = run_snippet(text, capsys)
        assert ("encode_query" in snippet) is bool(prompts)


def test_the_snippet_may_be_left_without_results(tmp_path):
    model = tiny("dense", "static", model_card_data=SentenceTransformerModelCardData(generate_widget_examples=False))
    assert "tensor(" not in card_of(model, tmp_path)


def test_a_model_that_cannot_be_run_still_has_a_card(model, tmp_path, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise RuntimeError("no")

    monkeypatch.setattr(SentenceTransformer, "encode", fail)
    text = card_of(model, tmp_path)
    assert "model.encode(texts)" in text
    assert "tensor(" not in text
    assert "could not be run" in caplog.text


def test_a_card_that_cannot_be_made_stops_no_save(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(SentenceTransformerModelCardData, "get_model_specific_metadata", None)
    monkeypatch.setattr(SentenceTransformerModelCardData, "snippet", None)
    model.save(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "modules.json").exists()
    assert not (tmp_path / "saved" / "README.md").exists()
    [record] = [r for r in caplog.records if "the model card could not be made" in r.message]
    assert record.levelno == logging.ERROR
    assert record.exc_info


def test_a_save_in_the_middle_of_a_training_changes_no_mode(tmp_path):
    model = tiny("dense", "bert")
    model.train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    model.save(str(tmp_path / "saved"))
    assert [module.training for module in model.modules()] == modes


def test_the_name_of_a_save_becomes_the_models_id_unless_it_is_a_path_or_there_is_one(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me").mkdir()
    card_of(model, tmp_path, model_name="me")
    assert model.model_card_data.model_id is None
    assert 'SentenceTransformer("me/mine")' in card_of(model, tmp_path, model_name="me/mine")
    assert 'SentenceTransformer("me/mine")' in card_of(model, tmp_path, model_name="me/other")


def test_what_the_author_says_is_in_the_card(tmp_path):
    data = SentenceTransformerModelCardData(
        language=["en", "de"], license="mit", model_name="My model", model_id="me/mine",
        train_datasets=[{"name": "pairs", "columns": ["question", "answer"], "size": 12}], tags=["a"],
        task_name="finding things",
    )  # fmt: skip
    text = card_of(tiny("dense", "static", model_card_data=data), tmp_path, train_datasets=["org/more"])
    assert front_of(text) == {
        "language": ["en", "de"], "license": "mit", "tags": ["a"], "datasets": ["org/more"],
        "pipeline_tag": "sentence-similarity", "library_name": "sentence-transformers",
    }  # fmt: skip
    for part in (
        "# My model\n", "for finding things.", "- **Languages:** en, de", "- **License:** mit",
        "- **Training Datasets:** pairs, org/more", "* Size: 12 training samples", "encode_query(queries)",
    ):  # fmt: skip
        assert part in text


def test_a_card_that_came_with_the_model_is_kept(tmp_path):
    folder = tiny_folder("dense", "static")
    mine = 'my own card\nmodel = SentenceTransformer("sentence_transformers_model_id", device="cpu")\n'
    model = SentenceTransformer(str(folder), device="cpu")
    model._model_card_text = mine
    assert card_of(model, tmp_path) == mine
    assert card_of(model, tmp_path, model_name="me/mine") == mine.replace("sentence_transformers_model_id", "me/mine")
    model.model_card_data.add_tags("generated_from_trainer")
    assert front_of(card_of(model, tmp_path))["tags"][-1] == "generated_from_trainer"


def test_a_saved_card_is_loaded_and_saved_again(model, tmp_path):
    text = card_of(model, tmp_path)
    (tmp_path / "saved" / "README.md").write_text(text + "\nmore\n", encoding="utf-8")
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    again.save(str(tmp_path / "again"))
    assert (tmp_path / "again" / "README.md").read_text(encoding="utf-8") == text + "\nmore\n"


def test_no_card_on_request(model, tmp_path):
    model.save(str(tmp_path / "saved"), create_model_card=False)
    assert not (tmp_path / "saved" / "README.md").exists()


# -- sparse encoders ---------------------------------------------------------------------------------------------------


def routed(**lengths):
    """Return a sparse model whose queries are looked up and whose documents run through a model."""
    looked_up, spelt = [*tiny("sparse", "static")], [*tiny("sparse")]
    for part, length in ((looked_up[0], lengths.get("query")), (spelt[0], lengths.get("document"))):
        if length:
            part.max_seq_length = length
    return SparseEncoder(modules=[Router.for_query_document(looked_up, spelt)], device="cpu")


def beneath_routes():
    router = Router.for_query_document([*tiny()][2:], [*tiny()][2:])
    return SparseEncoder(modules=[*[*tiny()][:2], router, SparseAutoEncoder(WIDTH, 40, k=3, k_aux=4)], device="cpu")


SPARSE_KINDS = {
    "SPLADE": (lambda: tiny("sparse"), ["splade"]),
    "CSR": (lambda: tiny("sparse", "qwen3"), ["csr"]),
    "Inference-free": (lambda: tiny("sparse", "static"), ["inference-free"]),
    "Asymmetric Inference-free SPLADE": (routed, ["asymmetric", "inference-free", "splade"]),
    "Asymmetric CSR": (beneath_routes, ["asymmetric", "csr"]),
    "": (lambda: SparseEncoder(modules=[*tiny()], device="cpu"), []),
}


@pytest.mark.parametrize("kind", SPARSE_KINDS)
def test_a_sparse_model_is_tagged_and_called_by_its_modules(kind, tmp_path):
    make, tags = SPARSE_KINDS[kind]
    model = make()
    data, title = model.model_card_data, f"{kind} Sparse Encoder".strip()
    assert data.tags == ["sentence-transformers", "sparse-encoder", "sparse", *tags]
    assert data.to_dict()["model_name"] == title
    text = card_of(model, tmp_path)
    assert front_of(text) == {
        "tags": data.tags, "pipeline_tag": "feature-extraction", "library_name": "sentence-transformers"
    }  # fmt: skip
    article = "an" if kind[:1] in ("A", "I") else "a"
    for part in (f"\n# {title}\n", f"This is {article} {title} model.", f"- **Model Type:** {title}\n", "Dot Product"):
        assert part in text
    assert SparseEncoderModelCardData().tags == ["sentence-transformers", "sparse-encoder", "sparse"]


def test_a_sparse_models_author_has_the_last_word(tmp_path):
    data = SparseEncoderModelCardData(model_name="Mine", tags=["a"], language="en", license="mit", model_id="me/mine")
    text = card_of(tiny("sparse", model_card_data=data), tmp_path)
    assert front_of(text)["tags"] == ["a", "splade"]
    assert "\n# Mine\n" in text
    assert "- **Model Type:** SPLADE Sparse Encoder\n" in text
    assert 'SparseEncoder("me/mine")' in text


@pytest.mark.parametrize(
    ("make", "row", "said"),
    [
        (lambda: tiny("sparse"), "154 dimensions", "weights of 154 terms, most of them zero, for"),
        (lambda: tiny("sparse", max_active_dims=16), "154 dimensions, at most 16 of them active",
         "weights of 154 terms, at most 16 of them active, for"),
        (lambda: tiny("sparse", "qwen3"), "128 dimensions, at most 8 of them active",
         "weights of 128 units, at most 8 of them active, for"),
        (routed, "154 dimensions", "weights of 154 terms"),
    ],
)  # fmt: skip
def test_the_size_of_sparse_rows_is_in_the_card_of_a_model_that_has_never_run(make, row, said):
    text = generate_model_card(make())
    assert f"- **Output Dimensionality:** {row}\n" in text
    assert said in text


def test_routes_are_described(recwarn, caplog):
    text = generate_model_card(routed())
    assert "- **Routes:** query (SparseStaticEmbedding); document (Transformer, SpladePooling)\n" in text
    assert "- **Maximum Sequence Length:** 128 tokens\n" in text
    model = routed(query=12, document=100)
    assert "- **Maximum Sequence Length:** 12 tokens (query), 100 tokens (document)\n" in generate_model_card(model)
    assert model.model_card_data.get_model_specific_metadata()["model_max_length"] == 100
    assert "max_seq_length" not in caplog.text
    assert "Routes" not in generate_model_card(tiny("sparse"))


@pytest.mark.parametrize("kind", [kind for kind in SPARSE_KINDS if kind])
@pytest.mark.parametrize("prompts", [{}, {"query": "query "}], ids=["none", "query"])
def test_a_sparse_snippet_runs_and_prints_what_it_says(kind, prompts, tmp_path, capsys):
    model = SPARSE_KINDS[kind][0]()
    model.prompts.update(prompts)
    text = card_of(model, tmp_path, model_name="me/mine").replace('"me/mine"', f'"{tmp_path / "saved"}"')
    snippet, said = run_snippet(text, capsys)
    assert ("encode_query" in snippet) is (bool(prompts) or "Asymmetric" in kind)
    # Units of an auto-encoder are no words.
    assert ("model.decode" in snippet) is ("CSR" not in kind)
    assert "torch.Size([" in said[0]


def test_a_sparse_card_is_kept_and_names_the_model(tmp_path):
    text = card_of(tiny("sparse", "static"), tmp_path)
    assert "sparse_encoder_model_id" in text
    again = SparseEncoder(str(tmp_path / "saved"), device="cpu")
    again.save(str(tmp_path / "again"), model_name="me/mine")
    kept = (tmp_path / "again" / "README.md").read_text(encoding="utf-8")
    assert kept == text.replace("sparse_encoder_model_id", "me/mine")


def test_a_sparse_card_without_results():
    data = SparseEncoderModelCardData(generate_widget_examples=False)
    text = generate_model_card(tiny("sparse", model_card_data=data))
    assert "model.decode(embeddings[0], top_k=5)" in text
    assert "# torch.Size" not in text


# -- what a training notes down ----------------------------------------------------------------------------------------


def test_results_reach_the_log_the_tables_and_the_index(model):
    data = model.model_card_data
    data.model_name = "Mine"
    data.set_evaluation_metrics(
        SimilarityEvaluator("dev", "dev_spearman"), {"dev_pearson": 0.5, "dev_spearman": 0.25}, 1, 10
    )
    data.set_evaluation_metrics(
        SimilarityEvaluator("test_set", "test_set_spearman"), {"test_set_pearson": 1, "test_set_spearman": 0.75}, 1, 10
    )
    data.set_evaluation_metrics(Evaluator("", "loss"), {"loss": 0.123456, "note": "text"}, 2, 20)
    assert data.training_logs == [
        {"Epoch": 1, "Step": 10, "dev_spearman": 0.25, "test_set_spearman": 0.75},
        {"Epoch": 2, "Step": 20, "loss": 0.123456},
    ]
    text = generate_model_card(model)
    front = front_of(text)
    assert front["metrics"] == ["pearson", "spearman", "loss", "note"]
    [index] = front["model-index"]
    assert index["name"] == "Mine"
    assert index["results"][1] == {
        "task": {"type": "semantic-similarity", "name": "Semantic Similarity"},
        "dataset": {"name": "test set", "type": "test_set"},
        "metrics": [
            {"type": "pearson", "value": 1.0, "name": "Pearson"},
            {"type": "spearman", "value": 0.75, "name": "Spearman"},
        ],
    }  # fmt: skip
    assert [metric["type"] for metric in index["results"][2]["metrics"]] == ["loss"]
    assert text.count("#### Semantic Similarity") == 1
    assert "| **spearman** | **0.25** | **0.75** |" in text
    assert "| **loss** | **0.1235** |" in text


def test_evaluators_with_other_settings_have_tables_of_their_own(model):
    for name, config in (("a", {"k": 1}), ("b", {"k": 2})):
        evaluator = SimilarityEvaluator(name, None, config)
        model.model_card_data.set_evaluation_metrics(evaluator, {f"{name}_x": 0.5})
    assert generate_model_card(model).count("#### Semantic Similarity") == 2


def test_an_evaluator_of_retrieval_makes_the_snippet_one_of_retrieval(model):
    assert "encode_query" not in generate_model_card(model)
    model.model_card_data.set_evaluation_metrics(InformationRetrievalEvaluator("x"), {"x_ndcg": 1.0})
    assert "encode_query" in generate_model_card(model)
    assert "#### Information Retrieval" in generate_model_card(model)


def test_losses_are_tags_and_citations(model):
    class SomeLoss:
        citation = "@misc{some}"

    class Other: ...

    model.model_card_data.set_losses([SomeLoss(), Other()])
    assert model.model_card_data.tags[-2:] == ["loss:SomeLoss", "loss:Other"]
    text = generate_model_card(model)
    assert "#### SomeLoss\n\n```bibtex\n@misc{some}\n```" in text
    assert "#### Sentence Transformers\n\n```bibtex\n@inproceedings{reimers" in text


class Rows(list):
    def __init__(self, rows):
        super().__init__(rows)
        self.column_names = list(rows[0])


@pytest.mark.parametrize("several", [False, True])
def test_widget_and_snippet_show_short_rows_of_the_data(model, several):
    rows = Rows([{"anchor": "a" * (i + 1), "score": 1.0, "positive": "p" * (i + 1)} for i in reversed(range(30))])
    data = model.model_card_data
    data.set_widget_examples({"x": rows} if several else rows)
    assert len(data.widget) == 5
    assert data.widget[0] == {"source_sentence": "a", "sentences": ["p", "p" * 6, "p" * 7]}
    assert data.usage_examples == ["a", "p", "p" * 6, "p" * 7]
    text = generate_model_card(model)
    assert front_of(text)["widget"] == data.widget
    assert "    'pppppp',\n" in text


def test_data_without_text_leaves_the_examples_alone(model):
    model.model_card_data.set_widget_examples(Rows([{"label": 1}]))
    assert model.model_card_data.widget == []
    assert "The bakery" in generate_model_card(model)


def test_hyperparameters_logs_and_times(model):
    data = model.model_card_data
    data.non_default_hyperparameters, data.all_hyperparameters = {"lr": 0.1}, {"lr": 0.1, "seed": 1}
    data.training_logs = [{"Epoch": 1.0, "Step": 5, "Training Loss": 0.5}]
    data._training_start_time, data.evaluation_duration = time.time() - 7200, 60.0
    data.set_best_model_step(5)
    text = generate_model_card(model)
    assert "- `lr`: 0.1\n" in text
    assert "| **1.0** | **5** | **0.5**       |" in text
    assert "- Training: 2.0 hours\n- Evaluation: 1.0 minutes\n- Total: 2.0 hours" in text


def test_measured_emissions(model):
    measured = SimpleNamespace(
        emissions=0.5, energy_consumed=1.25, duration=3600, on_cloud="N", cpu_model="cpu", ram_total_size=8.0,
        gpu_model="gpu",
    )  # fmt: skip
    model.model_card_data.code_carbon_callback = SimpleNamespace(tracker=SimpleNamespace(final_emissions_data=measured))
    text = generate_model_card(model)
    assert front_of(text)["co2_eq_emissions"]["emissions"] == 500.0
    assert "- Carbon Emitted: 0.500 kg of CO2" in text
    assert "- GPU Model: gpu" in text


def test_versions_are_those_of_what_is_installed(model):
    import torch

    text = generate_model_card(model)
    assert f"- PyTorch: {torch.__version__}" in text
