"""Evaluators' results as a model card shows them: in the front matter, and as tables."""

from __future__ import annotations

import re
from numbers import Real
from typing import TYPE_CHECKING, Any

from fourfold.store.card import Evaluation

if TYPE_CHECKING:
    from fourfold.families.model_card import BaseModelCardData

_RETRIEVAL = ("InformationRetrieval", "NanoBEIR", "NanoEvaluator", "Reranking")


def is_retrieval(evaluator: Any) -> bool:
    """Whether an evaluator ranks documents for queries."""
    return any(word in type(evaluator).__name__ for word in _RETRIEVAL)


def description(evaluator: Any) -> str:
    """Return what an evaluator measures, in words.

    >>> class EmbeddingSimilarityEvaluator: ...
    >>> description(EmbeddingSimilarityEvaluator())
    'Embedding Similarity'
    """
    given = getattr(evaluator, "description", None)
    if isinstance(given, str) and given:
        return given
    words = type(evaluator).__name__.removesuffix("Evaluator")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words)


def _named(evaluator: Any, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics without the evaluator's name in front."""
    prefix = f"{getattr(evaluator, 'name', '') or ''}_"
    return {key.removeprefix(prefix): value for key, value in metrics.items()}


def front(data: BaseModelCardData) -> dict[str, Any]:
    """Return ``metrics`` and ``model-index`` of the front matter; nothing without results."""
    if not data.eval_results_dict:
        return {}
    names: dict[str, None] = {}
    results = []
    for evaluator, metrics in data.eval_results_dict.items():
        task, dataset = description(evaluator), getattr(evaluator, "name", "") or ""
        short = _named(evaluator, metrics)
        names.update(dict.fromkeys(short))
        results.append({
            "task": {"type": task.lower().replace(" ", "-"), "name": task},
            "dataset": {
                "name": re.sub(r"[_\-]", " ", dataset) or "Unknown",
                "type": dataset.replace(" ", "-") or "unknown",
            },
            "metrics": [
                {"type": key, "value": float(value), "name": key.replace("_", " ").title()}
                for key, value in short.items()
                if isinstance(value, Real)
            ],
        })  # fmt: skip
    title = data.model_name or data.get_default_model_name()
    return {"metrics": list(names), "model-index": [{"name": title, "results": results}]}


def evaluations(data: BaseModelCardData) -> list[Evaluation]:
    """Return the tables: evaluators of one class, with the same metrics and settings, stand side by side in one."""
    merged: dict[str, Evaluation] = {}
    for evaluator, metrics in data.eval_results_dict.items():
        cls, name = type(evaluator).__name__, getattr(evaluator, "name", "") or ""
        short = _named(evaluator, metrics)
        config = evaluator.get_config_dict() if hasattr(evaluator, "get_config_dict") else {}
        config = {key: value for key, value in (config or {}).items() if value is not None}
        key = repr((cls, list(short), config))
        found = merged.get(key)
        if found is None or not name or not all(found.datasets):
            primary = (getattr(evaluator, "primary_metric", None) or "").removeprefix(f"{name}_")
            made = Evaluation(description(evaluator), cls, [name], {k: [v] for k, v in short.items()}, primary, config)
            merged[key if found is None else f"{key} {len(merged)}"] = made
            continue
        found.datasets.append(name)
        for metric, value in short.items():
            found.metrics[metric].append(value)
    return list(merged.values())
