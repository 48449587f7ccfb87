"""Read and write weights: safetensors first, pickles only through torch's restricted loader."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import FolderError, MissingFileError, WeightsError
from fourfold.store.source import Source

if TYPE_CHECKING:
    import torch

SAFETENSORS_FILE = "model.safetensors"
PICKLE_FILE = "pytorch_model.bin"
# What says that a folder holds weights of torch, whole or in shards, or an adapter to some.
WEIGHTS_FILES = (
    SAFETENSORS_FILE, PICKLE_FILE, f"{SAFETENSORS_FILE}.index.json", f"{PICKLE_FILE}.index.json",
    "adapter_model.safetensors",
)  # fmt: skip


def holds_weights(source: Source) -> bool:
    """Whether a folder holds weights of torch, or an adapter to some."""
    return any(source.file(name) is not None for name in WEIGHTS_FILES)


def read_arrays(source: Source) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``model.safetensors``, read-only views of the memory-mapped file; torch is not needed.

    Raises:
        MissingFileError: If the file is absent.
        FolderError: If it is damaged or holds a dtype that numpy lacks.
    """
    path = source.need(SAFETENSORS_FILE)
    origin = source.pretty(SAFETENSORS_FILE)
    header, start = read_header(path, origin)
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=start) if header else np.empty(0, np.uint8)
    return {name: _view(data, name, entry, origin) for name, entry in header.items()}


# safetensors' own numpy reader copies each tensor into memory; a view of the file starts at once and shares pages.
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "BOOL": "?",
}  # fmt: skip


def read_header(path: Path, origin: str) -> tuple[dict[str, Any], int]:
    """Return the entries of a safetensors file by tensor name, and where its data begins; no data is read.

    Raises:
        FolderError: If the file is truncated or of another kind; the message calls it ``origin``.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        total = path.stat().st_size
        if size > total - 8:
            raise FolderError(
                f"{origin} is not a safetensors file: it is truncated, its header claims {size} of {total} bytes"
            )
        try:
            header = json.loads(file.read(size))
        except (ValueError, RecursionError) as error:
            raise FolderError(f"{origin} is not a safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise FolderError(f"{origin} is not a safetensors file: its header is a {type(header).__name__}")
    header.pop("__metadata__", None)
    return header, 8 + size


def _view(data: NDArray[np.uint8], name: str, entry: Any, origin: str) -> NDArray[Any]:
    try:
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        start, end = (operator.index(offset) for offset in entry["data_offsets"])
        shape = tuple(operator.index(size) for size in entry["shape"])
    except (KeyError, TypeError, ValueError):
        raise FolderError(f"{origin}: tensor {name!r} has an unusable header entry {entry!r}") from None
    fits = 0 <= start <= end <= len(data) and all(size >= 0 for size in shape)
    if not fits or end - start != math.prod(shape) * dtype.itemsize:
        raise FolderError(
            f"{origin} is truncated: tensor {name!r} of shape {shape} does not fit its bytes {start}-{end}"
        )
    return data[start:end].view(dtype).reshape(shape)


def check_checkpoint(source: Source) -> None:
    """Look at a local transformers checkpoint before transformers does, for errors that name the file.

    Raises:
        FolderError: If ``config.json`` is no JSON object, or a safetensors file is damaged.
    """
    if not source.is_local:
        return
    source.object("config.json")
    path = source.file(SAFETENSORS_FILE)
    if path is not None:
        origin = source.pretty(SAFETENSORS_FILE)
        header, start = read_header(path, origin)
        try:
            end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        except (KeyError, IndexError, TypeError, ValueError):
            raise FolderError(f"{origin} is not a safetensors file: its header names no data_offsets") from None
        if start + end != path.stat().st_size:
            size = path.stat().st_size
            raise FolderError(f"{origin} is truncated: its header describes {start + end} bytes, the file has {size}")


def read_tensors(source: Source) -> dict[str, torch.Tensor]:
    """Return the tensors of a module's weights file, on the CPU.

    Raises:
        MissingFileError: If neither ``model.safetensors`` nor ``pytorch_model.bin`` is there.
        FolderError: If the file cannot be read.
    """
    safe = source.file(SAFETENSORS_FILE)
    if safe is not None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(safe)
        except (SafetensorError, OSError, ValueError, KeyError, OverflowError, RuntimeError) as error:
            raise FolderError(f"{source.pretty(SAFETENSORS_FILE)} is not a safetensors file: {error}") from None
    pickled = source.file(PICKLE_FILE)
    if pickled is None:
        raise MissingFileError(f"{source.pretty()} holds neither {SAFETENSORS_FILE} nor {PICKLE_FILE}")
    import torch

    try:
        tensors = torch.load(pickled, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in whatever way its bytes ask for
        raise FolderError(f"{source.pretty(PICKLE_FILE)} cannot be read: {error}") from None
    if not isinstance(tensors, dict):
        raise FolderError(
            f"{source.pretty(PICKLE_FILE)} must hold a dictionary of tensors, got {type(tensors).__name__}"
        )
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise FolderError(
                f"{source.pretty(PICKLE_FILE)} must hold tensors by name, got {type(value).__name__} under {key!r}"
            )
    return tensors


def load_into(module: torch.nn.Module, source: Source) -> None:
    """Load a folder's weights into a module; of names that share a tensor the file may hold any.

    Raises:
        WeightsError: If a key is missing, unexpected or of another shape; the message lists all of them.
    """
    tensors = read_tensors(source)
    wanted = module.state_dict()
    for names in _shared(wanted):
        held = next((tensors[name] for name in names if name in tensors), None)
        if held is not None:
            tensors = {**dict.fromkeys(names, held), **tensors}
    problems = [f"missing key {key!r}" for key in wanted if key not in tensors]
    problems += [f"unexpected key {key!r}" for key in tensors if key not in wanted]
    for key in wanted.keys() & tensors.keys():
        got, want = tuple(tensors[key].shape), tuple(wanted[key].shape)
        if got != want:
            problems.append(f"{key!r} has shape {got}, config.json asks for {want}")
    if problems:
        raise WeightsError(f"weights in {source.pretty()} do not fit {type(module).__name__}: " + "; ".join(problems))
    module.load_state_dict(tensors)


def _shared(tensors: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """Return the names of tensors that are one, group by group."""
    groups: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            groups.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def save_module(module: torch.nn.Module, folder: Path, *, safe_serialization: bool = True) -> None:
    """Write a module's weights to ``model.safetensors``, or ``pytorch_model.bin`` if not ``safe_serialization``."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    if safe_serialization:
        from safetensors.torch import save_model

        save_model(module, str(folder / SAFETENSORS_FILE))
    else:
        torch.save(module.state_dict(), folder / PICKLE_FILE)
