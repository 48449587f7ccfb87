"""The evaluators of a training's file: their classes, and their arguments from columns of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fourfold.errors import InputError, did_you_mean
from fourfold.training import _config_data
from fourfold.training._config_arguments import check_keys, check_missing, parameters
from fourfold.training._config_file import Faults, below, shown
from fourfold.training._config_losses import find

_PACKAGE = "fourfold.evaluation"
_OWN = ("name", "label", "data", "columns")
# Of retrieval: texts by id, and the ids of the documents that belong to a query.
_TEXTS, _RELEVANT = ("queries", "corpus"), ("relevant", "relevant_docs")


@dataclass(frozen=True)
class Table:
    """An argument that is made of rows of its own.

    Attributes:
        source: Where they come from.
        columns: What is which column: ``id`` and ``text``, or ``query``, ``document`` and ``score``, or ``column``.
    """

    source: _config_data.Source
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluatorSpec:
    """An evaluator that is yet to be built.

    Attributes:
        at: Path of the key that says it.
        cls: Its class.
        options: Arguments that are in the file as they are.
        data: Rows whose columns are arguments; None for none.
        columns: The column of each such argument.
        tables: Arguments with rows of their own.
    """

    at: str
    cls: Any
    options: dict[str, Any]
    data: _config_data.Source | None
    columns: dict[str, str]
    tables: dict[str, Table]

    def build(self) -> Any:
        """Return the evaluator; its data is read here.

        Raises:
            InputError: If the data lacks a column or cannot be read.
        """
        arguments: dict[str, Any] = dict(self.options)
        taken = parameters(self.cls.__init__)
        if self.data is not None:
            rows = _config_data.load(self.data, labels=False)
            columns = {**{name: name for name in taken if name in rows.column_names}, **self.columns}
            _check_columns(columns, rows.column_names)
            for argument, column in columns.items():
                arguments[argument] = _column(rows, column, str(taken[argument].annotation))
        for argument, table in self.tables.items():
            arguments[argument] = _table(argument, table)
        missing = [name for name, parameter in taken.items()
                   if parameter.default is parameter.empty and name not in arguments]  # fmt: skip
        if missing:
            named = ", ".join(missing)
            raise InputError(f"{self.cls.__name__} needs {named}; columns: {{{missing[0]}: ...}} says which column")
        return self.cls(**arguments)


def parse(given: Any, at: str, faults: Faults) -> list[EvaluatorSpec]:
    """Return the evaluators that a file lists; what is wrong with them is noted.

    Args:
        given: A list of mappings, or one; None is none.
        at: Path of the key.
        faults: Takes what is wrong.
    """
    listed = given if isinstance(given, list) else [] if given is None else [given]
    found = [_one(part, f"{at}.{number}", faults) for number, part in enumerate(listed)]
    return [spec for spec in found if spec is not None]


def _one(given: Any, at: str, faults: Faults) -> EvaluatorSpec | None:
    values = faults.mapping(at, given, "a mapping with name and data")
    name = values.pop("name", None)
    if not isinstance(name, str):
        if isinstance(given, Mapping):
            faults.add(below(at, "name"), "is missing: the name of an evaluator")
        return None
    with faults.during(below(at, "name")):
        cls = find(_PACKAGE, name)
        return _arguments(cls, values, at, faults)
    if "data" in values:
        _config_data.parse(values["data"], below(at, "data"), faults)
    return None


def _arguments(cls: Any, values: dict[str, Any], at: str, faults: Faults) -> EvaluatorSpec:
    taken = parameters(cls.__init__, aside=["name"])
    aliases = ["relevant"] if "relevant_docs" in taken else []
    check_keys(values, taken, at, faults, own=[*_OWN, *aliases])
    options: dict[str, Any] = {}
    if "label" in values:
        options["name"] = str(values.pop("label"))
    data = values.pop("data", None)
    source = None if data is None else _config_data.parse(data, below(at, "data"), faults)
    columns = faults.mapping(below(at, "columns"), values.pop("columns", None), "a mapping of argument: column")
    faults.unknown(below(at, "columns"), columns, taken)
    if columns and source is None:
        faults.add(below(at, "columns"), "names columns, and there is no data")
    tables = {}
    for key, value in values.items():
        argument = "relevant_docs" if key in _RELEVANT else key
        if argument not in taken:
            continue
        if argument in (*_TEXTS, "relevant_docs") or _is_source(value):
            tables[argument] = _own_rows(argument, value, below(at, key), faults)
        else:
            options[argument] = value
    columns = {key: str(value) for key, value in columns.items() if key in taken}
    there = [] if source is None else _config_data.names_of(source)
    if there is not None:
        check_missing([*options, *tables, *columns, *there], taken, at, faults)
        with faults.during(at):
            _check_columns(columns, there)
    return EvaluatorSpec(at, cls, options, source, columns, tables)


def _check_columns(columns: Mapping[str, str], there: Sequence[str]) -> None:
    for argument, column in columns.items():
        if column not in there:
            hint = did_you_mean(column, there)
            raise InputError(f"columns.{argument}: there is no column {column!r}, but {', '.join(there)}.{hint}")


def _is_source(value: Any) -> bool:
    return isinstance(value, Mapping) and bool({"path", "hub"} & set(value))


def _own_rows(argument: str, value: Any, at: str, faults: Faults) -> Table:
    aside = {"queries": ("id", "text"), "corpus": ("id", "text"), "relevant_docs": ("query", "document", "score")}
    own = aside.get(argument, ("column",))
    source = _config_data.parse(value, at, faults, aside=own)
    given = value if isinstance(value, Mapping) else {}
    columns = {key: given[key] for key in own if key in given}
    for key, column in columns.items():
        several = key == "text" and isinstance(column, list) and all(isinstance(name, str) for name in column)
        if not isinstance(column, str) and not several:
            faults.add(below(at, key), f"must be the name of a column, got {shown(column)}")
    return Table(source, columns)


def _column(rows: Any, column: str, kind: str) -> list[Any]:
    values = rows[column]
    values = values if isinstance(values, list) else values[:]
    return list(_config_data.numbers(values)) if "float" in kind or "int" in kind else values


def _table(argument: str, table: Table) -> Any:
    rows = _config_data.load(table.source, labels=False)
    if argument in _TEXTS:
        return _texts(rows, table)
    if argument == "relevant_docs":
        return _relevant(rows, table)
    return _column(rows, _named(rows, table, "column"), "") if "column" in table.columns else list(rows)


def _texts(rows: Any, table: Table) -> dict[str, str]:
    text = table.columns.get("text")
    parts = text if isinstance(text, list) else [_named(rows, table, "text")]
    columns = [_column(rows, _there(rows, part, table), "") for part in parts]
    joined = [" ".join(str(part) for part in row if part) for row in zip(*columns, strict=True)]
    ids = [str(value) for value in _column(rows, _named(rows, table, "id", "_id"), "")]
    return dict(zip(ids, joined, strict=True))


def _relevant(rows: Any, table: Table) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    queries = _column(rows, _named(rows, table, "query", "query-id", "query_id"), "")
    documents = _column(rows, _named(rows, table, "document", "corpus-id", "corpus_id", "document_id"), "")
    score = table.columns.get("score") or ("score" if "score" in rows.column_names else None)
    scores = [1.0] * len(rows) if score is None else _column(rows, _there(rows, score, table), "float")
    for query, document, value in zip(queries, documents, scores, strict=True):
        if value > 0:
            listed = document if isinstance(document, list) else [document]
            found.setdefault(str(query), set()).update(map(str, listed))
    return found


def _named(rows: Any, table: Table, key: str, *usual: str) -> str:
    """Return the column that a key names, or one of a usual name."""
    if key in table.columns:
        return _there(rows, table.columns[key], table)
    for name in (key, *usual):
        if name in rows.column_names:
            return name
    raise InputError(f"{table.source.at} has the columns {', '.join(rows.column_names)}; {key}: ... says which is it")


def _there(rows: Any, column: str, table: Table) -> str:
    if column not in rows.column_names:
        hint = did_you_mean(column, rows.column_names)
        raise InputError(f"{table.source.at} has no column {column!r}; it has {', '.join(rows.column_names)}.{hint}")
    return column
