import csv
import logging
import subprocess
import sys

import pytest

from fourfold import evaluation
from fourfold.errors import InputError
from fourfold.evaluation._base import BaseEvaluator, append_row, check_lengths, moment, underscored


class Card:
    def __init__(self):
        self.stored = []

    def set_evaluation_metrics(self, evaluator, metrics, epoch=0, step=0):
        self.stored.append((evaluator, metrics, epoch, step))


class Model:
    def __init__(self):
        self.model_card_data = Card()


class Letters(BaseEvaluator):
    csv_file = "letters.csv"

    def __init__(self, name=""):
        super().__init__()
        self.name = name
        self.csv_headers = ["epoch", "steps", "letters"]

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self._announce(epoch, steps)
        self.primary_metric = "letters"
        return self._finish(model, {"letters": 3}, cells=[3], output_path=output_path, epoch=epoch, steps=steps)


def test_parts_are_found_by_their_file():
    assert "triplet_evaluator" in evaluation.registry.names()
    assert evaluation.TripletEvaluator.__name__ == "TripletEvaluator"
    assert evaluation.SentenceEvaluator is evaluation.BaseEvaluator
    assert evaluation.SimilarityFunction.COSINE.value == "cosine"
    with pytest.raises(AttributeError, match="NoEvaluator"):
        evaluation.NoEvaluator  # noqa: B018


def test_importing_the_package_loads_little():
    code = "import sys, fourfold.evaluation; print([m for m in ('torch', 'scipy', 'sklearn') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_what_follows_once_the_numbers_are_known(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="fourfold")
    model, evaluator = Model(), Letters("mine")
    for moment_of_training in ((), (1, 5)):
        assert evaluator(model, str(tmp_path / "new" / "folder"), *moment_of_training) == {"mine_letters": 3.0}
    assert evaluator.primary_metric == "mine_letters"
    assert caplog.messages == ["Letters on mine", "Letters on mine in epoch 1 after 5 steps"]
    table = (tmp_path / "new" / "folder" / "letters.csv").read_bytes().decode()
    assert table == "epoch,steps,letters\r\n-1,-1,3\r\n1,5,3\r\n"
    assert [row[1:] for row in model.model_card_data.stored] == [
        ({"mine_letters": 3.0}, -1, -1),
        ({"mine_letters": 3.0}, 1, 5),
    ]


def test_no_table_unless_asked_for(tmp_path):
    evaluator = Letters()
    evaluator(Model())
    evaluator.write_csv = False
    evaluator(Model(), str(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()


def test_a_name_that_is_like_a_number_goes_in_front_once():
    evaluator = Letters("letters")
    for _ in range(2):
        assert evaluator(Model()) == {"letters_letters": 3.0}
        assert evaluator.primary_metric == "letters_letters"


def test_what_must_be_given():
    with pytest.raises(NotImplementedError, match="__call__"):
        BaseEvaluator()(None)
    with pytest.raises(TypeError):
        BaseEvaluator().prefix_name_to_metrics({"a": None}, "")


def test_rows_of_a_table(tmp_path, caplog):
    quoted, bare = tmp_path / "quoted.csv", tmp_path / "bare.csv"
    for row in (["a,b", 1.5], ["c", 2]):
        append_row(quoted, row, headers=["x,y", "z"])
        append_row(bare, row, headers=["x", "z"], bare=True)
    with quoted.open(newline="") as file:
        assert list(csv.reader(file)) == [["x,y", "z"], ["a,b", "1.5"], ["c", "2"]]
    assert bare.read_bytes() == b"x,z\na,b,1.5\nc,2\n"
    assert not caplog.messages
    append_row(bare, ["d", 3], headers=["x", "other"], bare=True)
    assert "other columns" in caplog.text
    assert bare.read_bytes().endswith(b"c,2\nd,3\n")


def test_words():
    assert moment(0, -1) == " after epoch 0"
    assert moment(-1, -1, 4) == " (truncated to 4)"
    assert (underscored("a"), underscored(""), underscored(None)) == ("_a", "", "")


def test_lengths():
    check_lengths(a=[1], b="x")
    with pytest.raises(InputError, match="a and b must have as many rows each; a has 1, b has 2"):
        check_lengths(a=[1], b=[1, 2])
