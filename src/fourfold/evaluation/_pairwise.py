"""What evaluators share that compare vectors row by row under one or more similarities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from fourfold.errors import InputError, did_you_mean
from fourfold.evaluation._base import EmbeddingEvaluator
from fourfold.ops.similarity import SimilarityFunction, as_tensor, compare, similarity_name
from fourfold.ops.vectors import to_array


class PairwiseEvaluator(EmbeddingEvaluator):
    """An evaluator of rows of vectors, for each of one or more similarities.

    Args:
        main: The similarity whose number stands for all; None if none is preferred.
        names: The similarities; None or none at all means ``main``, or the model's own when first called.
        **kwargs: Those of the class above.

    Attributes:
        known_similarities: Names that may be given.
        similarity_fn_names: The similarities.
    """

    known_similarities: ClassVar[tuple[str, ...]] = ("cosine", "dot", "manhattan", "euclidean")

    def __init__(
        self, *, main: str | SimilarityFunction | None, names: Sequence[str | SimilarityFunction] | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._main = None if main is None else similarity_name(main)
        if not names and self._main is not None:
            names = [self._main]
        self._use([self._known(name) for name in names or []])

    def _known(self, name: str | SimilarityFunction) -> str:
        name = name.value if isinstance(name, SimilarityFunction) else name
        if name not in self.known_similarities:
            known = ", ".join(self.known_similarities)
            hint = did_you_mean(name, self.known_similarities)
            raise InputError(f"similarity_fn_names must be of {known}; got {name!r}.{hint}")
        return name

    def _columns(self, name: str) -> Iterable[str]:
        """Return the columns of one similarity in the table of results."""
        raise NotImplementedError

    def _use(self, names: list[str]) -> None:
        self.similarity_fn_names = names
        self._set_columns(column for name in names for column in self._columns(name))

    def _settle(self, model: Any) -> None:
        """Take the model's own similarity if none was given."""
        if not self.similarity_fn_names:
            self._use([model.similarity_fn_name])

    def _compare(self, name: str, first: Any, second: Any) -> NDArray[Any]:
        """Return how alike rows are, ``[rows]``, larger for more alike."""
        # As tensors also where they are arrays: which bits of quantised vectors tie is then as in the older library.
        return to_array(compare(name, as_tensor(first), as_tensor(second), pairwise=True))
