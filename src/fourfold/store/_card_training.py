"""The training part of a model card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fourfold.store._markdown import bullets, cell, folded, json_code, table

# More data sets, or more rows of the log, than these are folded away.
MOST_DATASETS = 3
MOST_LOG_ROWS = 100
_LOG_START = ("Epoch", "Step", "Training Loss", "Validation Loss")


@dataclass(frozen=True)
class Dataset:
    """One data set of a training.

    Attributes:
        name: Its name, or None.
        id: Its name on the hub, or None.
        revision: Commit of the hub's repository.
        size: Number of samples.
        columns: Names of the columns.
        stats: Column to ``{"dtype", "modality", "data"}``; ``data`` holds what is shown by name.
        examples: Column to its first values.
        loss: Class name of the loss.
        loss_config: Its settings.
    """

    name: str | None = None
    id: str | None = None
    revision: str | None = None
    size: int | None = None
    columns: list[str] = field(default_factory=list)
    stats: dict[str, dict[str, Any]] = field(default_factory=dict)
    examples: dict[str, list[Any]] = field(default_factory=dict)
    loss: str | None = None
    loss_config: dict[str, Any] = field(default_factory=dict)

    @property
    def link(self) -> str | None:
        """The name, linked to the hub if it is there."""
        name = self.name or self.id
        return f"[{name}](https://huggingface.co/datasets/{self.id})" if self.id else name


@dataclass(frozen=True)
class Training:
    """What a card says about a training; empty parts are left out.

    Attributes:
        train: Data sets trained on.
        evaluation: Data sets evaluated on.
        changed: Hyperparameters that differ from their defaults.
        hyperparameters: All of them.
        logs: Rows of the log by column.
        best_step: The step whose row is set in bold.
        emissions: Rows about energy, by name.
        hardware: Rows about the machine, by name.
        times: Rows about durations, by name.
        versions: Versions by package.
    """

    train: list[Dataset] = field(default_factory=list)
    evaluation: list[Dataset] = field(default_factory=list)
    changed: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)
    best_step: int | None = None
    emissions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, str] = field(default_factory=dict)
    times: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def sections(training: Training) -> list[str]:
    """Return the paragraphs of the training part."""
    parts = ["## Training Details"]
    parts += _datasets("Training Dataset", training.train, "training samples")
    parts += _datasets("Evaluation Dataset", training.evaluation, "evaluation samples")
    parts += _hyperparameters(training)
    if training.logs:
        parts += ["### Training Logs", _logs(training)]
    for heading, values in (
        ("### Environmental Impact", training.emissions),
        ("### Training Hardware", training.hardware),
        ("### Training Time", training.times),
        ("### Framework Versions", training.versions),
    ):
        if values:
            parts += [heading, "\n".join(f"- {name}: {value}" for name, value in values.items())]
    return parts


def _datasets(kind: str, datasets: list[Dataset], counted: str) -> list[str]:
    if not datasets:
        return []
    parts = [f"### {kind}{'s' * (len(datasets) > 1)}"]
    for dataset in datasets:
        heading, body = f"#### {dataset.name or dataset.id or 'Unnamed Dataset'}", _dataset(dataset, counted)
        if len(datasets) > MOST_DATASETS:
            title = dataset.name or dataset.id or "Unnamed Dataset"
            parts.append(f"<details><summary>{title}</summary>\n\n{heading}\n\n{body}\n</details>")
        else:
            parts += [heading, body]
    return parts


def _dataset(dataset: Dataset, counted: str) -> str:
    lines = []
    if dataset.id:
        at = ""
        if dataset.revision:
            at = f" at [{dataset.revision[:7]}](https://huggingface.co/datasets/{dataset.id}/tree/{dataset.revision})"
        lines.append(f"* Dataset: {dataset.link}{at}")
    if dataset.size is not None:
        lines.append(f"* Size: {dataset.size:,} {counted}")
    if dataset.columns:
        lines.append(f"* Columns: {_listed([f'<code>{column}</code>' for column in dataset.columns])}")
    if dataset.stats:
        seen = min(dataset.size or 100, 100)
        lines += [f"* Approximate statistics based on the first {seen} samples:", _stats_table(dataset.stats)]
    if dataset.examples:
        lines += ["* Samples:", _examples_table(dataset.examples)]
    if dataset.loss:
        lines.append(f"* Loss: `{dataset.loss}`" + (" with these parameters:" if dataset.loss_config else ""))
        if dataset.loss_config:
            lines.append(json_code(dataset.loss_config, indent="  "))
    return "\n".join(lines) or "Nothing else is known about it."


def _listed(names: list[str]) -> str:
    if len(names) < 3:
        return " and ".join(names)
    return f"{', '.join(names[:-1])}, and {names[-1]}"


def _stats_table(stats: dict[str, dict[str, Any]]) -> str:
    details = [
        "<ul>" + "".join(f"<li>{name}: {value}</li>" for name, value in column.get("data", {}).items()) + "</ul>"
        for column in stats.values()
    ]
    rows = [[row, *(str(column.get(key, "")) for column in stats.values())] for row, key in _STATS_ROWS]
    return table(["", *stats], [*rows, ["details", *details]], indent="  ")


_STATS_ROWS = (("type", "dtype"), ("modality", "modality"))


def _examples_table(examples: dict[str, list[Any]]) -> str:
    rows = [[cell(value) for value in row] for row in zip(*examples.values(), strict=False)]
    return table(list(examples), rows, indent="  ")


def _hyperparameters(training: Training) -> list[str]:
    if not (training.changed or training.hyperparameters):
        return []
    parts = ["### Training Hyperparameters"]
    if training.changed:
        parts += ["#### Non-Default Hyperparameters", bullets(training.changed)]
    if training.hyperparameters:
        parts += ["#### All Hyperparameters", folded(bullets(training.hyperparameters))]
    return parts


def _logs(training: Training) -> str:
    """Return the log as a table: epoch, step and losses first, then the metrics in the order they appeared."""
    seen = dict.fromkeys(key for row in training.logs for key in row)
    losses = [key for key in seen if key.lower().endswith("loss") and key not in _LOG_START]
    columns = [key for key in _LOG_START if key in seen] + losses
    columns += [key for key in seen if key not in columns]
    rows = [[row.get(key) for key in columns] for row in training.logs]
    best = {i for i, row in enumerate(training.logs) if row.get("Step") == training.best_step is not None}
    text = table(columns, rows, bold=best, centred=True)
    if best:
        text += "\n\n* The bold row denotes the saved checkpoint."
    return folded(text) if len(rows) > MOST_LOG_ROWS else text
