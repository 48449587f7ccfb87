"""Losses of several parts: what each part was, on average, since the last log."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Components:
    """The mean of each part of the losses of some steps, in training and in evaluation.

    Args:
        skip_unbounded: Whether a part that is infinite or no number counts as the mean so far.
    """

    def __init__(self, skip_unbounded: bool) -> None:
        self.skip_unbounded = skip_unbounded
        self.sums: dict[str, dict[str, Tensor]] = {"train": {}, "eval": {}}
        self._steps = {"train": 0, "eval": 0}

    def add(self, mode: str, parts: dict[str, Tensor]) -> None:
        """Count the parts of one step; they are kept on their device, so that nothing waits for it."""
        sums, steps = self.sums[mode], self._steps[mode]
        for name, part in parts.items():
            value = part.detach().float()
            so_far = sums.get(name, torch.zeros_like(value))
            if self.skip_unbounded:
                value = torch.where(value.isfinite(), value, so_far / max(steps, 1))
            sums[name] = so_far + value
        self._steps[mode] += 1

    def take(self, mode: str, gather: Any) -> dict[str, float]:
        """Return the means of a mode over all processes, and begin anew.

        Args:
            mode: ``train`` or ``eval``.
            gather: Returns the values of all processes.
        """
        sums, steps = self.sums[mode], self._steps[mode]
        self._steps[mode] = 0
        found = {name: round(gather(total).mean().item() / steps, 4) for name, total in sums.items()}
        self.sums[mode] = {}
        return found
