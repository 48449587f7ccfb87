"""``fourfold search``: find passages in files by words and by meaning."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from fourfold.cli._options import Argument, Option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fourfold.search.changes import Changes
    from fourfold.search.hits import Hit
    from fourfold.search.index import Index
    from fourfold.search.pipeline import Scorer

NOTHING_FOUND = 1


def search(
    question: Annotated[str, Argument(help="A question, some words, or a sentence to find the like of.")],
    path: Annotated[list[Path] | None, Argument(help="Folders or files; by default the current folder.")] = None,
    *,
    mode: Annotated[
        Literal["hybrid", "dense", "sparse", "lexical"],
        Option(help="By words (lexical), by a dense or a sparse model, or by words and every model given (hybrid)."),
    ] = "hybrid",
    model: Annotated[
        list[str] | None,
        Option("--model", "-m", help="A dense or a sparse model instead of the built-in one; twice: one of each."),
    ] = None,
    fusion: Annotated[
        Literal["score", "rrf"], Option(help="How hybrid mixes: the mean of scores, or reciprocal ranks.")
    ] = "score",
    rerank: Annotated[
        str | None, Option("--rerank", help="A cross encoder that reads the question with each of the best passages.")
    ] = None,
    rerank_top: Annotated[int, Option("--rerank-top", min=1, help="How many passages it reads.")] = 50,
    top_k: Annotated[int, Option("--top-k", "-k", min=1, help="Show at most this many passages.")] = 5,
    json: Annotated[bool, Option(help="Print an array of objects: path, line, score, heading, text.")] = False,
    rebuild: Annotated[bool, Option(help="Read and encode every file anew.")] = False,
) -> None:
    """Search text, Markdown, HTML, JSONL, CSV, PDF and Python files.

    An index is kept beside the files, in a folder .fourfold; only what has changed is read again.
    Exit code 0: something was found; 1: nothing was; 2: the search could not be done.
    """
    from fourfold.search.encoders import choose
    from fourfold.search.pipeline import Pipeline
    from fourfold.search.query import check

    check(question, top_k, mode)
    reranker = None if rerank is None else _reranker(rerank)
    indexes = _indexes(path or [Path()], model)
    if mode != "lexical" and (model or mode == "sparse"):
        # A model that the mode cannot use is found before files are encoded with it.
        choose(mode, indexes[0].encoders)
    for index in indexes:
        _update(index, rebuild=rebuild, vectors=mode != "lexical")
    hits = Pipeline(indexes, reranker, rerank_top, mode, fusion).search(question, top_k=top_k)
    passages = sum(len(index) for index in indexes)
    if json:
        _print_json(hits)
    elif hits:
        # Reciprocal ranks are small and lie close together.
        digits = 4 if (mode, fusion, rerank) == ("hybrid", "rrf", None) else 3
        (_print_styled if sys.stdout.isatty() else _print_plain)(hits, question, digits)
    else:
        _say("nothing found" if passages else "no text to search in " + ", ".join(map(str, path or [Path()])))
    if not hits:
        raise SystemExit(NOTHING_FOUND)


def _reranker(name: str) -> Scorer:
    """Return a cross encoder, loaded and checked before files are read for it."""
    import fourfold
    from fourfold.search.pipeline import check_reranker

    model = fourfold.load(name, family="cross")
    check_reranker(model)
    return model


def _indexes(paths: Sequence[Path], model: Sequence[str] | None) -> list[Index]:
    """Return one index a folder; what lies inside another path is searched with that."""
    from fourfold.errors import InputError
    from fourfold.search.index import Index

    folders: dict[str, Path] = {}
    files: dict[str, dict[str, str]] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist")
        absolute = os.path.abspath(path)  # noqa: PTH100 - without following links: the index lies beside the link
        if not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is neither a file nor a folder")
        if path.is_dir():
            folders.setdefault(absolute, path)
        else:
            files.setdefault(os.path.dirname(absolute), {})[os.path.basename(absolute)] = os.fspath(path)  # noqa: PTH119, PTH120
    outer = {name for name in folders if not any(os.fspath(above) in folders for above in Path(name).parents)}
    found = [Index(folders[name], model=model, prefix=os.fspath(folders[name])) for name in sorted(outer)]
    for parent, names in sorted(files.items()):
        if parent not in outer and not any(os.fspath(above) in outer for above in Path(parent).parents):
            shown = os.path.dirname(next(iter(names.values())))  # noqa: PTH120
            found.append(Index(parent, only=names, model=model, prefix=shown))
    return found


def _update(index: Index, *, rebuild: bool, vectors: bool) -> None:
    """Bring an index up to date, with a bar on a terminal and a line about files that hold no text."""
    if rebuild:
        index.clear()
    index.waiting = lambda: _say(f"another process writes the index in {index.folder}; waiting for it")
    bar = _Bar()
    try:
        changes = index.update(vectors=vectors, progress=bar)
    finally:
        bar.close()
    if changes and index.folder.parent != index.root and not index.root.samefile(index.folder.parent):
        _say(f"{index.root} cannot be written to; its index is in {index.folder}")
    if changes.skipped:
        _say_skipped(index, changes)


def _say_skipped(index: Index, changes: Changes) -> None:
    from fourfold.errors import InputError

    name, why = next(iter(changes.skipped.items()))
    more = len(changes.skipped) - 1
    message = f"{index.root / name} was left out: {why}" + (f" ({more} more files were left out)" if more else "")
    if index.only is not None and len(changes.skipped) == len(index.only):
        raise InputError(message)
    _say(message)


class _Bar:
    """A progress bar that is made when there is something to show."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: object = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            from tqdm import tqdm

            self.close()
            self._stage = stage
            unit = {"unit": "B", "unit_scale": True} if stage == "reading" else {"unit": " passages"}
            # disable=None: a bar only on a terminal. delay: no flicker for work that is done at once.
            self._bar = tqdm(desc=stage, total=total, delay=0.5, leave=False, disable=None, **unit)
        self._bar.update(done - self._bar.n)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()  # type: ignore[attr-defined]


def _print_json(hits: Sequence[Hit]) -> None:
    import dataclasses
    import json

    json.dump([dataclasses.asdict(hit) for hit in hits], sys.stdout, indent=2)
    sys.stdout.write("\n")


def _print_plain(hits: Sequence[Hit], question: str, digits: int) -> None:
    """Print for a pipe: the same words, no colours, and nothing that has to be imported for them."""
    for number, hit in enumerate(hits):
        head = f"{hit.path}:{hit.line}  {hit.score:.{digits}f}" + (f"  {hit.heading}" if hit.heading else "")
        body = "\n".join(f"    {line}".rstrip() for line in _shown(hit, question))
        _write(("\n" if number else "") + head + "\n" + body + "\n")


def _print_styled(hits: Sequence[Hit], question: str, digits: int) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from fourfold.search.excerpt import found_words

    console = Console(highlight=False)
    for number, hit in enumerate(hits):
        if number:
            console.print()
        head = Text.assemble((hit.path, "bold cyan"), (f":{hit.line}", "cyan"), (f"  {hit.score:.{digits}f}", "dim"))
        console.print(head.append(f"  {hit.heading}", "italic") if hit.heading else head)
        shown = "\n".join(_shown(hit, question))
        body = Text(shown)
        for start, stop in found_words(shown, question):
            body.stylize("bold yellow", start, stop)
        console.print(Padding(body, (0, 0, 0, 4)))


def _shown(hit: Hit, question: str) -> list[str]:
    """Return the lines of the part of a passage that answers, without blank lines and ruled ones."""
    import re

    from fourfold.search.excerpt import excerpt

    return [line for line in excerpt(hit.text, question).split("\n") if re.search(r"\w", line)]


def _write(text: str) -> None:
    """Write to stdout, also where its encoding lacks a character or a file name is no text."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def _say(message: str) -> None:
    sys.stderr.write(f"fourfold: {message}\n")
