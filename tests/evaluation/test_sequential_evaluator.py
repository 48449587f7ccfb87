import pytest

from fourfold.errors import InputError
from fourfold.evaluation import SequentialEvaluator


class Named:
    def __init__(self, primary, **metrics):
        self.primary_metric, self.metrics, self.calls = primary, metrics, []

    def __call__(self, *args):
        self.calls.append(args)
        return self.metrics


def test_numbers_are_merged_and_one_stands_for_all():
    parts = [Named("b", a=1, b=2), Named(None, c=3, a=9), lambda *_: 0.5]
    evaluator = SequentialEvaluator(iter(parts), main_score_function=tuple)
    assert evaluator("model", "folder", 1, 2) == {
        "a": 9, "b": 2, "c": 3, "evaluator_2": 0.5, "sequential_score": (2, 3, 0.5),
    }  # fmt: skip
    assert parts[0].calls == [("model", "folder", 1, 2)]
    assert SequentialEvaluator(parts)("model")["sequential_score"] == 0.5


def test_no_evaluators():
    assert SequentialEvaluator([])("model") == {"sequential_score": 0.0}


@pytest.mark.parametrize(("part", "said"), [(Named("x", a=1), "'x'"), (Named(None), "no number")])
def test_a_primary_number_that_is_not_there(part, said):
    with pytest.raises(InputError, match=said):
        SequentialEvaluator([part])("model")
