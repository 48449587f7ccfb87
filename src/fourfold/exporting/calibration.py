"""Texts that show what numbers a model's layers take, so that they can be quantised: a user's, or some of our own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Tokens
from fourfold.errors import InputError
from fourfold.runtimes.whole import WholeGraph, Wholes
from fourfold.store.source import Source
from fourfold.store.tokenizer import SavedTokenizer
from fourfold.text.inputs import check_texts
from fourfold.text.tokenizer import FastTokenizer

logger = logging.getLogger(__name__)

# What models are usually calibrated with: name, configuration, split and column.
_DATASET = ("nyu-mll/glue", "sst2", "train", "sentence")
# Longer texts show no other numbers, and each is run through the whole model.
LONGEST = 384
_ROWS = 8


def texts(given: Sequence[str] | None) -> list[str]:
    """Return the texts to calibrate with: a caller's, or those that come with fourfold.

    Raises:
        InputError: If there are none, or one is no text.
    """
    if given is None:
        whole = resources.files("fourfold.exporting").joinpath("calibration.txt").read_text(encoding="utf-8")
        return [line for line in whole.splitlines() if line]
    found = [str(text) for text in check_texts(list(given))]
    if not found:
        raise InputError("texts must hold at least one text to calibrate with")
    return found


def samples(dataset: tuple[str, str, str, str] | None, most: int | None) -> list[str]:
    """Return texts of a data set to calibrate with.

    Args:
        dataset: Its name, configuration, split and column; None is the usual one, and where that cannot be had, the
            texts that come with fourfold.
        most: How many; None is all.

    Raises:
        InputError: If the data set that is named cannot be loaded, or has no such column.
    """
    from datasets import load_dataset

    name, configuration, split, column = dataset or _DATASET
    with disable_datasets_caching():
        try:
            rows = load_dataset(name, configuration, split=split)
        except Exception as error:
            if dataset is not None:
                raise InputError(f"the data set {name!r} cannot be loaded: {error}") from error
            logger.warning(
                "the data set %s, which is usual to calibrate with, cannot be loaded (%s); texts that come with "
                "fourfold are taken",
                name, type(error).__name__,
            )  # fmt: skip
            return texts(None)[:most]
    if column not in rows.column_names:
        raise InputError(f"column_name: {name} has the columns {', '.join(rows.column_names)}, not {column!r}")
    chosen = rows.shuffle(seed=42)
    return [str(text) for text in chosen.select(range(min(most or len(chosen), len(chosen))))[column]]


@contextlib.contextmanager
def disable_datasets_caching() -> Iterator[None]:
    """Let ``datasets`` keep nothing in its cache inside the block."""
    import datasets

    before = datasets.is_caching_enabled()
    datasets.disable_caching()
    try:
        yield
    finally:
        if before:
            datasets.enable_caching()


def feeds(source: Source, path: Path, kind: str, samples: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
    """Return batches of texts as what a graph is fed, without ``token_type_ids`` and what else it derives.

    Args:
        source: The model's folder.
        path: The graph in it.
        kind: ``onnx`` or ``openvino``.
        samples: The texts.
    """
    wholes = Wholes.read(source, kind)
    graph = None if wholes is None else next((one for one in wholes.graphs if one.file == path.name), None)
    if graph is None:
        module = path.parent.parent.relative_to(source.name).as_posix()
        graph = WholeGraph(path.name, tokenizer="" if module == "." else module)
    saved = SavedTokenizer.read(source.at(graph.tokenizer))
    longest = min(saved.max_length or LONGEST, graph.max_length or LONGEST, LONGEST)
    tokens = FastTokenizer(saved.base, add_special_tokens=graph.special_tokens).encode(samples, longest)
    order = np.argsort(tokens.lengths, kind="stable")
    return [_padded(tokens.take(order[start : start + _ROWS]), graph) for start in range(0, len(order), _ROWS)]


def _padded(batch: Tokens, graph: WholeGraph) -> dict[str, NDArray[Any]]:
    ids, mask = batch.padded(graph.pad_id, left=graph.padding_side == "left")
    found = {"input_ids": ids, "attention_mask": mask}
    if any(entry["name"] == "prompt_length" for entry in graph.inputs):
        found["prompt_length"] = np.array(0)
    return found
