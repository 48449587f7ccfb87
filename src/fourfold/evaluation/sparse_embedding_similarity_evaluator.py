"""Whether sparse vectors are as alike as people say that their texts are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fourfold.evaluation._sparsity import SparseEvaluation
from fourfold.evaluation.embedding_similarity_evaluator import EmbeddingSimilarityEvaluator
from fourfold.ops.similarity import SimilarityFunction


class SparseEmbeddingSimilarityEvaluator(SparseEvaluation, EmbeddingSimilarityEvaluator):
    """Correlate the similarity of two texts' sparse vectors with a given score of the two texts.

    As :class:`~fourfold.evaluation.embedding_similarity_evaluator.EmbeddingSimilarityEvaluator`, with the further
    numbers ``active_dims`` and ``sparsity_ratio``.

    Args:
        sentences1: The first texts.
        sentences2: The second texts, one a row.
        scores: How alike they are, one number a row, larger for more alike.
        batch_size: Texts that the model encodes at once.
        main_similarity: The similarity whose Spearman correlation is the primary number; None means the largest.
        similarity_fn_names: Similarities, of ``cosine``, ``dot``, ``manhattan`` and ``euclidean``; None means
            ``main_similarity``, or the model's own.
        name: Name of the data, in front of every number.
        show_progress_bar: Whether encoding shows bars.
        write_csv: Whether to add a row to ``similarity_evaluation_<name>_results.csv``.
        max_active_dims: How many weights a vector keeps; None keeps all.

    Raises:
        InputError: As the dense evaluator does.

    >>> from fourfold.testing import tiny
    >>> evaluator = SparseEmbeddingSimilarityEvaluator(["a text", "query"], ["text", "a world"], [1, 0])
    >>> list(evaluator(tiny("sparse")))
    ['pearson_dot', 'spearman_dot', 'active_dims', 'sparsity_ratio']
    """

    def __init__(
        self,
        sentences1: Sequence[Any],
        sentences2: Sequence[Any],
        scores: Sequence[float],
        batch_size: int = 16,
        main_similarity: str | SimilarityFunction | None = None,
        similarity_fn_names: Sequence[str | SimilarityFunction] | None = None,
        name: str = "",
        show_progress_bar: bool = False,
        write_csv: bool = True,
        max_active_dims: int | None = None,
    ) -> None:
        self.max_active_dims = max_active_dims
        super().__init__(
            sentences1, sentences2, scores, batch_size, main_similarity, similarity_fn_names, name, show_progress_bar,
            write_csv,
        )  # fmt: skip
