"""Find out what runs fastest on this machine by trying it, and remember the answer.

Processor flags mislead: bfloat16 can be six times faster than float32 with one kind of matrix unit and slower with
another, though both list bfloat16 instructions. So the question is put to the machine.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fourfold.modules import _packed
from fourfold.ops.attention import Packing
from fourfold.ops.linear import fastest_linear
from fourfold.store.choices import home
from fourfold.store.files import write_json
from fourfold.store.machine import processor

logger = logging.getLogger(__name__)

# A smaller type costs precision, so it must win by this much.
_CLEARLY_FASTER = 1.1
_ROUNDS = 5
_TRIAL_LENGTHS = np.full(16, 64)


def cache_file() -> Path:
    """Return the file that remembers this machine's measurements."""
    return home() / "tuning.json"


def fastest_dtype(model: Any) -> torch.dtype:
    """Return the data type in which a model's transformer runs fastest, float32 unless another clearly wins.

    The answer for a machine, device, torch version and architecture is measured once and remembered.

    Args:
        model: An encoder; one without a transformer keeps its data type.
    """
    backbone = model.transformers_model
    if backbone is None:
        return model.dtype or torch.float32
    key = _key(backbone, model.device)
    remembered = _remembered()
    if key not in remembered:
        proxy = _proxy(backbone, model.device)
        seconds = _measure(proxy, model.device)
        logger.info("measured %s", {str(dtype): f"{1e3 * value:.1f} ms" for dtype, value in seconds.items()})
        remembered[key] = _winner(seconds)
        with contextlib.suppress(OSError):  # a read-only home only means measuring again next time
            write_json(cache_file(), {**_remembered(), key: remembered[key]})
    return getattr(torch, remembered[key])


def _remembered() -> dict[str, str]:
    try:
        known = json.loads(cache_file().read_text())
    except (OSError, ValueError):
        return {}
    valid = {str(dtype).removeprefix("torch.") for dtype in (torch.float32, torch.bfloat16, torch.float16)}
    return {key: name for key, name in known.items() if name in valid} if isinstance(known, dict) else {}


def _winner(seconds: dict[torch.dtype, float]) -> str:
    usual = seconds[torch.float32]
    best = min(seconds, key=lambda dtype: seconds[dtype])
    return str(best if usual > _CLEARLY_FASTER * seconds[best] else torch.float32).removeprefix("torch.")


def _key(backbone: Any, device: torch.device) -> str:
    """Return a name for everything that the answer depends on."""
    on_gpu = device.type == "cuda"
    place = torch.cuda.get_device_name(device) if on_gpu else f"{processor()[0]} x{torch.get_num_threads()}"
    text = backbone.config.get_text_config()
    shape = [
        getattr(text, name, None) for name in ("model_type", "hidden_size", "intermediate_size", "num_attention_heads")
    ]
    return hashlib.sha256(repr((place, device.type, torch.__version__, shape)).encode()).hexdigest()[:16]


def _proxy(backbone: Any, device: torch.device) -> nn.Module:
    """Return a model of the same shape with two layers: a trial must not need a second copy of a large model."""
    config = copy.deepcopy(backbone.config)
    text = config.get_text_config()
    if getattr(text, "num_hidden_layers", 0) > 2:
        text.num_hidden_layers = 2
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:2]
    with torch.device(device):
        return type(backbone)(config).eval()


def _measure(model: nn.Module, device: torch.device) -> dict[torch.dtype, float]:
    """Return the median seconds of a forward in each candidate type, the candidates taking turns."""
    candidates = [torch.float32, torch.bfloat16] + ([torch.float16] if device.type == "cuda" else [])
    packs = _packed.prepare(model)
    variants = {dtype: copy.deepcopy(model).to(dtype) for dtype in candidates}
    packing = Packing(np.concatenate([[0], np.cumsum(_TRIAL_LENGTHS)]))
    ids = torch.from_numpy(np.random.default_rng(0).integers(5, 100, int(_TRIAL_LENGTHS.sum()))).to(device)
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in candidates}
    with torch.inference_mode(), fastest_linear(device):
        for i in range(_ROUNDS + 1):
            for dtype, variant in variants.items():
                start = time.perf_counter()
                _forward(variant, ids, packing, packs)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if i:
                    seconds[dtype].append(time.perf_counter() - start)
    return {dtype: statistics.median(values) for dtype, values in seconds.items()}


def _forward(model: nn.Module, ids: torch.Tensor, packing: Packing, packs: bool) -> None:
    if packs:
        with _packed.packed(packing):
            model(**_packed.inputs(model, ids, packing, None, _packed.first_position(model)))
    else:
        model(input_ids=ids.reshape(len(_TRIAL_LENGTHS), -1))
