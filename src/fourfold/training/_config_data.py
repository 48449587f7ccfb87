"""The data of a training's file: which files or hub data sets are meant, and their rows."""

from __future__ import annotations

import csv
import glob
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fourfold.errors import InputError, did_you_mean
from fourfold.training._config_file import Faults, below, shown
from fourfold.training.collator import DEFAULT_LABEL_COLUMNS, label_column

KEYS = ("path", "hub", "subset", "split", "revision", "columns", "rename", "classes", "limit")

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_KINDS = (*_DELIMITERS, *_JSON_LINES, ".parquet")
_CHUNK = 10_000  # rows that become arrow at a time, so that most rows are never Python objects together


@dataclass(frozen=True)
class Source:
    """Where rows come from.

    Attributes:
        at: Path of the key that says it.
        files: The files, in order; none of a data set of the hub.
        hub: Name of a data set of the hub.
        subset: Its subset.
        split: Its split.
        revision: Branch, tag or commit.
        columns: The columns that are used, in their order; None is all.
        rename: New names of columns.
        classes: Names of labels, whose places become the labels; None for labels that are numbers.
        limit: Most rows; None is all.
    """

    at: str
    files: tuple[Path, ...] = ()
    hub: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: tuple[str, ...] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    limit: int | None = None


def parse(given: Any, at: str, faults: Faults, *, aside: Sequence[str] = ()) -> Source:
    """Return where rows come from; what is wrong with it is noted, columns that the files lack included.

    Args:
        given: A mapping with some of :data:`KEYS`, or a path alone.
        at: Path of its key.
        faults: Takes what is wrong.
        aside: Further keys that mean something to the caller.
    """
    if isinstance(given, (str, list)):
        given = {"path": given}
    values = faults.mapping(at, given, "a mapping with path or hub, or a path")
    faults.unknown(at, values, (*KEYS, *aside))
    if ("path" in values) == ("hub" in values):
        if isinstance(given, Mapping):
            both = "path and hub are both given" if "path" in values else "neither path nor hub is given"
            faults.add(at, f"{both}; give one")
    elif "path" in values:
        for key in {"subset", "split", "revision"} & set(values):
            faults.add(below(at, key), "belongs to a data set of the hub, and path is given")
    source = Source(
        at=at,
        files=_files(values["path"], below(at, "path"), faults) if "path" in values else (),
        hub=_text(values, "hub", at, faults),
        subset=_text(values, "subset", at, faults),
        split=_text(values, "split", at, faults) or "train",
        revision=_text(values, "revision", at, faults),
        columns=_names(values, "columns", at, faults),
        rename={
            key: str(value)
            for key, value in faults.mapping(below(at, "rename"), values.get("rename"), "old: new").items()
        },
        classes=_names(values, "classes", at, faults),
        limit=_limit(values.get("limit"), below(at, "limit"), faults),
    )
    _check_columns(source, faults)
    return source


def load(source: Source, *, labels: bool = True) -> Any:
    """Return the rows as a ``Dataset``: columns chosen, in their order and under their new names.

    Text stays text: of CSV and TSV only a column of labels is read as numbers.

    Args:
        source: Where they come from.
        labels: Whether a label column holds labels, and not another text.

    Raises:
        InputError: If the files cannot be read, a column is missing, a cell is empty, or labels are no numbers.
    """
    dataset = _from_hub(source) if source.hub else _from_files(source)
    _check_names(source, dataset.column_names)
    if source.columns is not None:
        dataset = dataset.select_columns(list(source.columns))
    if source.rename:
        dataset = dataset.rename_columns(dict(source.rename))
    if source.limit is not None:
        dataset = dataset.select(range(min(source.limit, len(dataset))))
    if len(dataset) == 0:
        raise InputError("there are no rows")
    label = label_column(dataset.column_names, DEFAULT_LABEL_COLUMNS) if labels else None
    for name in dataset.column_names:
        if empty := dataset.data.column(name).null_count:
            raise InputError(f"the column {name!r} is empty in {empty} of {len(dataset)} rows")
    return _numbered(source, dataset, label) if label else dataset


def numbers(values: Sequence[Any]) -> list[int] | list[float]:
    """Return numbers from values that may be text: whole ones if all are.

    Raises:
        ValueError: If one is no number.
    """
    if any(isinstance(value, str) for value in values):
        try:
            return [int(value) for value in values]
        except ValueError:
            return [float(value) for value in values]
    return list(values)


# -- what is said of them ----------------------------------------------------------------------------------------------


def _files(given: Any, at: str, faults: Faults) -> tuple[Path, ...]:
    found: list[Path] = []
    for pattern in given if isinstance(given, list) else [given]:
        if not isinstance(pattern, str):
            faults.add(at, f"must be a path, a pattern or a list of them, got {shown(pattern)}")
            continue
        path = Path(pattern).expanduser()
        # Path.glob takes no absolute patterns.
        names = [str(path)] if path.is_file() else sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        paths = [Path(name) for name in names]
        paths = [path for path in paths if path.is_file()]
        if not paths:
            folder = path.parent if path.parent.is_dir() else None
            near = did_you_mean(path.name, [file.name for file in folder.iterdir()]) if folder else ""
            faults.add(at, f"there is no file {pattern!r}.{near}")
        for path in paths:
            if _kind(path) not in _KINDS:
                faults.add(at, f"{str(path)!r} must end in {', '.join(_KINDS)}, all but the last also as .gz")
            else:
                found.append(path)
    return tuple(found)


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = next(iter(suffixes[-2:-1] if packed else suffixes[-1:]), "")
    return "" if packed and kind == ".parquet" else kind


def _text(values: Mapping[str, Any], key: str, at: str, faults: Faults) -> str | None:
    value = values.get(key)
    if value is None or isinstance(value, str):
        return value
    faults.add(below(at, key), f"must be a text, got {shown(value)}")
    return None


def _names(values: Mapping[str, Any], key: str, at: str, faults: Faults) -> tuple[str, ...] | None:
    value = values.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(name, (str, int)) for name in value):
        faults.add(below(at, key), f"must be a list of names, got {shown(value)}")
        return None
    if twice := {name for name in value if value.count(name) > 1}:
        faults.add(below(at, key), f"names {', '.join(map(repr, sorted(twice, key=str)))} twice")
    return tuple(map(str, value))


def _limit(value: Any, at: str, faults: Faults) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    faults.add(at, f"must be a whole number of at least 1, got {shown(value)}")
    return None


def _check_columns(source: Source, faults: Faults) -> None:
    for file in source.files:
        with faults.during(source.at):
            _check_names(source, columns_of(file), file)


def columns_of(file: Path) -> list[str]:
    """Return the names of a file's columns; of JSON Lines those of the first row."""
    if _kind(file) == ".parquet":
        import pyarrow.parquet as pq

        return list(pq.read_schema(file).names)
    return list(next(_rows(file), {}))


def names_of(source: Source) -> list[str] | None:
    """Return the names of the columns as they will be; None if only reading the data tells."""
    there = source.columns
    if there is None and source.files:
        try:
            there = tuple(columns_of(source.files[0]))
        except (OSError, ValueError):
            there = None  # noted where the columns were looked at
    return None if there is None else [source.rename.get(name, name) for name in there]


def _check_names(source: Source, there: Sequence[str], file: Path | None = None) -> None:
    where = f"{str(file)!r}" if file else "the data"
    for key, names in (("columns", source.columns or ()), ("rename", source.rename)):
        for name in names:
            if name not in there:
                hint = did_you_mean(name, there)
                raise InputError(f"{key} names {name!r}, and {where} has {', '.join(there) or 'no rows'}.{hint}")


# -- their rows --------------------------------------------------------------------------------------------------------


def _from_hub(source: Source) -> Any:
    from datasets import load_dataset

    return load_dataset(source.hub, source.subset, split=source.split, revision=source.revision)


def _from_files(source: Source) -> Any:
    import pyarrow as pa
    from datasets import Dataset

    tables: list[Any] = []
    missing = source.limit
    for file in source.files:
        for table in _tables(file, source.columns):
            if missing is not None:
                table = table.slice(0, missing)
                missing -= len(table)
            tables.append(table)
            if missing == 0:
                break
    if not tables:
        raise InputError("there are no rows")
    return Dataset(pa.concat_tables(tables, promote_options="permissive"))


def _tables(file: Path, columns: Sequence[str] | None) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if _kind(file) == ".parquet":
        # What pandas wrote about its index is not what the columns hold.
        yield pq.read_table(file, columns=list(columns) if columns else None).replace_schema_metadata()
        return
    rows = _rows(file)
    while chunk := list(itertools.islice(rows, _CHUNK)):
        names = columns or dict.fromkeys(name for row in chunk for name in row)
        try:
            yield pa.table({name: [row.get(name) for row in chunk] for name in names})
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(f"{file} has values of several kinds in one column: {error}") from None


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    kind = _kind(file)
    with _opened(file, newline="" if kind in _DELIMITERS else "\n") as lines:
        yield from (_csv(file, lines, _DELIMITERS[kind]) if kind in _DELIMITERS else _json_lines(file, lines))


@contextmanager
def _opened(file: Path, newline: str) -> Iterator[io.TextIOWrapper]:
    with file.open("rb") as raw:
        stream: Any = gzip.GzipFile(fileobj=raw) if file.suffix.lower() == ".gz" else raw
        try:
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline) as lines:
                yield lines
        except UnicodeDecodeError as error:
            raise InputError(
                f"{file} is not UTF-8 text: byte {error.object[error.start]:#04x} cannot be read"
            ) from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{file} is not a whole gzip file: {error}") from None


def _csv(file: Path, lines: io.TextIOWrapper, delimiter: str) -> Iterator[dict[str, Any]]:
    # The default limit of 128 KiB a cell is there for memory's sake; a document may be longer.
    csv.field_size_limit(1 << 30)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise InputError(f"{file}: two columns of the header have the same name: {', '.join(header)}")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(f"{file}, line {reader.line_num} has {len(row)} cells, the header has {len(header)}")
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num} is not valid CSV: {error}") from None


def _json_lines(file: Path, lines: io.TextIOWrapper) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}, line {number} is not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f"{file}, line {number} must hold a JSON object, got {type(row).__name__}")
        yield row


def _numbered(source: Source, dataset: Any, label: str) -> Any:
    """Return the dataset with its labels as numbers."""
    import pyarrow as pa
    from datasets import Dataset

    if dataset._indices is not None:
        dataset = dataset.flatten_indices()
    table = dataset.data.table
    values = table.column(label).to_pylist()
    if source.classes is not None:
        places = {name: place for place, name in enumerate(source.classes)}
        if strangers := {str(value) for value in values} - set(places):
            named = ", ".join(map(repr, sorted(strangers)[:5]))
            raise InputError(f"the label column {label!r} holds {named}; classes are {', '.join(places)}")
        found: Sequence[Any] = [places[str(value)] for value in values]
    elif values and isinstance(values[0], str):
        try:
            found = numbers(values)
        except ValueError as error:
            raise InputError(
                f"the label column {label!r} holds text ({error}); classes: [...] numbers the names of labels in their "
                "order"
            ) from None
    else:
        return dataset
    place = table.schema.get_field_index(label)
    return Dataset(table.set_column(place, label, pa.array(found)).replace_schema_metadata())
