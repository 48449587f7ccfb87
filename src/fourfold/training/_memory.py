"""What to do when a step does not fit into the memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def explained(inputs: dict[str, Any], step: int, args: Any) -> Iterator[None]:
    """Let an error of lacking memory say how large the batch is, and what needs less.

    Args:
        inputs: The batch.
        step: Steps done before.
        args: The training's arguments.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(error):
            raise
        # The first words stay: others tell by them what kind of error it is.
        raise type(error)(f"{error}\n\n{_advice(inputs, step, args)}") from error


def _advice(inputs: dict[str, Any], step: int, args: Any) -> str:
    columns = {key.removesuffix("_input_ids"): key for key in inputs if key.endswith("_input_ids")}
    sizes = [_size(column, inputs, key) for column, key in columns.items()]
    of_texts = [f"{name}: {len(value)} texts" for name, value in inputs.items() if _holds_texts(value)]
    return (
        f"The memory does not suffice for the batch of step {step + 1} ({'; '.join(sizes or of_texts)}). A smaller "
        f"per_device_train_batch_size (now {args.per_device_train_batch_size}) with more gradient_accumulation_steps "
        "needs less; so do a lower max_seq_length, bf16=True and gradient_checkpointing=True. A loss whose negatives "
        "are the batch keeps its size with less memory as a cached one (such as CachedMultipleNegativesRankingLoss) "
        "with a small mini_batch_size."
    )


def _size(column: str, inputs: dict[str, Any], key: str) -> str:
    packing = inputs.get(f"{column}_packing")
    if packing is not None:
        lengths = packing.lengths
        return f"{column}: {len(lengths)} texts of {int(lengths.sum())} tokens, the longest {int(lengths.max())}"
    return f"{column}: tokens {' x '.join(map(str, inputs[key].shape))}"


def _holds_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], str)
