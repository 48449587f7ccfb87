"""Losses of dense encoders, one a file, found by :data:`registry`; those of other families in folders of their own.

Names of classes are served lazily. A loss is arithmetic on the vectors of a batch's columns; how columns become vectors
(:mod:`~fourfold.losses._columns`), what a batch offers as negatives (:mod:`~fourfold.losses._in_batch`) and how a batch
larger than the memory is trained (:mod:`~fourfold.losses._gradient_cache`) is written once.
"""

from __future__ import annotations

import sys
from typing import Any

from fourfold.registry import Package, Registry

# What is defined beside a part of another name.
_BESIDE = {
    "SiameseDistanceMetric": "contrastive_loss",
    "TripletDistanceMetric": "triplet_loss",
    "BatchHardTripletLossDistanceFunction": "batch_hard_triplet_loss",
    "ContrastiveTensionDataLoader": "contrastive_tension_loss",
    "ContrastiveTensionLossInBatchNegatives": "contrastive_tension_loss",
}

registry = Registry("fourfold.losses", "loss", _BESIDE)

sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    return registry.attribute(name)
