"""The datasets of a training: which kinds there are, and what is wrong with one, found before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from fourfold.errors import InputError, did_you_mean
from fourfold.modules.router import Router
from fourfold.training.collator import NAME_COLUMN, label_column

# Keys of a batch that mean something else.
_RESERVED = ("return_loss", NAME_COLUMN)


def as_datasets(given: Any, argument: str) -> Any:
    """Return what was given as a dataset, a plain dictionary of datasets as a ``DatasetDict``.

    Raises:
        InputError: If the columns of a stream are not known, or datasets and streams are mixed.
    """
    from datasets import DatasetDict, IterableDataset

    if isinstance(given, dict) and not isinstance(given, DatasetDict) and type(given) is dict:
        given = DatasetDict(given)
    for name, dataset in members(given):
        if isinstance(dataset, IterableDataset) and dataset.column_names is None:
            raise InputError(_unknown_columns(dataset, name or argument))
    return given


def members(given: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield each dataset with its name; a single one has none."""
    if isinstance(given, Mapping):
        yield from given.items()
    elif given is not None:
        yield None, given


def _unknown_columns(dataset: Any, name: str) -> str:
    """Return the message about a stream whose columns are not known, with the code that tells them."""
    row = next(iter(dataset), None)
    if row is None:
        return f"{name} is an IterableDataset without rows"
    from datasets import Dataset

    found = Dataset.from_list([row]).features
    listed = ", ".join(f"{column!r}: {feature!r}" for column, feature in found.items())
    return (
        f"the columns of the IterableDataset {name} are not known; tell them, by its first row: "
        f"dataset = dataset.cast(Features({{{listed}}}))"
    )


def check_column_names(columns: Iterable[str], name: str | None) -> None:
    """Raise :class:`~fourfold.errors.InputError` for names that a batch uses itself."""
    for column in columns:
        if column in _RESERVED:
            raise InputError(f"{_called(name)} has a column {column!r}, a name that batches use; rename the column")


def named(dataset: Any, name: str) -> Any:
    """Return a dataset or a stream whose rows also hold its name, which is added when rows are read."""
    from datasets import IterableDataset

    if isinstance(dataset, IterableDataset):
        from datasets import Value

        features = dataset.features
        if features is not None:
            features = features.copy()
            features[NAME_COLUMN] = Value("string")
        return dataset.map(lambda row: {**row, NAME_COLUMN: name}, features=features)
    earlier = dataset.format["format_kwargs"].get("transform") if dataset.format["type"] == "custom" else None

    def with_name(batch: Any) -> Any:
        columns = dict(batch if earlier is None else earlier(batch))
        rows = len(next(iter(columns.values()), ()))
        return {**columns, NAME_COLUMN: [name] * rows} if rows else columns

    return dataset.with_transform(with_name)


# -- before the first step ---------------------------------------------------------------------------------------------


def check_training(datasets: Any, loss: Any, labels: Sequence[str], argument: str) -> None:
    """Raise :class:`~fourfold.errors.InputError` if a dataset is not what its loss takes.

    Args:
        datasets: A dataset, or datasets by name.
        loss: The loss, or losses by name.
        labels: Names that a label column may have.
        argument: What the datasets are called where they have no name.
    """
    for name, dataset in members(datasets):
        own = loss.get(name) if isinstance(loss, Mapping) else loss
        where = _called(name, argument)
        if hasattr(dataset, "__len__") and len(dataset) == 0:
            raise InputError(f"{where} has no rows; there is nothing to train on")
        if dataset.column_names and own is not None:
            _check_columns(dataset, own, labels, where)


def _check_columns(dataset: Any, loss: Any, labels: Sequence[str], where: str) -> None:
    takes = _innermost(loss)
    if takes is None or getattr(takes, "takes", None) is None:
        return
    columns = [column for column in dataset.column_names if column != NAME_COLUMN]
    label = label_column(columns, labels)
    inputs = [column for column in columns if column != label]
    name = type(takes).__name__
    if problem := takes.takes.problem_of_columns(len(inputs)):
        raise InputError(
            f"{where}: {name} {problem}: {inputs}; losses take all columns, in their order: "
            "dataset.select_columns([...]) chooses them"
        )
    if not takes.takes.labels:
        return
    if label is None:
        if takes.takes.optional:
            return
        raise InputError(
            f"{where}: {name} needs labels ({takes.takes.labels}) in a column named {', '.join(labels)}; its columns "
            f"are {inputs}"
        )
    feature = (dataset.features or {}).get(label)
    if feature is not None and getattr(_element(feature), "dtype", "") in ("string", "large_string", "binary"):
        raise InputError(
            f"{where}: the label column {label!r} holds text, and {name} needs numbers ({takes.takes.labels}); "
            "dataset.class_encode_column makes numbers of names"
        )


def _innermost(loss: Any) -> Any:
    """Return the loss whose columns and labels are meant: that inside one that changes vectors or adds to it."""
    while getattr(loss, "takes", None) is None and isinstance(getattr(loss, "loss", None), nn.Module):
        loss = loss.loss
    return loss


def _element(feature: Any) -> Any:
    while hasattr(feature, "feature"):
        feature = feature.feature
    return feature


def check_routes(model: Any, mapping: Any, datasets: Any) -> None:
    """Raise :class:`~fourfold.errors.InputError` if a mapping names a route, a dataset or a column that is not there.

    Args:
        model: The encoder; without a ``Router`` any route is as good as another.
        mapping: The route by column, by dataset and column, or (of a cross encoder) by dataset.
        datasets: What is trained on.
    """
    routers = [module for module in model.modules() if isinstance(module, Router)]
    routes = list(dict.fromkeys(route for router in routers for route in router.sub_modules))
    known = dict(members(datasets))
    for name, value in (mapping or {}).items():
        nested = isinstance(value, dict)
        if nested and known and None not in known and name not in known:
            raise InputError(
                f"router_mapping names the dataset {name!r}; those trained on are {', '.join(map(str, known))}."
                f"{did_you_mean(name, map(str, known))}"
            )
        for column, route in value.items() if nested else [(name, value)]:
            if routes and route not in routes:
                raise InputError(
                    f"router_mapping sends {column!r} to the route {route!r}, which the model's Router has not; it has "
                    f"{', '.join(routes)}.{did_you_mean(route, routes)}"
                )
            some = {name: known[name]} if nested and name in known else known
            every = {each for dataset in some.values() for each in dataset.column_names or ()}
            if every and column not in every and column not in known:
                raise InputError(
                    f"router_mapping names the column {column!r}, which {_called(name if nested else None)} has not; "
                    f"there are {', '.join(sorted(every - {NAME_COLUMN}))}.{did_you_mean(column, every)}"
                )


def _called(name: str | None, argument: str = "the dataset") -> str:
    return argument if name is None else f"the dataset {name!r}"
