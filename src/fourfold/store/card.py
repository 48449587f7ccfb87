"""Model cards: the ``README.md`` of a model folder. Data in, markdown out."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fourfold.store import _card_training
from fourfold.store._card_training import Training
from fourfold.store._markdown import code, json_code, table
from fourfold.store.source import Source

logger = logging.getLogger(__name__)

FILE = "README.md"

FRONT_KEYS = (
    "language", "license", "tags", "base_model", "widget", "datasets", "pipeline_tag", "library_name", "metrics",
    "model-index", "co2_eq_emissions",
)  # fmt: skip

# Headings that a person may fill in; a reader of the card does not see them.
_BEFORE_EVALUATION = (
    ("### Direct Usage (Transformers)", "How to get the same numbers with transformers alone."),
    ("### Downstream Usage (Sentence Transformers)", "How to train this model further."),
    ("### Out-of-Scope Use", "What this model should not be used for."),
)
_AFTER_EVALUATION = (
    ("## Bias, Risks and Limitations", "What is known to go wrong, and for whom."),
    ("### Recommendations", "What to do about it."),
)
_AT_THE_END = (
    ("## Glossary", "What the terms of this card mean."),
    ("## Model Card Authors", "Who wrote this card."),
    ("## Model Card Contact", "Whom to ask."),
)

_BOTH = (
    "The model loads in fourfold, as shown, and in sentence-transformers, from which the class is imported by the same "
    "name."
)


@dataclass(frozen=True)
class Evaluation:
    """Results of one kind of evaluator, for one data set or several side by side.

    Attributes:
        title: What is measured, e.g. ``Semantic Similarity``.
        evaluator: Name of the evaluator's class.
        datasets: Names of the data sets, one per column.
        metrics: Metric to its values, one per data set.
        primary: The metric to set in bold, or None.
        config: Settings of the evaluator.
    """

    title: str
    evaluator: str
    datasets: list[str]
    metrics: dict[str, list[Any]]
    primary: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What a model card says.

    Attributes:
        front: The front matter; keys that are none of :data:`FRONT_KEYS`, and empty values, are left out.
        title: The heading.
        summary: What the model is, in a sentence or two.
        description: Rows of the description: name, and value or None where it is not known.
        architecture: The model's ``repr``.
        usage: Python that uses the model.
        evaluations: Results.
        training: What is known about the training.
        citations: BibTeX entries by what they are for.
        sources: Where to read about models of this kind, as markdown.
        resources: Further reading, as markdown.
    """

    front: dict[str, Any]
    title: str
    summary: str
    description: list[tuple[str, str | None]]
    architecture: str
    usage: str
    evaluations: list[Evaluation] = field(default_factory=list)
    training: Training = field(default_factory=Training)
    citations: dict[str, str] = field(default_factory=dict)
    sources: Sequence[str] = ()
    resources: Sequence[str] = ()


def read(source: Source) -> str | None:
    """Return the text of a folder's card, or None if it has none; one that cannot be fetched is logged."""
    try:
        found = source.file(FILE)
        return None if found is None else found.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        logger.warning("the model card of %s cannot be read: %s", source.pretty(), error)
        return None


def with_model_id(text: str, cls: str, placeholder: str, model_id: str) -> str:
    """Return a card whose snippet names the model instead of the placeholder.

    >>> with_model_id('model = Encoder("the_id")', "Encoder", "the_id", "me/mine")
    'model = Encoder("me/mine")'
    """
    return text.replace(f'model = {cls}("{placeholder}"', f'model = {cls}("{model_id}"')


def front_matter(values: dict[str, Any]) -> dict[str, Any]:
    """Return the front matter's own keys in their order, without empty values."""
    return {key: values[key] for key in FRONT_KEYS if values.get(key) not in (None, "", [], {})}


def front_yaml(values: dict[str, Any]) -> str:
    """Return the front matter as YAML."""
    from huggingface_hub.utils import yaml_dump

    return yaml_dump(front_matter(values), sort_keys=False).strip()


def generate(facts: Facts) -> str:
    """Return a model card."""
    parts = [
        f"---\n{front_yaml(facts.front)}\n---",
        f"# {facts.title}",
        facts.summary,
        *_details(facts),
        *_usage(facts),
        *_placeholders(_BEFORE_EVALUATION),
        *_evaluations(facts.evaluations),
        *_placeholders(_AFTER_EVALUATION),
        *_card_training.sections(facts.training),
        *(("## Additional Resources", _bullets(facts.resources)) if facts.resources else ()),
        *_citations(facts.citations),
        *_placeholders(_AT_THE_END),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(parts)) + "\n"


def _details(facts: Facts) -> list[str]:
    rows = [
        f"- **{name}:** {value}" if value else f"<!-- - **{name}:** Unknown -->" for name, value in facts.description
    ]
    sources = ["### Model Sources", _bullets(facts.sources)] if facts.sources else []
    return [
        "## Model Details", "### Model Description", "\n".join(rows), *sources,
        "### Full Model Architecture", code(facts.architecture),
    ]  # fmt: skip


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _usage(facts: Facts) -> list[str]:
    return [
        "## Usage", "### Direct Usage (Sentence Transformers)",
        _BOTH,
        code('pip install "fourfold[torch]"', "bash"),
        code(facts.usage, "python"),
    ]  # fmt: skip


def _placeholders(headings: Iterable[tuple[str, str]]) -> list[str]:
    return [f"<!--\n{heading}\n\n*{text}*\n-->" for heading, text in headings]


def _evaluations(evaluations: list[Evaluation]) -> list[str]:
    if not evaluations:
        return []
    parts = ["## Evaluation", "### Metrics"]
    for evaluation in evaluations:
        names = [f"`{name}`" for name in evaluation.datasets if name]
        lines = [f"* Dataset{'s' * (len(names) > 1)}: {' and '.join(names)}"] if names else []
        lines.append(f"* Evaluated with `{evaluation.evaluator}`" + (", set to:" if evaluation.config else ""))
        if evaluation.config:
            lines.append(json_code(evaluation.config, indent="  "))
        parts += [f"#### {evaluation.title}", "\n".join(lines), _metrics_table(evaluation)]
    return parts


def _metrics_table(evaluation: Evaluation) -> str:
    several = len(evaluation.datasets) > 1
    rows = [[name, *values] for name, values in evaluation.metrics.items()]
    bold = {i for i, row in enumerate(rows) if row[0] == evaluation.primary}
    return table(["Metric", *(evaluation.datasets if several else ["Value"])], rows, bold=bold)


def _citations(citations: dict[str, str]) -> list[str]:
    """Return the entries; names that share one stand together above it."""
    names: dict[str, list[str]] = {}
    for name, entry in citations.items():
        names.setdefault(entry.strip(), []).append(name)
    parts = ["## Citation", "### BibTeX"]
    for entry, sharing in names.items():
        parts += [f"#### {' and '.join(sharing)}", code(entry, "bibtex")]
    return parts
