"""Whether texts' sparse vectors are nearer to what belongs to them than to what does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fourfold.evaluation._sparsity import SparseEvaluation
from fourfold.evaluation.triplet_evaluator import _NOT_GIVEN, TripletEvaluator
from fourfold.ops.similarity import SimilarityFunction


class SparseTripletEvaluator(SparseEvaluation, TripletEvaluator):
    """Count how often a text's sparse vector is more like its positive's than like its negative's.

    As :class:`~fourfold.evaluation.triplet_evaluator.TripletEvaluator`, with further numbers for anchors, positives and
    negatives each: ``anchor_active_dims``, ``anchor_sparsity_ratio`` and so on.

    Args:
        anchors: Texts.
        positives: A text a row that belongs to the anchor.
        negatives: A text a row that does not.
        main_similarity_function: The similarity whose accuracy is the primary number; None means the largest.
        margin: By how much the positive must be more similar, a number or a dictionary with one a similarity.
        name: Name of the data, in front of every number.
        batch_size: Texts that the model encodes at once.
        show_progress_bar: Whether encoding shows bars.
        write_csv: Whether to add a row to ``triplet_evaluation_<name>_results.csv``.
        max_active_dims: How many weights a vector keeps; None keeps all.
        similarity_fn_names: Similarities, of ``cosine``, ``dot``, ``manhattan`` and ``euclidean``; None means
            ``main_similarity_function``, or the model's own.
        main_distance_function: Older name of ``main_similarity_function``.

    Raises:
        InputError: As the dense evaluator does.

    >>> from fourfold.testing import tiny
    >>> evaluator = SparseTripletEvaluator(["the world"], ["the world"], ["a query"], max_active_dims=8)
    >>> evaluator(tiny("sparse"))["anchor_active_dims"]
    8.0
    """

    sparsity_groups = ("anchor", "positive", "negative")

    def __init__(
        self,
        anchors: Sequence[Any],
        positives: Sequence[Any],
        negatives: Sequence[Any],
        main_similarity_function: str | SimilarityFunction | None = None,
        margin: float | Mapping[str, float] | None = None,
        name: str = "",
        batch_size: int = 16,
        show_progress_bar: bool = False,
        write_csv: bool = True,
        max_active_dims: int | None = None,
        similarity_fn_names: Sequence[str | SimilarityFunction] | None = None,
        main_distance_function: str | SimilarityFunction | None = _NOT_GIVEN,
    ) -> None:
        self.max_active_dims = max_active_dims
        super().__init__(
            anchors, positives, negatives, main_similarity_function, margin, name, batch_size, show_progress_bar,
            write_csv, None, similarity_fn_names, main_distance_function,
        )  # fmt: skip

    def _group(self, encode_fn_name: str | None) -> str:
        return self.sparsity_groups[len(self._noted) % len(self.sparsity_groups)]
