"""What every evaluator shares: names in front of numbers, the table of results, the model card."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, ClassVar

from fourfold.errors import InputError

logger = logging.getLogger(__name__)


class BaseEvaluator:
    """Measure a model: called with it, an evaluator returns numbers by name.

    A subclass gives :meth:`__call__`. What it needs there is here: :meth:`_announce` says in the log what begins, and
    :meth:`_finish` does all that follows once the numbers are known.

    Attributes:
        greater_is_better: Whether a larger primary number is a better model.
        primary_metric: The number that stands for all, with the evaluator's name in front once it has been called;
            None if not known yet.
        name: Name of the data, in front of every number; empty for none.
        write_csv: Whether a table of results is written.
        csv_file: File name of the table.
        csv_headers: Its columns, ``epoch`` and ``steps`` first.
        truncate_dim: How many leading numbers of each vector are used; None is all.

    >>> class Length(BaseEvaluator):
    ...     primary_metric = "length"
    ...     def __call__(self, model, output_path=None, epoch=-1, steps=-1):
    ...         return self.prefix_name_to_metrics({"length": len(model)}, "mine")
    >>> Length()("a model")
    {'mine_length': 7.0}
    >>> Length().description
    'Length'
    """

    greater_is_better: bool = True
    primary_metric: str | None = None
    name: str = ""
    write_csv: bool = True
    csv_file: str = ""
    csv_headers: Sequence[str] = ("epoch", "steps")
    truncate_dim: int | None = None

    # Cells joined by commas and lines ended by a bare line feed, as one older table is; others are as csv writes them.
    _bare_csv: ClassVar[bool] = False

    def __init__(self) -> None:
        self.greater_is_better = True
        self.primary_metric = None

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> Any:
        """Measure a model.

        Args:
            model: The model.
            output_path: Folder for files of results, made if absent; None writes none.
            epoch: Where training stands, for the log and the files; -1 is outside of training.
            steps: Steps of the epoch so far; -1 is its end.

        Returns:
            Numbers by name.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(model, output_path, epoch, steps)")

    @property
    def description(self) -> str:
        """What is measured, in words, from the name of the class."""
        name = type(self).__name__
        if name.startswith("CE"):
            name = "CrossEncoder" + name.removeprefix("CE")
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.partition("Evaluator")[0])

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {}

    def prefix_name_to_metrics(self, metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Return numbers as floats with a name in front of their keys, and of :attr:`primary_metric` once.

        Args:
            metrics: Numbers by name; texts that are no number stay.
            name: The name; empty puts nothing in front.
        """
        prefix = f"{name}_" if name else ""
        primary = self.primary_metric
        if primary is not None and (primary in metrics or not primary.startswith(prefix)):
            self.primary_metric = prefix + primary
        return {prefix + key: _number(value) for key, value in metrics.items()}

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Note results in the model's card."""
        model.model_card_data.set_evaluation_metrics(self, metrics, epoch=epoch, step=step)

    # -- for subclasses ----------------------------------------------------------------------------------------------

    def _announce(self, epoch: int, steps: int) -> None:
        """Say in the log what is measured and where training stands."""
        data = f" on {self.name}" if self.name else ""
        logger.info("%s%s%s", type(self).__name__, data, moment(epoch, steps, self.truncate_dim))

    def _extra_headers(self) -> list[str]:
        """Return the columns that follow an evaluator's own."""
        return []

    def _extra_metrics(self) -> dict[str, float]:
        """Return the numbers that follow an evaluator's own, in the order of :meth:`_extra_headers`."""
        return {}

    def _set_columns(self, columns: Iterable[str]) -> None:
        self.csv_headers = ["epoch", "steps", *columns, *self._extra_headers()]

    def _finish(
        self, model: Any, metrics: Mapping[str, Any], *, cells: Iterable[Any], output_path: str | None, epoch: int,
        steps: int,
    ) -> dict[str, Any]:  # fmt: skip
        """Write the row of results, note them in the model's card, and return them under their full names.

        Args:
            model: The model that was measured.
            metrics: Its numbers.
            cells: Those of the table, in the order of its columns after ``epoch`` and ``steps``.
            output_path: Folder of the table; None writes none.
            epoch: As given to the evaluator.
            steps: As given to the evaluator.
        """
        extra = self._extra_metrics()
        for key, value in extra.items():
            logger.info("%s: %.4f", key, value)
        if output_path is not None and self.write_csv:
            row = [epoch, steps, *cells, *extra.values()]
            append_row(Path(output_path, self.csv_file), row, headers=self.csv_headers, bare=self._bare_csv)
        named = self.prefix_name_to_metrics({**metrics, **extra}, self.name)
        self.store_metrics_in_model_card_data(model, named, epoch, steps)
        return named


SentenceEvaluator = BaseEvaluator


class EmbeddingEvaluator(BaseEvaluator):
    """An evaluator of models that turn a text into a vector.

    Args:
        name: Name of the data.
        batch_size: Texts that the model encodes at once.
        show_progress_bar: Whether encoding shows bars.
        write_csv: Whether a table of results is written.
        truncate_dim: How many leading numbers of each vector are used; None is all.
    """

    def __init__(
        self, *, name: str, batch_size: int, show_progress_bar: bool, write_csv: bool, truncate_dim: int | None
    ) -> None:
        super().__init__()
        self.name = name
        self.batch_size = batch_size
        self.show_progress_bar = show_progress_bar
        self.write_csv = write_csv
        self.truncate_dim = truncate_dim

    def embed_inputs(self, model: Any, sentences: Any, encode_fn_name: str | None = None, **kwargs: Any) -> Any:
        """Return the vectors of some texts; a subclass may make them otherwise.

        Args:
            model: The model.
            sentences: The texts.
            encode_fn_name: ``query`` or ``document`` for what encodes those; None for plain ``encode``.
            **kwargs: Further arguments of the model's method.
        """
        encode = getattr(model, f"encode_{encode_fn_name}" if encode_fn_name else "encode")
        options = {"batch_size": self.batch_size, "show_progress_bar": self.show_progress_bar, **self._encode_options()}
        return encode(sentences, **{**options, **kwargs})

    def _encode_options(self) -> dict[str, Any]:
        """Return what every call of the model's encoding is given besides size of batch and bar."""
        return {"convert_to_numpy": True, "truncate_dim": self.truncate_dim}

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {} if self.truncate_dim is None else {"truncate_dim": self.truncate_dim}


def _number(value: Any) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


def moment(epoch: int, steps: int, truncate_dim: int | None = None) -> str:
    """Return where training stands, to follow a sentence's subject.

    >>> moment(-1, -1), moment(2, -1), moment(2, 10, 8)
    ('', ' after epoch 2', ' in epoch 2 after 10 steps (truncated to 8)')
    """
    when = "" if epoch == -1 else f" after epoch {epoch}" if steps == -1 else f" in epoch {epoch} after {steps} steps"
    return when if truncate_dim is None else f"{when} (truncated to {truncate_dim})"


def underscored(name: Any) -> str:
    """Return a name as a part of a file's name: with an underscore in front unless it is empty."""
    return f"_{name}" if name else ""


def check_lengths(**columns: Sized) -> None:
    """Raise :class:`~fourfold.errors.InputError` unless all columns have as many rows."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"{' and '.join(lengths)} must have as many rows each; {found}")


def append_row(path: Path, row: Sequence[Any], *, headers: Sequence[str], bare: bool = False) -> None:
    """Add a row to a table of results, which is begun with its headers if it is not there; folders are made.

    A table that was begun with other columns is told of, and the row added all the same.

    Args:
        path: The table.
        row: Its next row.
        headers: Its columns.
        bare: Join cells by commas without quotes, and end lines with a line feed alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _line(headers, bare=bare)
    begun = path.is_file() and path.stat().st_size > 0
    if begun:
        with path.open(newline="", encoding="utf-8") as file:
            there = file.readline()
        if there.strip() != header.strip():
            logger.warning("%s was begun with other columns than this row has, which are %s", path, header.strip())
    with path.open("a", newline="", encoding="utf-8") as file:
        file.write(("" if begun else header) + _line(row, bare=bare))


def _line(cells: Sequence[Any], *, bare: bool) -> str:
    if bare:
        return ",".join(map(str, cells)) + "\n"
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()
