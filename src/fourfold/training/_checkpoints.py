"""Checkpoints: which one is whole, its weights, and what of it goes to the hub."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from fourfold.errors import InputError
from fourfold.store.files import atomic_folder
from fourfold.store.layouts import type_string
from fourfold.training import _sharded

logger = logging.getLogger(__name__)

_STATE = "trainer_state.json"

# What a checkpoint holds besides the model.
_NOT_THE_MODEL = (
    "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "trainer_state.json", "training_args.bin",
    "rng_state*",
)  # fmt: skip


def step_of(checkpoint: str | Path) -> int | None:
    """Return the step that a checkpoint was written after, by the name of its folder.

    >>> step_of("output/checkpoint-500"), step_of("output")
    (500, None)
    """
    name, _, step = Path(checkpoint).name.partition("-")
    return int(step) if name == "checkpoint" and step.isdigit() else None


def last_whole(folder: str | Path) -> str:
    """Return the last checkpoint of a folder that was written to its end.

    A process that is killed while it writes leaves one that is not; its trainer's state is written last.

    Raises:
        InputError: If there is none.
    """
    found = {step: path for path in Path(folder).glob("checkpoint-*") if (step := step_of(path)) is not None}
    for step in sorted(found, reverse=True):
        if _is_whole(found[step]):
            return str(found[step])
        logger.warning("%s was not written to its end; an earlier checkpoint is taken", found[step])
    raise InputError(f"there is no whole checkpoint in {folder}; train without resume_from_checkpoint=True")


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def load_weights(model: Any, checkpoint: str | Path, empty: Any = None) -> None:
    """Give a model the weights of a checkpoint; its modules stay the objects that they are.

    Args:
        model: An encoder of the kind that the checkpoint holds.
        checkpoint: Folder of the checkpoint.
        empty: Where FSDP shares out the model's weights, the model as it was before, without them.
    """
    like = model if empty is None else empty
    cls: Any = type(like)

    class Loaded(cls):
        # Modules that a user has defined need not be importable, nor trusted: they are there.
        _module_classes = _classes_of(like)

    Loaded.__name__ = cls.__name__
    loaded = Loaded(str(checkpoint), device="cpu", trust_remote_code=like.trust_remote_code, local_files_only=True)
    if _sharded.is_sharded(model):
        _sharded.load(model, loaded.state_dict())
    else:
        model.load_state_dict(loaded.state_dict())


def _classes_of(model: Any) -> dict[str, Any]:
    return {type_string(type(module)): type(module) for module in model.modules()}


def copy_model(checkpoint: str | Path, folder: str | Path) -> None:
    """Copy the model of a checkpoint into a folder: its modules, settings and card, each file whole."""
    left_out = shutil.ignore_patterns(*_NOT_THE_MODEL)
    with atomic_folder(Path(folder)) as whole:
        shutil.copytree(checkpoint, whole, ignore=left_out, dirs_exist_ok=True)
