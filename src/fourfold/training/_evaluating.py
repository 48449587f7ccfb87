"""The evaluator's part of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import distributed

from fourfold.ops.processes import get_world_size
from fourfold.training._distributed import distributed_evaluation


def metrics(trainer: Any, prefix: str) -> dict[str, Any]:
    """Return what a trainer's evaluator says of its model, with a prefix before each key.

    Args:
        trainer: The trainer.
        prefix: Put before keys that do not begin with it.
    """
    folder = Path(trainer.args.output_dir, "eval")
    shared = not trainer.is_deepspeed_enabled
    found: Any = None
    with trainer.whole_model() as model, distributed_evaluation(model, enabled=shared) as here:
        if here:
            output = None
            if trainer.is_world_process_zero():
                folder.mkdir(parents=True, exist_ok=True)
                output = str(folder)
            state = trainer.state
            found = trainer.evaluator(model, output_path=output, epoch=state.epoch, steps=state.global_step)
    if shared and get_world_size() > 1:
        sent = [found]
        distributed.broadcast_object_list(sent)
        found = sent[0]
    return named(found, prefix)


def named(found: Any, prefix: str = "eval") -> dict[str, Any]:
    """Return what an evaluator returned, by names that begin with a prefix; a lone number is called ``evaluator``.

    >>> named({"accuracy": 0.5}), named(0.5)
    ({'eval_accuracy': 0.5}, {'eval_evaluator': 0.5})
    """
    numbers = found if isinstance(found, Mapping) else {"evaluator": found}
    return {key if key.startswith(f"{prefix}_") else f"{prefix}_{key}": value for key, value in numbers.items()}
