"""From the flat keys of a batch back to the features of each column."""

from __future__ import annotations

from typing import Any

from torch import Tensor

# A column is there when one of these keys is, with its name in front.
_MARKS = (
    "input_ids", "sentence_embedding", "pixel_values", "input_features", "input_values", "pixel_values_videos",
)  # fmt: skip


def by_column(inputs: dict[str, Any]) -> tuple[list[dict[str, Any]], Tensor | None]:
    """Return the features of each column, in order, and the labels, if there are any.

    A column's keys stand together, so that one which two columns' names begin belongs to the nearer.
    """
    places: dict[str, int] = {}
    columns: dict[str, dict[str, Any]] = {}
    for place, key in enumerate(inputs):
        if mark := next((mark for mark in _MARKS if key.endswith(f"_{mark}")), None):
            column = key[: -len(mark)]
            places.setdefault(column, place)
            columns.setdefault(column, {})[mark] = inputs[key]
    marked = {column + mark for column, found in columns.items() for mark in found}
    for place, key in enumerate(inputs):
        fitting = [column for column in columns if key.startswith(column)]
        if fitting and key not in marked:
            column = min(fitting, key=lambda column: abs(places[column] - place))
            columns[column][key[len(column) :]] = inputs[key]
    return list(columns.values()), inputs.get("label")
