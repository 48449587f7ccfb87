"""What evaluators of sparse encoders add to those of dense ones: other vectors, and how sparse they are."""

from __future__ import annotations

from typing import Any, ClassVar

from fourfold.evaluation._base import EmbeddingEvaluator


class SparseEvaluation(EmbeddingEvaluator):
    """Put before the dense evaluator among the bases of a class: vectors are sparse tensors, and their entries counted.

    The numbers of a group of vectors are ``<group>_active_dims``, the mean number of weights that are not 0, and
    ``<group>_sparsity_ratio``, the share of those that are.

    Attributes:
        sparsity_groups: The groups, in the order of the table of results.
        max_active_dims: How many weights a vector keeps; None keeps all.
    """

    sparsity_groups: ClassVar[tuple[str, ...]] = ("",)
    max_active_dims: int | None = None
    # The table's cells would be read and written anew by the older library, which leaves them as csv writes them.
    _bare_csv = False

    def __call__(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Measure a model, with the arguments of the dense evaluator."""
        self._forget()
        return super().__call__(model, *args, **kwargs)

    def embed_inputs(self, model: Any, sentences: Any, encode_fn_name: str | None = None, **kwargs: Any) -> Any:
        """Return the sparse vectors of some texts, and note how sparse they are.

        Args:
            model: The model.
            sentences: The texts.
            encode_fn_name: ``query`` or ``document`` for what encodes those; None for plain ``encode``.
            **kwargs: Further arguments of the model's method.
        """
        embeddings = super().embed_inputs(model, sentences, encode_fn_name=encode_fn_name, **kwargs)
        self._note(model, embeddings, self._group(encode_fn_name))
        return embeddings

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        config = super().get_config_dict()
        return config if self.max_active_dims is None else {**config, "max_active_dims": self.max_active_dims}

    def _encode_options(self) -> dict[str, Any]:
        return {"convert_to_sparse_tensor": True, "save_to_cpu": True, "max_active_dims": self.max_active_dims}

    # -- bookkeeping -------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Begin to count anew."""
        self._noted: list[tuple[str, dict[str, float], float]] = []

    def _group(self, encode_fn_name: str | None) -> str:
        """Return the group of the vectors that are encoded next."""
        return self.sparsity_groups[0]

    def _weight(self, embeddings: Any) -> float:
        """Return what some vectors count for in the mean of their group."""
        return 1.0

    def _note(self, model: Any, embeddings: Any, group: str) -> None:
        if not hasattr(self, "_noted"):
            self._forget()
        self._noted.append((group, model.sparsity(embeddings), self._weight(embeddings)))

    def _extra_headers(self) -> list[str]:
        return [_key(group, kind) for group in self.sparsity_groups for kind in _KINDS]

    def _extra_metrics(self) -> dict[str, float]:
        return {_key(group, kind): self._mean(group, kind) for group in self.sparsity_groups for kind in _KINDS}

    def _mean(self, group: str, kind: str) -> float:
        noted = [(stats[kind], weight) for name, stats, weight in self._noted if name == group]
        total = sum(weight for _, weight in noted)
        return sum(value * weight for value, weight in noted) / total if total else 0.0


_KINDS = ("active_dims", "sparsity_ratio")


def _key(group: str, kind: str) -> str:
    return f"{group}_{kind}" if group else kind
