"""Learning rates of their own for some parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from fourfold.errors import InputError


def split(optimizer: Any, loss: nn.Module, rates: Mapping[str, float]) -> None:
    """Give parameters whose names a regular expression finds groups with their own learning rate.

    A later expression may take parameters of an earlier one. Parameters keep their weight decay.

    Args:
        optimizer: Changed in place.
        loss: What the parameters belong to.
        rates: The learning rate by regular expression.

    Raises:
        InputError: If an expression finds no parameter.
    """
    for pattern, rate in rates.items():
        found = {id(part) for name, part in loss.named_parameters() if re.search(pattern, name)}
        if not found:
            some = ", ".join(name for name, _ in list(loss.named_parameters())[:3])
            raise InputError(f"learning_rate_mapping: {pattern!r} finds no parameter; names are such as {some}")
        groups: dict[float, list[Any]] = {}
        for group in optimizer.param_groups:
            taken = [part for part in group["params"] if id(part) in found]
            group["params"] = [part for part in group["params"] if id(part) not in found]
            groups.setdefault(group["weight_decay"], []).extend(taken)
        for decay, taken in groups.items():
            if taken:
                optimizer.add_param_group({"params": taken, "lr": rate, "weight_decay": decay})
