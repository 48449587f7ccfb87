"""Weights by token, such as inverse document frequencies, in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import FolderError, WeightsError
from fourfold.store.source import Source

IDF_FILE = "idf.json"
_LARGEST = float(np.finfo(np.float32).max)


def find_weights(source: Source, path: str) -> Path:
    """Return a file that a module's settings name: beside them, or relative to the model's own folder.

    Raises:
        MissingFileError: If it is in neither.
    """
    found = source.file(path) or replace(source, subfolder="").file(path)
    return found if found is not None else source.need(path)


def check_size(count: int, vocabulary: Mapping[str, int], origin: str) -> None:
    """Raise :class:`~fourfold.errors.WeightsError` unless so many weights suffice for every token."""
    highest = max(vocabulary.values(), default=-1)
    if highest >= count:
        raise WeightsError(f"{origin}: the tokenizer has ids up to {highest}, the file {count} weights")


def read_weights(path: Path, vocabulary: Mapping[str, int], origin: str) -> NDArray[np.float32]:
    """Return the weight of each token, ``[vocabulary]``, from a JSON object of weights by token; 0 where it has none.

    Args:
        path: The file.
        vocabulary: Ids by token. Tokens of the file that it lacks are left out.
        origin: What error messages call the file.

    Raises:
        FolderError: If the file holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{origin} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise FolderError(f"{origin} must hold an object of weights by token, got {type(values).__name__}")
    weights = np.zeros(max(len(vocabulary), max(vocabulary.values(), default=-1) + 1), np.float32)
    for token, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
            raise FolderError(f"{origin}: the weight of {token!r} must be a finite float32 number, got {value!r}")
        if token in vocabulary:
            weights[vocabulary[token]] = value
    return weights
