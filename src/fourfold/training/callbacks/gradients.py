"""Gradients of all parameters of the optimizer: they begin at nothing, and under FSDP none is missing."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback


class ZeroGradients(TrainerCallback):
    """Forgets gradients after each step: transformers does so for the model, and a loss may have parameters too."""

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Forget gradients that were there before."""
        if optimizer is not None:
            optimizer.zero_grad()

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Forget the gradients of a step."""
        if optimizer is not None:
            optimizer.zero_grad()


class WholeGradients(TrainerCallback):
    """Gives parameters that a loss does not reach, such as a pooler's, gradients of 0, for a training under FSDP.

    An optimizer holds no state for what has no gradient, and FSDP refuses to resume with such a gap.
    """

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Fill in what is missing."""
        if optimizer is None:
            return
        for group in optimizer.param_groups:
            for part in group["params"]:
                if part.requires_grad and part.grad is None:
                    part.grad = torch.zeros_like(part)
