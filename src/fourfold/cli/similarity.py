"""``fourfold similarity``: how alike texts are, as a table, as JSON, or as a picture."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fourfold.cli._options import Argument, Option, check_png
from fourfold.cli._say import say
from fourfold.cli._table import fit, width
from fourfold.cli._texts import texts_of
from fourfold.errors import InputError

# Where more columns do not fit side by side, each row shows this many of its best.
_BEST = 3
_NARROWEST, _WIDEST, _NUMBERED = 10, 26, 9
# A picture of more cells than this could not be read, and its labels not be told apart.
_MOST_IN_A_PICTURE = 200


def similarity(
    a: Annotated[str, Argument(help="a text, or a file of texts: one a line, or .jsonl, .csv, .tsv")],
    b: Annotated[str | None, Argument(help="what to compare with; default: the texts of A with each other")] = None,
    *,
    model: Annotated[str | None, Option("--model", "-m", help="model folder or hub name; default: built in")] = None,
    queries: Annotated[
        bool, Option(help="A holds queries and B documents, where the model has prompts or routes for them")
    ] = False,
    png: Annotated[Path | None, Option("--png", help="also draw a heat map into this file")] = None,
    as_json: Annotated[bool, Option("--json", help="print texts and scores as JSON")] = False,
) -> None:
    """Compare texts and show how alike they are.

    Examples:
      fourfold similarity "A cat sits." "Two kittens sleep."
      fourfold similarity questions.txt answers.txt --png heatmap.png
    """
    rows, columns = texts_of(a), texts_of(a if b is None else b)
    if png is not None:
        _check_picture(png, len(rows), len(columns))

    import fourfold

    encoder = fourfold.load(model)
    encoders = (encoder.encode_query, encoder.encode_document) if queries else (encoder.encode, encoder.encode)
    row_vectors = encoders[0](rows, show_progress_bar=False)
    alone = b is None and not queries
    column_vectors = row_vectors if alone else encoders[1](columns, show_progress_bar=False)
    scores = encoder.similarity(row_vectors, column_vectors)
    if as_json:
        table = [[float(score) for score in row] for row in scores]
        sys.stdout.write(json.dumps({"a": rows, "b": columns, "scores": table}, ensure_ascii=False) + "\n")
    else:
        columns_of_terminal = shutil.get_terminal_size((100, 24)).columns
        sys.stdout.writelines(f"{line}\n" for line in _lines(scores, rows, columns, columns_of_terminal))
    if png is not None:
        _draw(png, scores, rows, columns, f"{encoder.similarity_fn_name} similarity, {model or 'built-in model'}")


def _lines(scores: Any, rows: list[str], columns: list[str], room: int) -> Iterator[str]:
    if len(rows) == len(columns) == 1:
        yield f"{float(scores[0, 0]):.4f}"
        return
    label = min(max(map(width, rows)), max(room // 3, _NARROWEST))
    each = min(max(*map(width, columns), _NARROWEST), _WIDEST, (room - label) // len(columns) - 2)
    if each >= _NARROWEST:
        yield from _table(
            scores, [fit(text, label) for text in rows], [fit(text, each, right=True) for text in columns]
        )
    elif rows == columns and room - _NUMBERED * len(columns) > 2 * _NARROWEST:
        # The same texts both ways: a number stands for a text that has no room over its column.
        label = min(max(map(width, rows)) + 5, room - _NUMBERED * len(columns))
        names = [fit(f"{position}. {text}", label) for position, text in enumerate(rows, 1)]
        yield from _table(scores, names, [f"{position:>{_NUMBERED - 3}}." for position in range(1, len(columns) + 1)])
    else:
        yield from _best(scores, rows, columns, room)


def _table(scores: Any, rows: list[str], columns: list[str]) -> Iterator[str]:
    each = width(columns[0])
    yield " " * width(rows[0]) + "".join(f"  {name}" for name in columns)
    for name, row in zip(rows, scores, strict=True):
        yield name + "".join(f"  {float(score):>{each}.{min(4, each - 4)}f}" for score in row)


def _best(scores: Any, rows: list[str], columns: list[str], room: int) -> Iterator[str]:
    itself = rows == columns
    for i, (text, row) in enumerate(zip(rows, scores, strict=True)):
        yield fit(text, room).rstrip()
        others = (j for j in range(len(columns)) if not (itself and i == j))
        for j in sorted(others, key=lambda j: (-float(row[j]), j))[:_BEST]:
            yield f"  {float(row[j]):8.4f}  {fit(columns[j], room - 12).rstrip()}"


def _check_picture(png: Path, rows: int, columns: int) -> None:
    check_png(png)
    if max(rows, columns) > _MOST_IN_A_PICTURE:
        raise InputError(f"a heat map takes at most {_MOST_IN_A_PICTURE} texts a side, got {rows} x {columns}")


def _draw(png: Path, scores: Any, rows: list[str], columns: list[str], title: str) -> None:
    import numpy as np

    from fourfold.cli._drawing import save
    from fourfold.cli._heatmap import draw

    save(draw(np.asarray(scores), rows, columns, title=title), png)
    say(f"drew {png}")
