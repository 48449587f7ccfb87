import numpy as np
import pytest

from fourfold import InputExample, SimilarityFunction
from fourfold.errors import InputError
from fourfold.evaluation import EmbeddingSimilarityEvaluator
from fourfold.testing import tiny

FIRST, SECOND, SCORES = ["the text", "a query", "world", "x y z"], ["the text", "query", "in", "a"], [4, 3, 2, 1]


class Given:
    """A model that gives the vectors it is asked for by name."""

    similarity_fn_name = "cosine"

    def __init__(self, **vectors):
        self.vectors = vectors
        self.options = []

    def encode(self, sentences, **options):
        self.options.append(options)
        return np.array([self.vectors[name] for name in sentences], dtype=np.float32)

    @property
    def model_card_data(self):
        return self

    def set_evaluation_metrics(self, *args, **kwargs):
        pass


def test_known_correlations():
    model = Given(a=[1, 0], b=[1, 1], c=[0, 1], d=[-1, 0])
    found = EmbeddingSimilarityEvaluator(["a"] * 4, ["a", "b", "c", "d"], [1, 0.9, 0.8, 0.1])(model)
    assert list(found) == ["pearson_cosine", "spearman_cosine"]
    assert found["spearman_cosine"] == pytest.approx(1)
    cosines = [1, 0.5**0.5, 0, -1]
    assert found["pearson_cosine"] == pytest.approx(np.corrcoef(cosines, [1, 0.9, 0.8, 0.1])[0, 1])


def test_arguments_of_encoding():
    model = Given(a=[1, 0], b=[0, 1])
    EmbeddingSimilarityEvaluator(["a", "b"], ["b", "b"], [1, 0], batch_size=3, truncate_dim=1, name="n")(model)
    assert model.options == [
        {"batch_size": 3, "show_progress_bar": False, "convert_to_numpy": True, "truncate_dim": 1, "precision": None,
         "normalize_embeddings": False}
    ] * 2  # fmt: skip


def test_bits_are_compared_one_by_one():
    one = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, precision="binary", similarity_fn_names=["manhattan"])
    other = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, precision="ubinary", similarity_fn_names=["manhattan"])
    model = tiny()
    assert one(model) == other(model)
    signs = [model.encode(texts) > 0 for texts in (FIRST, SECOND)]
    differing = -np.count_nonzero(signs[0] != signs[1], axis=1)
    assert one(model)["pearson_manhattan"] == pytest.approx(np.corrcoef(SCORES, differing)[0, 1])


def test_the_similarity_is_the_model_s_of_the_first_call(tmp_path):
    model, evaluator = tiny(), EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)
    model.similarity_fn_name = "dot"
    assert list(evaluator(model)) == ["pearson_dot", "spearman_dot"]
    model.similarity_fn_name = "cosine"
    assert list(evaluator(model)) == ["pearson_dot", "spearman_dot"]


@pytest.mark.parametrize("names", [["dot", "cosine"], [SimilarityFunction.DOT, SimilarityFunction.COSINE]])
def test_several_similarities(names):
    evaluator = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, similarity_fn_names=names)
    found = evaluator(tiny())
    assert found["pearson_max"] == max(found["pearson_dot"], found["pearson_cosine"])
    assert evaluator.primary_metric == "spearman_max"


def test_examples():
    rows = [InputExample(texts=[a, b], label=score) for a, b, score in zip(FIRST, SECOND, SCORES, strict=True)]
    made = EmbeddingSimilarityEvaluator.from_input_examples(rows, name="n")
    assert (made.sentences1, made.sentences2, made.scores, made.name) == (FIRST, SECOND, SCORES, "n")


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((FIRST, SECOND[:2], SCORES), {}, "sentences2 has 2"),
        ((FIRST, SECOND, SCORES[:1]), {}, "scores has 1"),
        ((FIRST, SECOND, SCORES), {"precision": "int9"}, "precision.*int8"),
        ((FIRST, SECOND, SCORES), {"similarity_fn_names": ["cosin"]}, "similarity_fn_names.*cosine"),
        ((FIRST, SECOND, SCORES), {"main_similarity": "x"}, "'x'"),
    ],
)
def test_refusals(arguments, options, said):
    with pytest.raises(InputError, match=said):
        EmbeddingSimilarityEvaluator(*arguments, **options)


def test_one_row_has_no_correlation():
    with pytest.raises(InputError, match="at least 2"):
        EmbeddingSimilarityEvaluator(["a"], ["b"], [1])(tiny())
