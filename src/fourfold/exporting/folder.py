"""Write a model's folder with graphs in the place of torch weights."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fourfold.errors import InputError, did_you_mean, require
from fourfold.exporting import calibration, quantize
from fourfold.exporting.whole import export_wholes, plain
from fourfold.modules import _runtime
from fourfold.modules._packed import unwrapped
from fourfold.modules.transformer import Transformer
from fourfold.runtimes import KINDS
from fourfold.runtimes.whole import Wholes
from fourfold.store.files import atomic_folder
from fourfold.store.source import Source


def export(
    model: Any,
    folder: str | os.PathLike[str],
    format: str = "onnx",  # noqa: A002 - the word for it
    *,
    whole: bool = False,
    precision: str = "float32",
    texts: Sequence[str] | None = None,
) -> None:
    """Write a model as graphs, in a folder that ``fourfold.load`` and the families' classes open.

    The folder holds the model's settings and tokenizers, and no torch weights of its transformer. It appears whole or
    not at all; in an existing one each file is replaced whole.

    Args:
        model: A ``SentenceTransformer``, ``SparseEncoder`` or ``CrossEncoder`` on torch.
        folder: Where to write.
        format: ``onnx`` or ``openvino``.
        whole: False writes the transformer alone, as published folders have it: ``onnx/model.onnx`` or
            ``openvino/openvino_model.xml``, from ids to hidden states or logits. True writes one graph from ids to the
            model's output, a graph a route of a ``Router``, and ``whole.json``, which describes inputs and outputs.
        precision: ``float32``; ``float16``; or ``int8``, weights and activations, for ONNX activations by each batch's
            own range, and for OpenVINO by the range that ``texts`` show; the first of several layers stays float32.
        texts: Texts to calibrate ``int8`` of OpenVINO with; None is some that come with fourfold.

    Raises:
        InputError: If an argument is unusable, or the model holds what a graph cannot.
        MissingExtraError: If a package is not installed.
    """
    if format not in KINDS:
        raise InputError(f"format must be one of {', '.join(KINDS)}; got {format!r}.{did_you_mean(format, KINDS)}")
    if precision not in quantize.PRECISIONS:
        known = ", ".join(quantize.PRECISIONS)
        raise InputError(
            f"precision must be one of {known}; got {precision!r}.{did_you_mean(precision, quantize.PRECISIONS)}"
        )
    if getattr(model, "backend", None) != "torch":
        raise InputError("only a model on the torch backend can be exported; load it with backend='torch'")
    require(KINDS[format].package, format, f"format={format!r}")
    with _in_float32(model), atomic_folder(Path(folder)) as place, plain(model.modules()):
        with _replaced(model, format, "none" if whole else "graphs"):
            model.save(place, create_model_card=False)
        model._create_model_card(str(place))  # whose example runs, on torch
        if whole:
            made = export_wholes(model, format, place)
            made.write(Source(str(place)))
        _reduce(place, format, precision, texts)


def model_of(name: str, family: str | None = None) -> Any:
    """Return the torch model of a folder or hub name, by its family's class.

    Args:
        name: Folder or hub name.
        family: ``dense``, ``sparse`` or ``cross``; None is what the folder says.
    """
    from fourfold.families.load import family_class

    return family_class(name, family)(name, device="cpu")


def _reduce(place: Path, kind: str, precision: str, texts: Sequence[str] | None) -> None:
    """Replace the graphs of a new folder by those of another precision."""
    if precision == "float32":
        return
    samples = calibration.texts(texts)
    found = Wholes.read(Source(str(place)), kind)
    ending = KINDS[kind].file.rpartition(".")[2]
    for path in sorted(place.rglob(f"*.{ending}")):
        feeds = calibration.feeds(Source(str(place)), path, kind, samples) if precision == "int8" else None
        quantize.reduce(kind, path, precision, feeds)
    if found is not None:
        graphs = [replace(graph, precision=precision) for graph in found.graphs]
        replace(found, graphs=graphs).write(Source(str(place)))


@contextlib.contextmanager
def _in_float32(model: nn.Module) -> Iterator[None]:
    """Run a block with the model in float32 on the CPU; afterwards each tensor and module is as it was."""
    kept: list[tuple[torch.Tensor, torch.Tensor]] = [(p, p.data) for p in model.parameters()]
    kept += [(p.grad, p.grad.data) for p in model.parameters() if p.grad is not None]
    parts = [(module, module.training, dict(module._buffers)) for module in model.modules()]
    model.to(device="cpu", dtype=torch.float32)
    try:
        yield
    finally:
        for tensor, data in kept:
            tensor.data = data
        for module, training, buffers in parts:
            module.training = training
            module._buffers.update(buffers)


class _Settings(nn.Module):
    """Stands for a transformers model of which the settings alone are saved."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write the config."""
        self.config.save_pretrained(save_directory)


@contextlib.contextmanager
def _replaced(model: nn.Module, kind: str, by: str) -> Iterator[None]:
    """Run a block in which the transformers models of a model are graphs, or nothing that would be saved."""
    found = [module for module in model.modules() if isinstance(module, Transformer)]
    if not found and by == "graphs":
        raise InputError("the model has no Transformer module to export; export it with whole=True")
    kept = [module.model for module in found]
    with tempfile.TemporaryDirectory(prefix="fourfold-export-") as scratch:
        try:
            for place, module in enumerate(found):
                backbone = unwrapped(module.model)
                if by == "none":
                    module.model = _Settings(backbone.config)
                    continue
                path = Path(scratch, str(place), KINDS[kind].file)
                _runtime.export_model(kind, backbone, module.transformer_task, path)
                module.model = _runtime.RuntimeModel(kind, path, "the export", backbone.config, module.transformer_task)
            yield
        finally:
            for module, before in zip(found, kept, strict=True):
                module.model = before
