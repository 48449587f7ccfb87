"""Python source: one passage for what a function or class says of itself, further ones for its body."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

from fourfold.search.readers import text as plain
from fourfold.search.readers._base import Block, lines

SUFFIXES = (".py", ".pyi")

_SHORT = 60  # words; a function up to this length stays in one piece
_LARGE = 8 << 20  # bytes; beyond it a file is data, not something to parse

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def read(path: Path) -> Iterator[Block]:
    """Yield functions, methods and classes under their qualified names, then what lies between them."""
    if path.stat().st_size > _LARGE:
        yield from plain.read(path)
        return
    source = [line for _, line in lines(path)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse("\n".join(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield from (Block(b.line, b.text, b.heading, "code") for b in plain.read(path))
        return
    top = _docstring_end(tree)
    yield from _lines(source, 1, top, "", "record")
    yield from _body(source, tree, "", top + 1, len(source))


def _body(source: list[str], node: ast.Module | ast.ClassDef, name: str, first: int, last: int) -> Iterator[Block]:
    """Yield the definitions directly inside ``node`` and the lines around them, in order."""
    start = first
    for child in node.body:
        if not isinstance(child, _Definition):
            continue
        begin = min([child.lineno, *(d.lineno for d in child.decorator_list)])
        end = child.end_lineno or child.lineno
        if begin < start:  # two definitions on one line
            continue
        yield from _lines(source, start, begin - 1, name)
        inner = f"{name}.{child.name}" if name else child.name
        if isinstance(child, ast.ClassDef):
            yield from _class(source, child, inner, begin, end)
        else:
            yield from _function(source, child, inner, begin, end)
        start = end + 1
    yield from _lines(source, start, last, name)


def _class(source: list[str], node: ast.ClassDef, name: str, begin: int, end: int) -> Iterator[Block]:
    top = _docstring_end(node)
    if _is_short(source, begin, end):
        yield from _lines(source, begin, end, name, "record")
        return
    if top:
        yield from _lines(source, begin, top, name, "record")
    yield from _body(source, node, name, top + 1 if top else begin, end)


def _function(source: list[str], node: _Definition, name: str, begin: int, end: int) -> Iterator[Block]:
    top = _docstring_end(node)
    if not top or top == end or _is_short(source, begin, end):
        yield from _lines(source, begin, end, name, "record")
        return
    yield from _lines(source, begin, top, name, "record")
    yield from _lines(source, top + 1, end, name)


def _is_short(source: list[str], first: int, last: int) -> bool:
    return last - first < _SHORT and len(" ".join(source[first - 1 : last]).split()) <= _SHORT


def _docstring_end(node: _Definition | ast.Module) -> int:
    """Return the last line of the docstring, 0 without one."""
    for first in node.body[:1]:
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            return first.end_lineno or 0
    return 0


def _lines(source: list[str], first: int, last: int, name: str, kind: str = "code") -> Iterator[Block]:
    """Yield lines ``first`` to ``last`` without blank ones around them."""
    while first <= last and not source[first - 1].strip():
        first += 1
    while last >= first and not source[last - 1].strip():
        last -= 1
    if first <= last:
        yield Block(first, "\n".join(source[first - 1 : last]), name, "record" if kind == "record" else "code")
