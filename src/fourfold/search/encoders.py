"""The models that an index is searched with, and what it keeps for each: dense vectors or sparse rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fourfold.errors import InputError
from fourfold.search import vectors
from fourfold.search.segments import Segment

_SPARSE_FAMILY = "SparseEncoder"


class Encoder(Protocol):
    """What an index asks of a model; every dense and every sparse encoder of :func:`fourfold.load` has it.

    A sparse one has a ``model_type`` besides, which is ``SparseEncoder``.
    """

    @property
    def fingerprint(self) -> str:
        """What differs when the weights do."""

    def encode_query(self, inputs: list[str], *, show_progress_bar: bool, **options: Any) -> Any:
        """Return ``[rows, width]``: a float32 array, or sparse rows of any kind.

        A dense encoder is given ``normalize_embeddings=True``, too.
        """

    def encode_document(self, inputs: list[str], *, show_progress_bar: bool, **options: Any) -> Any:
        """Return ``[rows, width]``, as :meth:`encode_query` does."""


class Chosen(NamedTuple):
    """The models that take part in one search, at most one of each family."""

    dense: Encoder | None = None
    sparse: Encoder | None = None


def is_sparse(encoder: Encoder) -> bool:
    """Whether a model turns a text into weights of terms."""
    return getattr(encoder, "model_type", None) == _SPARSE_FAMILY


def choose(mode: str, encoders: Sequence[Encoder]) -> Chosen:
    """Return the models that a mode needs.

    Raises:
        InputError: if the one it needs is not there, or two are of one family.
    """
    if mode == "lexical":
        return Chosen()
    sparse, dense = ([e for e in encoders if is_sparse(e) == family] for family in (True, False))
    for kind, found in (("sparse", sparse), ("dense", dense)):
        if len(found) > 1:
            raise InputError(f"a search takes at most one dense and one sparse model; got {len(found)} {kind} ones")
    if mode in ("sparse", "dense") and not (sparse if mode == "sparse" else dense):
        others = ", ".join(map(_name, [*sparse, *dense])) or "none"
        built_in = ", leave it out for the built-in one" * (mode == "dense")
        raise InputError(
            f"mode {mode} needs a {mode} model; got {others}. Name one with model (--model){built_in}, or take another "
            "mode"
        )
    if mode == "sparse":
        return Chosen(sparse=sparse[0])
    return Chosen(dense[0] if dense else None, sparse[0] if sparse and mode == "hybrid" else None)


def file_of(segment: Segment, encoder: Encoder) -> Path:
    """Return the file that holds what a model makes of a segment's passages, whether or not it is there yet."""
    if is_sparse(encoder):
        from fourfold.search import sparse

        return sparse.path_of(segment, encoder)
    return vectors.path_of(segment, encoder.fingerprint)


def build(segment: Segment, encoder: Encoder, progress: Callable[[int], None]) -> None:
    """Encode the passages of ``segment`` that the model has not encoded yet; the caller holds the lock."""
    if is_sparse(encoder):
        from fourfold.search import sparse

        sparse.build_sparse(segment, encoder, progress)
    else:
        vectors.build_vectors(segment, encoder, progress)


def _name(encoder: Encoder) -> str:
    from fourfold.families.load import BUILTIN

    name = str(getattr(encoder, "name", None) or type(encoder).__name__)
    family = "sparse" if is_sparse(encoder) else "dense"
    return "the built-in model, which is dense" if name == str(BUILTIN) else f"{name}, which is {family}"
