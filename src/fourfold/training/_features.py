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

    Where one column's name begins with another's, a key belongs to the longer one that fits.
    """
    columns: dict[str, dict[str, Any]] = {}
    for key in inputs:
        for mark in _MARKS:
            if key.endswith(f"_{mark}"):
                columns.setdefault(key[: -len(mark)], {})
    longest_first = sorted(columns, key=len, reverse=True)
    for key, value in inputs.items():
        column = next((column for column in longest_first if key.startswith(column)), None)
        if column is not None:
            columns[column][key[len(column) :]] = value
    return list(columns.values()), inputs.get("label")
