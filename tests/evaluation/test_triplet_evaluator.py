import json
import logging

import numpy as np
import pytest

from fourfold import InputExample
from fourfold.errors import InputError
from fourfold.evaluation import TripletEvaluator
from fourfold.testing import tiny

ANCHORS, POSITIVES, NEGATIVES = ["the text", "a query"], ["the text", "world"], ["x", "a query"]


class Given:
    """A model whose text is its vector."""

    similarity_fn_name = "dot"

    def encode_query(self, sentences, **options):
        return np.array(sentences, dtype=np.float32)

    encode_document = encode_query

    @property
    def model_card_data(self):
        return self

    def set_evaluation_metrics(self, *args, **kwargs):
        pass


@pytest.mark.parametrize(
    ("margin", "accuracy"), [(None, 0.75), (0, 0.75), (1, 0.5), (np.float64(1), 0.5), ({"dot": 2}, 0.25), ({}, 0.75)]
)
def test_margins(margin, accuracy):
    columns = [[[1.0]] * 4, [[1.0], [2.0], [3.0], [0.0]], [[0.0]] * 4]
    assert TripletEvaluator(*columns, margin=margin)(Given()) == {"dot_accuracy": accuracy}


def test_a_tie_is_no_success():
    assert TripletEvaluator(ANCHORS, POSITIVES, POSITIVES)(tiny()) == {"cosine_accuracy": 0.0}


def test_a_right_and_a_wrong_row(tmp_path):
    evaluator = TripletEvaluator(
        ANCHORS, POSITIVES, NEGATIVES, name="mine", similarity_fn_names=["cosine", "manhattan"]
    )
    assert evaluator(tiny(), str(tmp_path)) == {
        "mine_cosine_accuracy": 0.5, "mine_manhattan_accuracy": 0.5, "mine_max_accuracy": 0.5,
    }  # fmt: skip
    assert evaluator.primary_metric == "mine_max_accuracy"
    table = (tmp_path / "triplet_evaluation_mine_results.csv").read_text()
    assert table.splitlines() == ["epoch,steps,accuracy_cosine,accuracy_manhattan", "-1,-1,0.5,0.5"]


def test_settings_are_json():
    evaluator = TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES, margin={"dot": np.float32(0.5)}, truncate_dim=4)
    assert json.loads(json.dumps(evaluator.get_config_dict())) == {
        "margin": {"cosine": 0, "dot": 0.5, "manhattan": 0, "euclidean": 0}, "truncate_dim": 4,
    }  # fmt: skip
    assert TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES, margin=0).get_config_dict() == {}


def test_older_name_of_an_argument(caplog):
    caplog.set_level(logging.WARNING, logger="fourfold")
    evaluator = TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES, main_distance_function="dot")
    assert evaluator.similarity_fn_names == ["dot"]
    assert "main_similarity_function" in caplog.text


def test_examples():
    rows = [InputExample(texts=list(row)) for row in zip(ANCHORS, POSITIVES, NEGATIVES, strict=True)]
    made = TripletEvaluator.from_input_examples(rows, margin=1)
    assert (made.anchors, made.positives, made.negatives) == (ANCHORS, POSITIVES, NEGATIVES)


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((ANCHORS, POSITIVES[:1], NEGATIVES), {}, "positives has 1"),
        ((ANCHORS, POSITIVES, NEGATIVES), {"margin": {"cosinus": 1}}, "margin.*'cosinus'.*cosine"),
        ((ANCHORS, POSITIVES, NEGATIVES), {"margin": "1"}, "margin must be a number"),
        ((ANCHORS, POSITIVES, NEGATIVES), {"similarity_fn_names": ["x"]}, "similarity_fn_names"),
        ((ANCHORS, POSITIVES, NEGATIVES), {"main_similarity_function": "x"}, "'x'"),
    ],
)
def test_refusals(arguments, options, said):
    with pytest.raises(InputError, match=said):
        TripletEvaluator(*arguments, **options)
