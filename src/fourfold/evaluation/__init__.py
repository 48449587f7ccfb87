"""Evaluators, one a file, found by :data:`registry`: each runs a model on labelled texts and returns numbers by name.

Names of classes are served lazily. What all do alike, the name in front of the numbers, the table of results and the
model card, is written once in :mod:`~fourfold.evaluation._base`; the numbers themselves in :mod:`fourfold.metrics`.
"""

from __future__ import annotations

import sys
from typing import Any

from fourfold.registry import Package, Registry

# What is defined beside a part of another name.
_BESIDE = {
    "BaseEvaluator": "_base",
    "SentenceEvaluator": "_base",
    "SimilarityFunction": "_pairwise",
}

registry = Registry("fourfold.evaluation", "evaluator", _BESIDE)

sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    return registry.attribute(name)
