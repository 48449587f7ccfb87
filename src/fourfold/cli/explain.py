"""``fourfold explain``: what a text weighs, token by token, and what makes two texts alike."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fourfold.cli._options import Argument, Option, check_png
from fourfold.cli._say import say
from fourfold.cli._table import fit, one_line, width
from fourfold.cli._terms import Shared, Weighed, Weigher, length, shared, weigher_of

_SHOWN = 20
_NARROWEST, _WIDEST = 8, 28  # columns of a token
_LONGEST_BAR = 60
_NUMBER = 9  # columns of a number
_MISSED = 5
# A block of an eighth of a column to one of a whole.
_BLOCKS = "▏▎▍▌▋▊▉█"


def explain(
    text: Annotated[str, Argument(help="the text; with two, the query")],
    other: Annotated[str | None, Argument(help="a text to compare with; the document", metavar="TEXT")] = None,
    *,
    model: Annotated[
        str | None, Option("--model", "-m", help="folder or hub name of a sparse model; default: built-in word weights")
    ] = None,
    role: Annotated[
        Literal["query", "document"] | None,
        Option("--as", help="what the texts are; default: the first a query, the second a document"),
    ] = None,
    top_k: Annotated[int | None, Option("--top-k", "-k", min=1, help="show at most this many tokens")] = None,
    png: Annotated[Path | None, Option("--png", help="also draw the bars into this file")] = None,
    as_json: Annotated[bool, Option("--json", help="print texts, tokens and weights as JSON")] = False,
) -> None:
    """Show which tokens a sparse model weighs in a text, or shares between two.

    Two texts are compared by the dot product of their weights, of which each shared token has its part. Without a model
    it shows the words that a search looks for: their stems, a query's by how rare they are in English, a document's by
    how often it holds them.

    Examples:
      fourfold explain "how do owls hunt at night"
      fourfold explain "how do owls hunt" "Owls hunt by hearing." --model naver/splade-v3 --png owls.png
    """
    if png is not None:
        check_png(png)
    weigher = weigher_of(model)
    first = weigher.weigh(text, role or "query")
    second = None if other is None else weigher.weigh(other, role or "document")
    if as_json:
        found = _json_of_one(first, top_k) if second is None else _json_of_two(weigher, first, second, top_k)
        sys.stdout.write(json.dumps({"model": weigher.name, **found}, ensure_ascii=False) + "\n")
    else:
        room = shutil.get_terminal_size((100, 24)).columns
        rows = top_k or _SHOWN
        lines = _lines_of_one(weigher, first, room, rows) if second is None else _lines_of_two(
            weigher, first, second, room, rows
        )  # fmt: skip
        sys.stdout.writelines(f"{_printable(line)}\n" for line in lines)
    if png is not None:
        _draw(png, weigher, first, second, top_k or _SHOWN)


# -- lines on the terminal -------------------------------------------------------------------------------------------


def _lines_of_one(weigher: Weigher, weighed: Weighed, room: int, rows: int) -> Iterator[str]:
    yield fit(f"{weighed.role}: {weighed.text}", room).rstrip()
    yield f"{_count(weigher, weighed)} · {weigher.name}"
    shown = list(weighed.weights.items())[:rows]
    if not shown:
        return
    yield ""
    names = [_shown(token) for token, _ in shown]
    label, bar = _layout(names, room, _NUMBER)
    largest = max(abs(weight) for _, weight in shown)
    for name, (_, weight) in zip(names, shown, strict=True):
        yield f"{fit(name, label)} {weight:>{_NUMBER}.3f}  {_bar(abs(weight) / largest, bar)}".rstrip()
    if len(weighed.weights) > rows:
        yield f"{'':{label}} {'…':>{_NUMBER}}  {len(weighed.weights) - rows:,} more"


def _lines_of_two(weigher: Weigher, first: Weighed, second: Weighed, room: int, rows: int) -> Iterator[str]:
    yield fit(f"{first.role}: {first.text}", room).rstrip()
    yield fit(f"{second.role}: {second.text}", room).rstrip()
    found = shared(first, second)
    total = sum(token.product for token in found)
    yield f"{_score(weigher, first, second, total)} · {weigher.name}"
    counts = f"{_count(weigher, first, who=True)}, {_count(weigher, second, who=True)}"
    yield f"{_many(len(found), 'shared token')} of {counts}"
    if found:
        yield ""
        yield from _table(found, total, first.role, second.role, room, rows)
    missed = [_missed(weighed, found, room) for weighed in (first, second)]
    if any(missed):
        yield ""
        yield from filter(None, missed)


def _table(found: list[Shared], total: float, first: str, second: str, room: int, rows: int) -> Iterator[str]:
    names = [_shown(token.token) for token in found[:rows]]
    label, bar = _layout(names, room, 3 * (_NUMBER + 1) - 1)
    yield f"{'':{label}} {first:>{_NUMBER}} {second:>{_NUMBER}} {'share':>{_NUMBER}}"
    largest = max(abs(token.product) for token in found) or 1.0
    for name, token in zip(names, found, strict=False):
        numbers = (
            f"{token.first:>{_NUMBER}.3f} {token.second:>{_NUMBER}.3f} {_percent(token.product, total):>{_NUMBER}}"
        )
        yield f"{fit(name, label)} {numbers}  {_bar(abs(token.product) / largest, bar)}".rstrip()
    rest = found[rows:]
    if rest:
        share = _percent(sum(token.product for token in rest), total)
        yield f"{'':{label}} {'':{2 * _NUMBER + 1}} {share:>{_NUMBER}}  {len(rest):,} more"


def _missed(weighed: Weighed, found: list[Shared], room: int) -> str:
    """Return a line of the heaviest tokens that the other text does not have."""
    both = {token.token for token in found}
    heaviest = [(token, weight) for token, weight in weighed.weights.items() if token not in both][:_MISSED]
    if not heaviest:
        return ""
    line = f"{weighed.role} alone: " + ", ".join(f"{_shown(token)} {weight:.3f}" for token, weight in heaviest)
    return fit(line, room).rstrip()


def _layout(names: list[str], room: int, numbers: int) -> tuple[int, int]:
    """Return the columns of a token and of the longest bar."""
    label = min(max(*map(width, names), _NARROWEST), _WIDEST)
    return label, max(min(room - label - numbers - 3, _LONGEST_BAR), 1)


def _bar(share: float, columns: int) -> str:
    """Return a bar of a share of so many columns; what is not 0 can be seen.

    >>> _bar(0.5, 9), _bar(0, 9), _bar(1e-9, 9)
    ('████▌', '', '▏')
    """
    eighths = max(round(share * columns * 8), 1) if share > 0 else 0
    return _BLOCKS[-1] * (eighths // 8) + (_BLOCKS[eighths % 8 - 1] if eighths % 8 else "")


def _printable(line: str) -> str:
    """Return a line that stdout can hold, whatever its encoding: bars of # where it lacks the blocks."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        line = line.translate({ord(block): "#" for block in _BLOCKS} | {ord("·"): "-", ord("…"): "..."})
        return line.encode(encoding, "replace").decode(encoding)
    return line


def _shown(token: str) -> str:
    """Return a token as it is, or quoted where it would not be seen."""
    return token if token and one_line(token) == token else repr(token)


def _score(weigher: Weigher, first: Weighed, second: Weighed, total: float) -> str:
    score = f"dot product {total:.4f}"
    if weigher.similarity != "cosine":
        return score
    return f"cosine {_cosine(first, second, total):.4f}, {score}"


def _cosine(first: Weighed, second: Weighed, total: float) -> float:
    return total / max(length(first) * length(second), 1e-12)


def _count(weigher: Weigher, weighed: Weighed, *, who: bool = False) -> str:
    if who:
        return f"{len(weighed.weights):,} of the {weighed.role}"
    count = _many(len(weighed.weights), "token")
    return f"{count} of {weigher.width:,}" if weigher.width else count


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _percent(product: float, total: float) -> str:
    return f"{100 * product / total:.1f} %" if total else "-"


# -- JSON and a picture ----------------------------------------------------------------------------------------------


def _json_of_one(weighed: Weighed, rows: int | None) -> dict[str, Any]:
    weights = [{"token": token, "weight": weight} for token, weight in list(weighed.weights.items())[:rows]]
    return {"text": weighed.text, "as": weighed.role, "active": len(weighed.weights), "weights": weights}


def _json_of_two(weigher: Weigher, first: Weighed, second: Weighed, rows: int | None) -> dict[str, Any]:
    found = shared(first, second)
    total = sum(token.product for token in found)
    scores = {"dot": total, **({"cosine": _cosine(first, second, total)} if weigher.similarity == "cosine" else {})}
    both = [
        {"token": token.token, "weights": [token.first, token.second], "product": token.product,
         "share": token.product / total if total else None}
        for token in found[:rows]
    ]  # fmt: skip
    texts = [_json_of_one(weighed, rows) for weighed in (first, second)]
    return {"scores": scores, "overlap": len(found), "shared": both, "texts": texts}


def _draw(png: Path, weigher: Weigher, first: Weighed, second: Weighed | None, rows: int) -> None:
    from fourfold.cli._bars import Bar, draw
    from fourfold.cli._drawing import number, save

    if second is None:
        bars = [Bar(token, weight, number(weight)) for token, weight in list(first.weights.items())[:rows]]
        titles = [f"{first.role}: {first.text}", f"{_count(weigher, first)}, {weigher.name}"]
    else:
        found = shared(first, second)
        total = sum(token.product for token in found)
        bars = [
            Bar(
                token.token,
                token.product,
                f"{number(token.first)} × {number(token.second)} = {number(token.product)}",
                _percent(token.product, total),
            )
            for token in found[:rows]
        ]
        titles = [f"{weighed.role}: {weighed.text}" for weighed in (first, second)]
        titles.append(f"{_score(weigher, first, second, total)}, {weigher.name}")
    save(draw(bars, titles), png)
    say(f"drew {png}")
