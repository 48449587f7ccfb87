"""Whether texts are nearer to what belongs to them than to what does not."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from fourfold.errors import InputError, did_you_mean
from fourfold.evaluation._base import check_lengths, underscored
from fourfold.evaluation._pairwise import PairwiseEvaluator
from fourfold.notices import warn_once
from fourfold.ops.similarity import SimilarityFunction

if TYPE_CHECKING:
    from typing_extensions import Self

    from fourfold.text.example import InputExample

logger = logging.getLogger(__name__)

_NOT_GIVEN = "deprecated"


class TripletEvaluator(PairwiseEvaluator):
    """Count how often a text is more like its positive than like its negative.

    The number of each similarity f is ``f_accuracy``, from 0 to 1: the share of rows whose positive is more similar to
    the anchor than the negative is, by more than the margin. With several similarities the largest of them is
    ``max_accuracy``. Distances are negated. Anchors are encoded as queries, the others as documents.

    Args:
        anchors: Texts.
        positives: A text a row that belongs to the anchor.
        negatives: A text a row that does not.
        main_similarity_function: The similarity whose accuracy is the primary number; None means the largest.
        margin: By how much the positive must be more similar, a number for all similarities or a dictionary with one a
            similarity; None, and a similarity that is missing there, is 0.
        name: Name of the data, in front of every number.
        batch_size: Texts that the model encodes at once.
        show_progress_bar: Whether encoding shows bars.
        write_csv: Whether to add a row to ``triplet_evaluation_<name>_results.csv``.
        truncate_dim: How many leading numbers of each vector are used; None is all.
        similarity_fn_names: Similarities, of ``cosine``, ``dot``, ``manhattan`` and ``euclidean``; None means
            ``main_similarity_function``, or the model's own.
        main_distance_function: Older name of ``main_similarity_function``.

    Raises:
        InputError: If the columns differ in length, a similarity is unknown, or ``margin`` is of another kind.

    >>> from fourfold.testing import tiny
    >>> evaluator = TripletEvaluator(["the world"], ["the world"], ["a query of text"])
    >>> evaluator(tiny("dense"))
    {'cosine_accuracy': 1.0}
    """

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
        truncate_dim: int | None = None,
        similarity_fn_names: Sequence[str | SimilarityFunction] | None = None,
        main_distance_function: str | SimilarityFunction | None = _NOT_GIVEN,
    ) -> None:
        if main_distance_function != _NOT_GIVEN:
            warn_once(logger, "main_distance_function is deprecated; use main_similarity_function instead")
            if main_similarity_function is None:
                main_similarity_function = main_distance_function
        check_lengths(anchors=anchors, positives=positives, negatives=negatives)
        super().__init__(
            main=main_similarity_function, names=similarity_fn_names, name=name, batch_size=batch_size,
            show_progress_bar=show_progress_bar, write_csv=write_csv, truncate_dim=truncate_dim,
        )  # fmt: skip
        self.anchors = anchors
        self.positives = positives
        self.negatives = negatives
        self.margin = _margins(margin, self.known_similarities)
        self.main_similarity_function = None if self._main is None else SimilarityFunction(self._main)
        self.csv_file = f"triplet_evaluation{underscored(name)}_results.csv"

    @classmethod
    def from_input_examples(cls, examples: Iterable[InputExample], **kwargs: Any) -> Self:
        """Return an evaluator of examples with three texts each: anchor, positive, negative.

        Args:
            examples: The examples.
            **kwargs: Further arguments of the class.
        """
        rows: list[Any] = [example.texts for example in examples]
        anchors, positives, negatives = ([row[i] for row in rows] for i in range(3))
        return cls(anchors, positives, negatives, **kwargs)

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Measure a model.

        Args:
            model: The model.
            output_path: Folder for the table of results; None writes none.
            epoch: Where training stands; -1 is outside of training.
            steps: Steps of the epoch so far; -1 is its end.
        """
        self._announce(epoch, steps)
        self._settle(model)
        anchors = self.embed_inputs(model, self.anchors, encode_fn_name="query")
        positives = self.embed_inputs(model, self.positives, encode_fn_name="document")
        negatives = self.embed_inputs(model, self.negatives, encode_fn_name="document")
        metrics = {}
        for name in self.similarity_fn_names:
            near, far = (self._compare(name, anchors, others) for others in (positives, negatives))
            right = int(np.count_nonzero(near > far + self.margin[name]))
            metrics[f"{name}_accuracy"] = right / max(1, len(self.anchors))
            logger.info("%s: %.2f%% of the positives are nearer", name, 100 * metrics[f"{name}_accuracy"])
        several = len(self.similarity_fn_names) > 1
        cells = [metrics[f"{name}_accuracy"] for name in self.similarity_fn_names]
        if several:
            metrics["max_accuracy"] = max(cells)
        self.primary_metric = f"{self._main or ('max' if several else self.similarity_fn_names[0])}_accuracy"
        return self._finish(model, metrics, cells=cells, output_path=output_path, epoch=epoch, steps=steps)

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        margin = {"margin": self.margin} if any(self.margin.values()) else {}
        return {**margin, **super().get_config_dict()}

    def _columns(self, name: str) -> Iterable[str]:
        return (f"accuracy_{name}",)


def _margins(margin: float | Mapping[str, float] | None, known: Sequence[str]) -> dict[str, float]:
    """Return the margin of every similarity."""
    if margin is None or isinstance(margin, Real):
        return dict.fromkeys(known, _plain(margin or 0))
    if not isinstance(margin, Mapping):
        raise InputError(f"margin must be a number, or a dictionary with a number a similarity; got {margin!r}")
    for name in margin:
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(f"the keys of margin must be of {', '.join(known)}; got {name!r}.{hint}")
    return {name: _plain(margin.get(name, 0)) for name in known}


def _plain(number: Any) -> Any:
    # A number of numpy's would not be JSON in a model card, and might widen the vectors' comparisons.
    return number.item() if isinstance(number, np.generic) else number
