"""Gradients of all parameters of the optimizer begin at nothing."""

from __future__ import annotations

from typing import Any

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
