"""What every loss on vectors shares: a model, the way from features to vectors, and what is checked on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.losses._columns import embed_columns
from fourfold.modules._base import Features
from fourfold.ops.names import similarity_fct_name


class Loss(nn.Module):
    """A loss on the vectors of the columns of a batch.

    A subclass gives :meth:`compute_loss_from_embeddings`; it can then be wrapped by losses that change vectors first.

    Args:
        model: The encoder that is trained.

    Attributes:
        config_keys: Attributes that a model card shows.
        citation: BibTeX of the method, empty where there is none.
    """

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


def check_columns(embeddings: Sequence[Any], allowed: Sequence[int] | range, what: str, name: str) -> None:
    """Raise :class:`~fourfold.errors.InputError` if a batch has another number of columns than a loss takes.

    Args:
        embeddings: One entry a column.
        allowed: Numbers of columns; of a range the last one is open.
        what: What the columns are.
        name: The loss.
    """
    count = len(embeddings)
    if isinstance(allowed, range):
        if count >= allowed.start:
            return
        wanted = f"at least {allowed.start}"
    elif count in allowed:
        return
    else:
        wanted = " or ".join(map(str, allowed))
    raise InputError(f"{name} takes {wanted} columns ({what}) besides the label, the dataset has {count}")


def check_labels(labels: Tensor | None, rows: int, what: str, name: str) -> Tensor:
    """Return labels, one a row; raises :class:`~fourfold.errors.InputError` if there are others or none."""
    if labels is None:
        raise InputError(f"{name} needs labels ({what}): a column named label, labels, score or scores")
    if len(labels) != rows:
        raise InputError(f"{name} needs a label a row ({what}): got {len(labels)} labels for {rows} rows")
    return labels
