"""Texts that show what numbers a model's layers take, so that they can be quantised: a user's, or some of our own."""

from __future__ import annotations

from collections.abc import Sequence
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
