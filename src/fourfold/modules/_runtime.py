"""A graph of ONNX or OpenVINO in the place of a transformers model, and how a folder comes to one.

The graph does what the transformers model does and no more: pooling and all that follows stay modules of torch.
"""

from __future__ import annotations

import copy
import inspect
import logging
import shutil
import sys
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fourfold.errors import InputError, require
from fourfold.modules import _packed, _pretrained
from fourfold.runtimes import KINDS, Graph, files, open_graph
from fourfold.runtimes.export import export as export_graph
from fourfold.runtimes.feeds import fed
from fourfold.runtimes.whole import DESCRIPTION_FILE
from fourfold.store.source import Source
from fourfold.store.weights import holds_weights

logger = logging.getLogger(__name__)

# What a graph of each task returns, and the field of the model's output that it is.
OUTPUTS = {
    "feature-extraction": "last_hidden_state",
    "fill-mask": "logits",
    "sequence-classification": "logits",
    "text-generation": "logits",
}
# Models whose exported graphs have never taken segments, though their code does.
_WITHOUT_SEGMENTS = (
    "camembert", "data2vec-text", "distilbert", "ibert", "longformer", "modernbert", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
# Names that exports have given the token vectors, the first the usual one.
_OTHER_NAMES = {"last_hidden_state": ("token_embeddings",)}
# For opening a graph; all other keywords of a model's loading are for transformers, if it has to be exported.
_RUNTIME_KEYS = (
    "provider", "provider_options", "session_options", "use_io_binding", "ov_config", "device", "threads",
    "compile_cache",
)  # fmt: skip
_PLACE_KEYS = ("file_name", "export")


@dataclass
class Output:
    """What a model returns, as far as a graph gives it."""

    fields: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, key: str | int) -> Tensor:
        return list(self.fields.values())[key] if isinstance(key, int) else self.fields[key]

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __contains__(self, name: str) -> bool:
        return name in self.fields


class Scratch:
    """A new folder, which is removed with the last object that holds this one.

    Attributes:
        name: Its path.
    """

    def __init__(self) -> None:
        self.name = tempfile.mkdtemp(prefix="fourfold-export-")
        weakref.finalize(self, shutil.rmtree, self.name, ignore_errors=True)


class RuntimeModel(nn.Module):
    """A graph with the face of a transformers model.

    Args:
        kind: ``onnx`` or ``openvino``.
        path: The graph's file.
        origin: What errors call it.
        config: The transformers config.
        task: What the graph does, a key of :data:`OUTPUTS`.
        options: How it is opened.
        owned: A folder to remove with the model, if the file is in one.

    Attributes:
        config: The transformers config.
        file: The graph's file.
        kind: ``onnx`` or ``openvino``.
    """

    def __init__(
        self,
        kind: str,
        path: Path,
        origin: str,
        config: Any,
        task: str,
        options: Mapping[str, Any] | None = None,
        owned: Scratch | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.file, self.origin, self.task = kind, path, origin, task
        self.config = config
        self.options = dict(options or {})
        self._owned = owned
        self.graph: Graph = open_graph(kind, path, origin, self.options)
        self._output = self._named_output()
        self.eval()

    def __getstate__(self) -> dict[str, Any]:
        # An opened graph cannot be pickled; who unpickles the model opens the file again.
        return {**self.__dict__, "graph": None, "_owned": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.graph = open_graph(self.kind, self.file, self.origin, self.options)

    def __deepcopy__(self, memo: dict[int, Any]) -> RuntimeModel:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        copied._owned = self._owned  # the file stays until both are gone
        return copied

    def _named_output(self) -> str:
        wanted, known = OUTPUTS[self.task], self.graph.outputs
        if self.kind == "openvino" and {"token_embeddings", "sentence_embedding"} <= set(known):
            raise InputError(
                f"{self.origin} was exported with its pooling inside, as {', '.join(known)}, which this backend does "
                "not read; export it again with export=True"
            )
        found = next((name for name in (wanted, *_OTHER_NAMES.get(wanted, ())) if name in known), None)
        if found is None:
            raise InputError(
                f"{self.origin} gives {', '.join(known)}, and the task {self.task} needs {wanted}; name another file "
                "with file_name, or export it again with export=True"
            )
        return found

    @property
    def device(self) -> torch.device:
        """Where its outputs are: they are fetched from wherever the runtime runs."""
        return torch.device("cpu")

    @property
    def name_or_path(self) -> str:
        """As the config says."""
        return self.config._name_or_path

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> Output:
        """Return the graph's output for padded features, under the name that a transformers model gives it."""
        if input_ids is None:
            raise InputError(f"{self.origin} takes texts alone, got {', '.join(kwargs) or 'nothing'}")
        given = {
            "input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids,
            "position_ids": position_ids,
        }  # fmt: skip
        # As a decorator it would import the compiler, which takes seconds, for everybody who never compiles.
        compiling = "torch._dynamo" in sys.modules
        run = torch.compiler.disable(self._run) if compiling else self._run
        return Output({OUTPUTS[self.task]: run({name: value for name, value in given.items() if value is not None})})

    def _run(self, features: dict[str, Tensor]) -> Tensor:
        arrays = {name: value.cpu().numpy() for name, value in features.items()}
        found = self.graph.run(fed(self.graph, arrays))[self._output]
        return torch.from_numpy(np.asarray(found, dtype=np.float32))

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write the config, and the graph to the folder that published models have it in."""
        folder = Path(save_directory, self.kind)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(save_directory)
        for path in (self.file, *_beside(self.file)):
            # Whichever graph was loaded, it is the saved model's plain one.
            name = KINDS[self.kind].file
            ending = path.name.removeprefix(self.file.stem)
            target = folder / f"{name.rpartition('.')[0]}{ending}"
            if path != self.file and self.kind == "onnx":
                target = folder / path.name  # the graph names its external data
            if not target.exists() or not target.samefile(path):
                shutil.copyfile(path, target)


def _beside(path: Path) -> list[Path]:
    """Return the files that belong to a local graph."""
    source = Source(str(path.parent))
    return [path.parent / name for name in files.companions(source, path.name) if (path.parent / name).is_file()]


# -- loading -----------------------------------------------------------------------------------------------------------


def load(kind: str, name: str, config: Any, task: str, given: Mapping[str, Any], *, warn: bool = True) -> RuntimeModel:
    """Return the graph of a checkpoint, exported first if there is none.

    Args:
        kind: ``onnx`` or ``openvino``.
        name: Folder or hub name of the checkpoint.
        config: Its transformers config.
        task: What it is loaded for.
        given: ``provider``, ``file_name``, ``subfolder``, ``export``, ``ov_config`` and the like; where to load from;
            and, for an export, arguments of the model's ``from_pretrained``.
        warn: Whether to log what was found, and to advise to save what was exported.

    Raises:
        InputError: If graphs do not do the task, or the folder holds an adapter.
        MissingExtraError: If the runtime is not installed.
    """
    require(KINDS[kind].package, kind, f"backend={kind!r}")
    if task not in OUTPUTS:
        raise InputError(f"Unsupported task {task!r} for backend={kind!r}; supported: {', '.join(OUTPUTS)}")
    source = _pretrained.source_of(name, given)
    if source.file(_pretrained.ADAPTER_FILE) is not None:
        raise InputError(
            f"{source.pretty()} holds a PEFT adapter, which backend={kind!r} cannot run: load it with backend='torch', "
            "merge the adapter into the model, save that, and load what was saved"
        )
    options = {key: value for key, value in given.items() if key in _RUNTIME_KEYS}
    # The source knows the module's own folder already.
    place = {key: given[key] for key in _PLACE_KEYS if key in given}
    export, kwargs = files.should_export(source, kind, place, file_name=KINDS[kind].file, warn=warn)
    if not export:
        inside = files.below(source, "/".join(p for p in (source.subfolder, kwargs.get("subfolder") or "") if p))
        path = files.fetch(inside, kwargs["file_name"])
        return RuntimeModel(kind, path, inside.pretty(kwargs["file_name"]), config, task, options)
    dtype = _exported_dtype(given)
    _check_weights(source, name)
    for_torch = {
        key: value for key, value in given.items() if key not in (*_RUNTIME_KEYS, *_PLACE_KEYS, "dtype", "torch_dtype")
    }
    folder = Scratch()
    path = Path(folder.name, KINDS[kind].file)
    model = _pretrained.model(name, config, {**for_torch, "dtype": dtype}, task)
    export_model(kind, model, task, path)
    if warn:
        warn_to_save(name, source.is_local, kind)
    return RuntimeModel(kind, path, f"the {kind} export of {source.pretty()}", config, task, options, folder)


def _exported_dtype(given: Mapping[str, Any]) -> torch.dtype:
    """Return in which precision a load exports: float32 unless asked otherwise, whatever the weights are saved in."""
    asked = given.get("dtype", given.get("torch_dtype"))
    named = "float32" if asked in (None, "auto") else asked
    dtype = getattr(torch, named, None) if isinstance(named, str) else named
    if dtype not in (torch.float32, torch.float16):
        raise InputError(
            f"model_kwargs: dtype must be float32 or float16 where a load exports the model, got {asked!r}; leave it "
            "out, or export first with fourfold.export(model, folder, precision=) and load that"
        )
    return dtype


def _check_weights(source: Source, name: str) -> None:
    """Refuse a folder that holds whole graphs and nothing else to run."""
    held = next((kind for kind in KINDS if source.at(kind).file(DESCRIPTION_FILE) is not None), None)
    if held is not None and not holds_weights(source):
        raise InputError(
            f"{source.pretty()} holds whole graphs ({held}/{DESCRIPTION_FILE}) and no weights to export: open it "
            f'with fourfold.load("{name}", backend="{held}"), or export the model without whole'
        )


def warn_to_save(name: str, is_local: bool, kind: str) -> None:
    """Advise to keep what was exported: the next load would export it again."""
    how = f"model.save_pretrained({name!r})" if is_local else f"model.push_to_hub({name!r}, create_pr=True)"
    logger.warning("%s has been exported to %s for this load; keep it with %s", name, kind, how)


# -- exporting ---------------------------------------------------------------------------------------------------------


class Traced(nn.Module):
    """A transformers model with the inputs and the one output of a graph.

    Args:
        model: A transformers model.
        output: The field of its output that is returned.
    """

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model = model
        self._output = output

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the output ``[rows, tokens, width]``, or ``[rows, labels]`` of a classifier."""
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return getattr(self.model(input_ids=input_ids, attention_mask=attention_mask, **more), self._output)


def takes_segments(model: nn.Module) -> bool:
    """Whether a model's graph has ``token_type_ids`` among its inputs."""
    config: Any = model.config
    known = inspect.signature(type(model).forward).parameters
    kinds = getattr(config, "type_vocab_size", 0) or 0
    return "token_type_ids" in known and kinds > 0 and config.model_type not in _WITHOUT_SEGMENTS


def example_feeds(model: nn.Module) -> dict[str, Tensor]:
    """Return inputs to trace a model with: three texts of other lengths, the first the longest."""
    config: Any = model.config
    words = config.get_text_config().vocab_size
    rows, longest = 3, 11
    ids = torch.arange(rows * longest).reshape(rows, longest) % max(words - 5, 1) + min(4, words - 1)
    mask = (torch.arange(longest)[None, :] < torch.tensor([longest, 7, 4])[:, None]).long()
    pad = getattr(config, "pad_token_id", None)
    ids = torch.where(mask == 1, ids, pad if isinstance(pad, int) and 0 <= pad < words else 0)
    feeds = {"input_ids": ids, "attention_mask": mask}
    return {**feeds, "token_type_ids": torch.zeros_like(ids)} if takes_segments(model) else feeds


def prepare_for_export(model: Any) -> None:
    """Put a transformers model into evaluation mode, without a key-value cache and with attention written out.

    What fused attention is decomposed into guards against rows of masks alone, which padded texts do not have; the
    guards cost a fifth of the time of long texts, and hide attention from the runtimes, which know how to fuse it.
    """
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    _packed.restore(model)
    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation("eager")
    model.eval()


def export_traced(
    kind: str, graph: nn.Module, model: Any, feeds: Mapping[str, Tensor], outputs: list[str], path: Path
) -> None:
    """Write a module around a transformers model as a graph; the model's attention is set to what can be traced.

    Args:
        kind: ``onnx`` or ``openvino``.
        graph: The module.
        model: The transformers model inside it, or None.
        feeds: What it is traced with.
        outputs: Names of what it returns.
        path: The file.
    """
    try:
        export_graph(kind, graph, feeds, outputs, path)
    except InputError:
        if model is None or model.config._attn_implementation != "eager":
            raise
        model.set_attn_implementation("sdpa")
        export_graph(kind, graph, feeds, outputs, path)


def export_model(kind: str, model: nn.Module, task: str, path: Path) -> None:
    """Write a transformers model as a graph with the usual names of inputs and outputs.

    Raises:
        InputError: If it cannot be traced.
        MissingExtraError: If a package is not installed.
    """
    prepare_for_export(model)
    graph = Traced(model, OUTPUTS[task])
    export_traced(kind, graph, model, example_feeds(model), [OUTPUTS[task]], path)
