"""Cross encoders over any backend that can run them, numpy out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from fourfold.families._encoder import model_of
from fourfold.store.source import Source


class PairScorer:
    """Scores of pairs of texts, as numpy arrays; torch runs the model.

    Attributes:
        name: Folder or hub name of the model.
        model_type: The family, by the name of its class.
        backend: Name of what runs the model.
        prompts: Prompts by name.
        default_prompt_name: The prompt used when a call names none.
        num_labels: Scores of a pair.
    """

    model_type: ClassVar[str] = "CrossEncoder"
    backend: ClassVar[str] = "torch"

    def __init__(self, source: Source, **options: Any) -> None:
        from fourfold.families.cross import CrossEncoder

        self.name = source.name
        self._model = model_of(CrossEncoder, source, **options)
        self.prompts: dict[str, str] = self._model.prompts
        self.default_prompt_name = self._model.default_prompt_name
        self.num_labels = self._model.num_labels

    def predict(self, inputs: Any, *, show_progress_bar: bool = False, **options: Any) -> NDArray[Any]:
        """Score one pair or a batch of pairs: ``[pairs]`` for one label, ``[pairs, labels]`` for more.

        Args:
            inputs: As for ``CrossEncoder.predict``.
            show_progress_bar: Whether to show a bar.
            **options: ``prompt_name``, ``prompt``, ``batch_size``, ``activation_fn`` and ``apply_softmax``, as there.
        """
        given = {**options, "convert_to_numpy": True, "convert_to_tensor": False}
        return self._model.predict(inputs, show_progress_bar=show_progress_bar, **given)

    def rank(
        self, query: Any, documents: Sequence[Any], *, show_progress_bar: bool = False, **options: Any
    ) -> list[dict[str, Any]]:
        """Sort documents by how well they answer a query, the best first; see ``CrossEncoder.rank``."""
        return self._model.rank(query, documents, show_progress_bar=show_progress_bar, **options)

    def rank_passages(
        self, query: str, documents: Sequence[str], *, show_progress_bar: bool = False, **options: Any
    ) -> list[dict[str, Any]]:
        """Sort documents of any length by the best of their passages; see ``CrossEncoder.rank_passages``."""
        return self._model.rank_passages(query, documents, show_progress_bar=show_progress_bar, **options)
