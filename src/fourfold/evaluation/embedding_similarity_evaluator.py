"""Whether vectors are as alike as people say that their texts are."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fourfold.errors import InputError, did_you_mean
from fourfold.evaluation._base import check_lengths, underscored
from fourfold.evaluation._pairwise import PairwiseEvaluator
from fourfold.metrics.correlation import pearson, spearman
from fourfold.ops.similarity import SimilarityFunction

if TYPE_CHECKING:
    from typing_extensions import Self

    from fourfold.text.example import InputExample

logger = logging.getLogger(__name__)

_PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
_BYTE_SHIFT = 128


class EmbeddingSimilarityEvaluator(PairwiseEvaluator):
    """Correlate the similarity of two texts' vectors with a given score of the two texts.

    The numbers of each similarity f are ``pearson_f`` and ``spearman_f``, from -1 to 1; with several similarities also
    the largest of them, ``pearson_max`` and ``spearman_max``. Distances are negated, so that a larger correlation is
    always better. A correlation with constant scores is NaN.

    Args:
        sentences1: The first texts.
        sentences2: The second texts, one a row.
        scores: How alike they are, one number a row on any scale, larger for more alike.
        batch_size: Texts that the model encodes at once.
        main_similarity: The similarity whose Spearman correlation is the primary number; None means the largest.
        similarity_fn_names: Similarities, of ``cosine``, ``dot``, ``manhattan`` and ``euclidean``; None means
            ``main_similarity``, or the model's own.
        name: Name of the data, in front of every number.
        show_progress_bar: Whether encoding shows bars.
        write_csv: Whether to add a row to ``similarity_evaluation_<name>_<precision>_results.csv``.
        precision: ``float32``, ``int8``, ``uint8``, ``binary`` or ``ubinary``; vectors are then scaled to length 1 and
            quantised before they are compared, bit by bit if binary. None leaves them as they are.
        truncate_dim: How many leading numbers of each vector are used; None is all.

    Raises:
        InputError: If the columns differ in length, or a similarity or the precision is unknown; when called, if there
            are fewer than two rows.

    >>> from fourfold.testing import tiny
    >>> first, second = ["a text", "the world", "a query"], ["text", "query", "of a world"]
    >>> evaluator = EmbeddingSimilarityEvaluator(first, second, [0.9, 0.1, 0.4], name="mine")
    >>> sorted(evaluator(tiny("dense"))), evaluator.primary_metric
    (['mine_pearson_cosine', 'mine_spearman_cosine'], 'mine_spearman_cosine')
    """

    precision: str | None = None

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
        precision: str | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        check_lengths(sentences1=sentences1, sentences2=sentences2, scores=scores)
        if precision is not None and precision not in _PRECISIONS:
            hint = did_you_mean(precision, _PRECISIONS)
            raise InputError(f"precision must be None or one of {', '.join(_PRECISIONS)}; got {precision!r}.{hint}")
        super().__init__(
            main=main_similarity, names=similarity_fn_names, name=name, batch_size=batch_size,
            show_progress_bar=show_progress_bar, write_csv=write_csv, truncate_dim=truncate_dim,
        )  # fmt: skip
        self.sentences1 = sentences1
        self.sentences2 = sentences2
        self.scores = scores
        self.precision = precision
        self.main_similarity = None if self._main is None else SimilarityFunction(self._main)
        self.csv_file = f"similarity_evaluation{underscored(name)}{underscored(precision)}_results.csv"

    @classmethod
    def from_input_examples(cls, examples: Iterable[InputExample], **kwargs: Any) -> Self:
        """Return an evaluator of examples with two texts and a label each.

        Args:
            examples: The examples.
            **kwargs: Further arguments of the class.
        """
        rows: list[Any] = [(*(example.texts or [])[:2], example.label) for example in examples]
        first, second, scores = ([row[i] for row in rows] for i in range(3))
        return cls(first, second, scores, **kwargs)

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
        first, second = self._embed_both(model)
        metrics = {}
        for name in self.similarity_fn_names:
            found = self._compare(name, first, second)
            metrics[f"pearson_{name}"] = pearson(self.scores, found)
            metrics[f"spearman_{name}"] = spearman(self.scores, found)
            logger.info("%s: Pearson %.4f, Spearman %.4f", name, *list(metrics.values())[-2:])
        several = len(self.similarity_fn_names) > 1
        cells = [metrics[f"{kind}_{name}"] for name in self.similarity_fn_names for kind in ("pearson", "spearman")]
        if several:
            for kind in ("pearson", "spearman"):
                metrics[f"{kind}_max"] = max(metrics[f"{kind}_{name}"] for name in self.similarity_fn_names)
        self.primary_metric = f"spearman_{self._main or ('max' if several else self.similarity_fn_names[0])}"
        return self._finish(model, metrics, cells=cells, output_path=output_path, epoch=epoch, steps=steps)

    @property
    def description(self) -> str:
        """What is measured, in words."""
        return "Semantic Similarity"

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        config = super().get_config_dict()
        return config if self.precision is None else {**config, "precision": self.precision}

    def _columns(self, name: str) -> Iterable[str]:
        return f"{name}_pearson", f"{name}_spearman"

    def _encode_options(self) -> dict[str, Any]:
        scaled = {"precision": self.precision, "normalize_embeddings": bool(self.precision)}
        return {**super()._encode_options(), **scaled}

    def _embed_both(self, model: Any) -> tuple[Any, Any]:
        if self.precision in ("int8", "uint8"):
            # Each call chooses its own steps between whole numbers, which both sides must share.
            both = self.embed_inputs(model, [*self.sentences1, *self.sentences2]).astype(np.float32)
            return both[: len(self.sentences1)], both[len(self.sentences1) :]
        first, second = (self.embed_inputs(model, sentences) for sentences in (self.sentences1, self.sentences2))
        if self.precision in ("binary", "ubinary"):
            return self._bits(first), self._bits(second)
        return first, second

    def _bits(self, packed: Any) -> Any:
        """Return the bits of bytes ``[rows, width / 8]`` as numbers ``[rows, width]``."""
        if self.precision == "binary":
            packed = packed.astype(np.int16) + _BYTE_SHIFT
        return np.unpackbits(packed.astype(np.uint8), axis=1).astype(np.float32)
