"""What every loss on vectors shares: a model, the way from features to vectors, and what is checked on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.losses._columns import embed_columns
from fourfold.modules._base import Features
from fourfold.ops.names import similarity_fct_name


class Takes(NamedTuple):
    """What a loss takes, so that a dataset can be looked at before the first step.

    Attributes:
        columns: Numbers of columns; of a range the last one is open.
        what: What the columns are.
        labels: What a row's label is; empty where labels are not read.
        optional: Whether labels may be missing.
    """

    columns: tuple[int, ...] | range
    what: str
    labels: str = ""
    optional: bool = False

    def problem_of_columns(self, count: int) -> str | None:
        """Return what is wrong with so many columns, as the end of a sentence about the loss; None if nothing is."""
        if isinstance(self.columns, range):
            if count >= self.columns.start:
                return None
            wanted = f"at least {self.columns.start}"
        elif count in self.columns:
            return None
        else:
            wanted = " or ".join(map(str, self.columns))
        return f"takes {wanted} columns ({self.what}) besides the label, the dataset has {count}"


class Loss(nn.Module):
    """A loss on the vectors of the columns of a batch.

    A subclass gives :meth:`compute_loss_from_embeddings`; it can then be wrapped by losses that change vectors first.

    Args:
        model: The encoder that is trained.

    Attributes:
        takes: Columns and labels of its batches; None where those of an inner loss are meant, or any.
        config_keys: Attributes that a model card shows.
        citation: BibTeX of the method, empty where there is none.
    """

    takes: ClassVar[Takes | None] = None
    config_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Any:
        """Return the loss of a batch, a number or several by name.

        Args:
            sentence_features: The features of each column.
            labels: ``[rows, ...]``, as the loss defines.
        """
        return self.compute_loss_from_embeddings(embed_columns(self.model, list(sentence_features)), labels)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        """Return the loss of vectors ``[rows, width]``, one tensor a column."""
        raise NotImplementedError

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {key: _shown(getattr(self, key)) for key in self.config_keys}


def _shown(value: Any) -> Any:
    return similarity_fct_name(value) if callable(value) and not isinstance(value, nn.Module) else value


def scaled(weight: float, loss: Any) -> Any:
    """Return a loss, of one part or several by name, times a weight."""
    return {name: weight * part for name, part in loss.items()} if isinstance(loss, dict) else weight * loss


def check_columns(loss: Any, columns: Sequence[Any]) -> None:
    """Raise :class:`~fourfold.errors.InputError` if a batch has another number of columns than a loss takes."""
    if problem := loss.takes.problem_of_columns(len(columns)):
        raise InputError(f"{type(loss).__name__} {problem}")


def check_labels(loss: Any, labels: Tensor | None, rows: int) -> Tensor:
    """Return labels, one a row; raises :class:`~fourfold.errors.InputError` if there are others or none."""
    name, what = type(loss).__name__, loss.takes.labels
    if labels is None:
        raise InputError(f"{name} needs labels ({what}): a column named label, labels, score or scores")
    if len(labels) != rows:
        raise InputError(f"{name} needs a label a row ({what}): got {len(labels)} labels for {rows} rows")
    return labels
