"""Model cards: the ``README.md`` of a model folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from fourfold.store.source import Source

FILE = "README.md"


@dataclass(frozen=True)
class Facts:
    """What a model card says.

    Attributes:
        title: The heading.
        tags: Tags of the front matter.
        pipeline_tag: Task of the front matter.
        summary: One sentence.
        description: Rows of the description: name and value.
        architecture: The model's ``repr``.
        usage: Python that uses the model.
        datasets: Names of training data sets.
    """

    title: str
    tags: list[str]
    pipeline_tag: str
    summary: str
    description: dict[str, str]
    architecture: str
    usage: str
    datasets: list[str] = field(default_factory=list)


def read(source: Source) -> str | None:
    """Return the text of a folder's card, or None if it has none or it cannot be read."""
    found = source.file(FILE)
    if found is None:
        return None
    return found.read_text(encoding="utf-8", errors="replace")


def generate(facts: Facts) -> str:
    """Return a model card."""
    front = ["---", "tags:", *(f"- {tag}" for tag in facts.tags)]
    if facts.datasets:
        front += ["datasets:", *(f"- {name}" for name in facts.datasets)]
    front += [f"pipeline_tag: {facts.pipeline_tag}", "library_name: sentence-transformers", "---"]
    rows = [f"- **{name}:** {value}" for name, value in facts.description.items()]
    body = [
        f"# {facts.title}", facts.summary, "## Model Details", "### Model Description", "\n".join(rows),
        "### Full Model Architecture", f"```\n{facts.architecture}\n```",
        "## Usage", f"```python\n{facts.usage}\n```",
    ]  # fmt: skip
    return "\n".join(front) + "\n\n" + "\n\n".join(body) + "\n"
