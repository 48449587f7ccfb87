"""Examples of a model card: texts for the hub's widget, and a snippet with what it printed when it was run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fourfold.families import _card_facts

if TYPE_CHECKING:
    from fourfold.families._model import BaseModel
    from fourfold.families.model_card import BaseModelCardData

logger = logging.getLogger(__name__)

ALIKE = [
    "The bakery opens its doors at dawn.",
    "Fresh bread is sold from early in the morning.",
    "The train to the coast was late.",
]
QUERIES = ["How long does light take from the Sun to the Earth?"]
DOCUMENTS = [
    "Sunlight reaches our planet after about eight minutes and twenty seconds.",
    "The Earth turns once on its axis in twenty-four hours.",
    "A lamp with LEDs needs far less energy than an older one.",
]

# A widget shows a few short texts: so many rows are looked at, so many entries of so many texts are kept.
ROWS_SEEN = 1000
WIDGETS = 5
TEXTS = 4


_Result = TypeVar("_Result")


class Snippet(NamedTuple):
    """Python that uses a model.

    Attributes:
        load: Import and construction.
        body: What is done with ``model``.
    """

    load: str
    body: str

    @property
    def code(self) -> str:
        """The whole snippet."""
        return f"{self.load}\n\n{self.body}"


def dense(model: BaseModel, data: BaseModelCardData, *, run: bool) -> Snippet:
    """Return the snippet of a dense encoder: inputs are encoded and compared."""
    return _embedding(model, data, run=run, terms=False)


def sparse(model: BaseModel, data: BaseModelCardData, *, run: bool) -> Snippet:
    """Return the snippet of a sparse encoder, which ends with a text's heaviest terms where terms are tokens."""
    return _embedding(model, data, run=run, terms="SparseAutoEncoder" not in _card_facts.class_names(model.modules()))


def _embedding(model: BaseModel, data: BaseModelCardData, *, run: bool, terms: bool) -> Snippet:
    retrieval = _card_facts.is_retrieval(model, data)
    texts = data.usage_examples
    if retrieval:
        queries, documents = (texts[:1], texts[1:]) if texts and len(texts) > 1 else (QUERIES, DOCUMENTS)
    else:
        queries, documents = texts or ALIKE, []
    printed = _printed(model, queries, documents, retrieval=retrieval, terms=terms) if run else _Printed()
    cls = type(model).__name__
    load = f'from fourfold import {cls}\n\n# From the hub, or from a folder\nmodel = {cls}("{_name(data)}")'
    if retrieval:
        last, compared = "document_embeddings", "query_embeddings, document_embeddings"
        body = [
            _list("queries", queries), _list("documents", documents),
            "query_embeddings = model.encode_query(queries)",
            "document_embeddings = model.encode_document(documents)",
            "print(query_embeddings.shape, document_embeddings.shape)",
        ]  # fmt: skip
    else:
        last, compared = "embeddings", "embeddings, embeddings"
        body = [_list("texts", queries), "embeddings = model.encode(texts)", "print(embeddings.shape)"]
    body += [*_comment(printed.shapes), "", f"similarities = model.similarity({compared})"]
    body += ["print(similarities)", *_comment(printed.scores)]
    if terms:
        body += ["", *(line.format(rows=last) for line in _TERMS), *_comment(printed.terms)]
    return Snippet(load, "\n".join(body))


def cross(model: Any, data: BaseModelCardData, *, run: bool) -> Snippet:
    """Return the snippet of a cross encoder: pairs are scored and, where there is one label, documents ranked."""
    texts = data.usage_examples
    pairs = list(zip(texts[::2], texts[1::2], strict=True)) if texts else [(QUERIES[0], text) for text in DOCUMENTS]
    ranks = getattr(model, "num_labels", 1) == 1 and "text" in model.modalities
    query, documents = pairs[0][0], [document for _, document in pairs]
    shape = _ran(model, lambda: str(model.predict(pairs, show_progress_bar=False).shape)) if run else None
    ranked = _ran(model, lambda: str(model.rank(query, documents, show_progress_bar=False))) if run and ranks else None
    cls = type(model).__name__
    load = f'from fourfold import {cls}\n\n# From the hub, or from a folder\nmodel = {cls}("{_name(data)}")'
    body = [_list("pairs", pairs), "scores = model.predict(pairs)", "print(scores.shape)", *_comment(shape)]
    if ranks:
        body += ["", "# Or sort documents by how well they answer a query", _list("documents", documents)]
        body += [f"ranks = model.rank({query!r}, documents)", "print(ranks)", *_comment(ranked)]
    return Snippet(load, "\n".join(body))


def _ran(model: Any, part: Callable[[], _Result]) -> _Result | None:
    """Return what a part of a snippet prints, or None, with a log, where it fails."""
    try:
        with _left_as_it_was(model):
            return part()
    except Exception:
        logger.exception("the usage example of the model card could not be run; the card shows it without results")
        return None


# The heaviest terms of the first text.
_TERMS = (
    "for token, weight in model.decode({rows}[0], top_k=5):",
    '    print(f"{{token}}: {{weight:.2f}}")',
)


class _Printed(NamedTuple):
    """What a snippet prints; None where it was not run or could not be."""

    shapes: str | None = None
    scores: str | None = None
    terms: str | None = None


def _printed(model: Any, queries: list[str], documents: list[str], *, retrieval: bool, terms: bool) -> _Printed:
    """Run the snippet and return what it prints; nothing where that fails."""

    def run() -> _Printed:
        if retrieval:
            first = model.encode_query(queries, show_progress_bar=False)
            second = model.encode_document(documents, show_progress_bar=False)
            shapes = f"{first.shape} {second.shape}"
        else:
            first = second = model.encode(queries, show_progress_bar=False)
            shapes = str(first.shape)
        decoded = model.decode(second[0], top_k=5) if terms else []
        heaviest = "\n".join(f"{token}: {weight:.2f}" for token, weight in decoded)
        return _Printed(shapes, str(model.similarity(first, second)), heaviest)

    return _ran(model, run) or _Printed()


@contextmanager
def _left_as_it_was(model: Any) -> Iterator[None]:
    """Encoding leaves a model in evaluation mode; a save in the middle of a training must not."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _name(data: BaseModelCardData) -> str:
    return data.model_id or data.placeholder


def _list(name: str, texts: Sequence[Any]) -> str:
    return "\n".join([f"{name} = [", *(f"    {text!r}," for text in texts), "]"])


def _comment(text: str | None) -> list[str]:
    return [f"# {line}" for line in text.splitlines()] if text else []


# -- data sets ---------------------------------------------------------------------------------------------------------


def columns(dataset: Any) -> list[list[list[str]]]:
    """Return, for each data set, rows of the texts in its text columns.

    Args:
        dataset: A data set with ``column_names`` and rows that are dictionaries, or a mapping of such.
    """
    several = list(dataset.values()) if isinstance(dataset, Mapping) else [dataset]
    return [_rows(each) for each in several]


def _rows(dataset: Any) -> list[list[str]]:
    names = list(dataset.column_names or [])
    rows = []
    for position, row in enumerate(dataset):
        if position == ROWS_SEEN:
            break
        texts = [row[name] for name in names if isinstance(row[name], str)]
        if texts:
            rows.append(texts)
    return rows


def widget(datasets: list[list[list[str]]], pipeline_tag: str) -> tuple[list[dict[str, Any]], list[str] | None]:
    """Return the entries of the widget and the texts of the usage snippet, from the shortest rows.

    An entry holds a row's texts and, where those are fewer than four, texts of other rows beside the same column.
    """
    entries: list[list[str]] = []
    for rows in datasets:
        ranked = sorted(rows, key=lambda texts: sum(map(len, texts)))
        others = iter([texts[-1] for texts in ranked[WIDGETS:]])
        for texts in ranked[:WIDGETS]:
            entry = list(dict.fromkeys(texts))[:TEXTS]
            while len(entry) < TEXTS and (more := next(others, None)) is not None:
                if more not in entry:
                    entry.append(more)
            if len(entry) > 1:
                entries.append(entry)
    entries = entries[:WIDGETS]
    if pipeline_tag == "sentence-similarity":
        shown: list[dict[str, Any]] = [{"source_sentence": entry[0], "sentences": entry[1:]} for entry in entries]
    else:
        shown = [{"text": entry[0]} for entry in entries]
    return shown, entries[0] if entries else None
