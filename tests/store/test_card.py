import yaml

from fourfold.store._card_training import Dataset, Training
from fourfold.store.card import Evaluation, Facts, front_matter, generate, read, with_model_id
from fourfold.store.source import Source


def facts(**changes):
    values = {
        "front": {"library_name": "x", "tags": ["a", "b"], "language": [], "license": None, "unknown": 1},
        "title": "Title",
        "summary": "One sentence.",
        "description": [("Size", "3"), ("License", None)],
        "architecture": "Model()",
        "usage": "print(1)",
    }
    return Facts(**{**values, **changes})


def front_of(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_front_matter_holds_known_keys_in_order_and_no_empty_ones():
    values = {"model-index": [1], "tags": [], "license": "mit", "language": ["en"], "other": 1, "base_model": None}
    assert list(front_matter(values)) == ["language", "license", "model-index"]
    assert front_of(generate(facts())) == {"tags": ["a", "b"], "library_name": "x"}


def test_front_matter_is_yaml_whatever_it_holds():
    values = {"license": "a: 'b' # c", "tags": ["- x", "ünï", "yes"], "widget": [{"text": "two\nlines"}]}
    assert front_of(generate(facts(front=values))) == values


def test_a_card_says_what_it_is_told():
    text = generate(facts())
    for part in (
        "# Title", "One sentence.", "- **Size:** 3", "<!-- - **License:** Unknown -->", "```\nModel()\n```",
        "```python\nprint(1)\n```",
    ):  # fmt: skip
        assert part in text
    for absent in ("## Evaluation", "### Training Logs", "### Training Dataset", "### Training Hyperparameters"):
        assert absent not in text


def test_results_are_a_table_with_the_primary_metric_in_bold():
    one = Evaluation("Similarity", "SomeEvaluator", ["dev"], {"pearson": [0.123456], "spearman": [1.0]}, "spearman")
    two = Evaluation("Ranking", "Other", ["a", "b"], {"ndcg": [0.5, 0.25]}, None, {"k": 10})
    text = generate(facts(evaluations=[one, two]))
    assert "#### Similarity\n\n* Dataset: `dev`\n* Evaluated with `SomeEvaluator`\n" in text
    assert "| pearson      | 0.1235  |\n| **spearman** | **1.0** |" in text
    assert "* Datasets: `a` and `b`" in text
    assert "| Metric | a   | b    |" in text
    assert "| ndcg   | 0.5 | 0.25 |" in text
    assert '      "k": 10' in text


def test_data_sets_are_described():
    dataset = Dataset(
        "nli", "org/nli", "0123456789", 12_345, ["anchor", "label", "x"],
        {"anchor": {"dtype": "string", "modality": "text", "data": {"min": "3 tokens"}}},
        {"anchor": ["a | b", "two\nlines", "x" * 2000], "label": [0, 1, 0]}, "SomeLoss", {"scale": 20.0},
    )  # fmt: skip
    text = generate(facts(training=Training(train=[dataset], evaluation=[Dataset("one"), Dataset("two")])))
    assert "### Training Dataset\n\n#### nli\n" in text
    assert "[nli](https://huggingface.co/datasets/org/nli) at [0123456](" in text
    assert "* Size: 12,345 training samples" in text
    assert "<code>anchor</code>, <code>label</code>, and <code>x</code>" in text
    assert "first 100 samples" in text
    assert "| details  | <ul><li>min: 3 tokens</li></ul> |" in text
    assert r"<code>a \| b</code>" in text
    assert "<code>two<br>lines</code>" in text
    assert f"<code>{'x' * 1000}...</code>" in text
    assert "* Loss: `SomeLoss` with these parameters:" in text
    assert '"scale": 20.0' in text
    assert "### Evaluation Datasets\n\n#### one" in text


def test_many_data_sets_are_folded():
    text = generate(facts(training=Training(train=[Dataset(f"set {i}") for i in range(4)])))
    assert text.count("<details><summary>set") == 4


def test_hyperparameters_and_times():
    training = Training(
        changed={"epochs": 3}, hyperparameters={"epochs": 3, "seed": 1}, times={"Training": "2.0 hours"},
        emissions={"Energy": "1 kWh"}, hardware={"CPU": "x"}, versions={"Python": "3"},
    )  # fmt: skip
    text = generate(facts(training=training))
    assert "#### Non-Default Hyperparameters\n\n- `epochs`: 3" in text
    assert "#### All Hyperparameters\n\n<details>" in text
    headings = ["### Environmental Impact", "### Training Hardware", "### Training Time", "### Framework Versions"]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)


COLUMNS = ["Epoch", "Step", "Training Loss", "part loss", "dev_ndcg"]


def test_logs_have_losses_first_and_the_saved_step_in_bold():
    logs = [
        {"Epoch": 0.5, "Step": 5, "dev_ndcg": 0.5},
        {"Epoch": 1, "Step": 10, "Training Loss": 1.23456, "part loss": 2.0},
    ]
    text = generate(facts(training=Training(logs=logs, best_step=10)))
    lines = text[text.index("### Training Logs") :].splitlines()[2:7]
    assert lines[0].split() == [
        "|",
        "Epoch",
        "|",
        "Step",
        "|",
        "Training",
        "Loss",
        "|",
        "part",
        "loss",
        "|",
        "dev_ndcg",
        "|",
    ]
    assert set(lines[1]) == set("|:-")
    assert lines[2].split() == ["|", "0.5", "|", "5", "|", "-", "|", "-", "|", "0.5", "|"]
    assert lines[3].split() == ["|", "**1**", "|", "**10**", "|", "**1.2346**", "|", "**2.0**", "|", "**-**", "|"]
    assert "* The bold row denotes the saved checkpoint." in text
    assert "<details>" not in text
    many = Training(logs=[{"Step": i} for i in range(101)])
    assert "### Training Logs\n\n<details>" in generate(facts(training=many))


def test_losses_that_share_a_citation_stand_together():
    text = generate(facts(citations={"A": "@misc{a}", "B": "\n@misc{a}\n", "C": "@misc{c}"}))
    assert "#### A and B\n\n```bibtex\n@misc{a}\n```" in text
    assert "#### C\n\n```bibtex\n@misc{c}\n```" in text


def test_only_the_placeholder_of_the_snippet_is_replaced():
    text = 'the_id\nmodel = Encoder("the_id")\nmodel = Encoder("the_id", device="cpu")\nmodel = Other("the_id")'
    assert with_model_id(text, "Encoder", "the_id", "me/x") == text.replace('Encoder("the_id"', 'Encoder("me/x"')


def test_an_absent_card_is_none(tmp_path):
    assert read(Source(str(tmp_path))) is None


def test_a_damaged_card_does_not_stop_a_model(tmp_path):
    (tmp_path / "README.md").write_bytes(b"caf\xe9")
    assert read(Source(str(tmp_path))) == "caf\ufffd"


def test_a_card_that_the_hub_refuses_does_not_stop_a_model(hub, caplog):
    commit = hub.add("me/model", {"README.md": b"x"})
    hub.fail = lambda asked: 403
    assert read(Source("me/model", commit.sha)) is None
    assert "the model card of me/model cannot be read" in caplog.text
