"""What a model's card says about a dataset: where it is from, how large it is, what is in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from fourfold.ops.names import fullname

# A look at the first rows is enough for a card.
ROWS_SEEN = 100
SAMPLES = 3

_OF_THE_HUB = re.compile(r"^hf://datasets/(?P<id>[^@]+)@(?P<revision>[0-9a-f]{40})/")


def facts(dataset: Any, loss: Any, model: Any, name: str | None = None) -> dict[str, Any]:
    """Return an entry of a card's ``train_datasets`` or ``eval_datasets``.

    Args:
        dataset: A dataset, or a stream, of which nothing is read.
        loss: The loss that it is for.
        model: Its tokenizer counts the tokens of texts.
        name: Its name, if it is one of several.
    """
    hub = _hub(dataset)
    entry: dict[str, Any] = {"name": name or (hub["id"].rpartition("/")[2] if hub else None), **hub}
    columns = [column for column in dataset.column_names or () if column != "dataset_name"]
    entry["columns"] = columns
    if hasattr(dataset, "__len__"):
        entry["size"] = len(dataset)
        rows = dataset[:ROWS_SEEN]
        entry["stats"] = {column: statistics(rows[column], model) for column in columns if len(rows[column])}
        entry["examples"] = {column: list(rows[column][:SAMPLES]) for column in columns}
    config = loss.get_config_dict() if hasattr(loss, "get_config_dict") else {}
    entry["loss"] = {"fullname": fullname(loss), "config": config}
    return entry


def _hub(dataset: Any) -> dict[str, str]:
    """Return the dataset's name and commit on the hub, as far as the addresses of its files tell."""
    checksums = getattr(getattr(dataset, "info", None), "download_checksums", None) or {}
    found = next((match for address in checksums if (match := _OF_THE_HUB.match(str(address)))), None)
    return {} if found is None else found.groupdict()


def statistics(values: Sequence[Any], model: Any) -> dict[str, Any]:
    """Return kind, modality and a few numbers of a column's values.

    >>> statistics([1, 1, 0, 1], None)["data"], statistics([0.5, 1.0], None)["data"]
    ({0: '~25.00%', 1: '~75.00%'}, {'min': 0.5, 'mean': 0.75, 'max': 1.0})
    """
    first = values[0]
    if isinstance(first, str):
        lengths, unit = _lengths(values, model)
        mean = f"{sum(lengths) / len(lengths):.2f}".rstrip("0")
        data = {"min": f"{min(lengths)} {unit}", "mean": f"{mean + '0' * mean.endswith('.')} {unit}"}
        return {"dtype": "string", "modality": "text", "data": {**data, "max": f"{max(lengths)} {unit}"}}
    if isinstance(first, (bool, Integral)):
        counts = Counter(values)
        shares = {key: f"~{count / len(values):.2%}" for key, count in sorted(counts.items())}
        return {"dtype": type(first).__name__, "modality": "", "data": shares}
    if isinstance(first, Real):
        mean = sum(values) / len(values)
        data = {"min": min(values), "mean": mean, "max": max(values)}
        return {"dtype": "float", "modality": "", "data": {key: round(float(n), 2) for key, n in data.items()}}
    if isinstance(first, (list, tuple)):
        sizes = sorted({len(value) for value in values})
        size = f"{sizes[0]} elements" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} elements"
        return {"dtype": "list", "modality": "", "data": {"size": size}}
    return {"dtype": fullname(first), "modality": _modality(first), "data": {}}


def _lengths(texts: Sequence[str], model: Any) -> tuple[list[int], str]:
    """Return the lengths of texts in tokens, or where a model's tokenizer does not tell, in characters."""
    tokenizer = getattr(model, "tokenizer", None)
    if callable(tokenizer):
        limit = getattr(model, "max_seq_length", None)
        ids = tokenizer(list(texts), truncation=bool(limit), max_length=limit)["input_ids"]
        return [len(row) for row in ids], "tokens"
    return [len(text) for text in texts], "characters"


def _modality(value: Any) -> str:
    from fourfold.text.modality import infer_modality

    try:
        return str(infer_modality(value))
    except ValueError:
        return ""
