"""What follows a published graph, in numpy: pooling, dense layers, the SPLADE head, activations.

A published graph ends with hidden states or logits; the modules after it are in the folder. Those that are common need
no torch. A folder that holds others, or whose tokenizer transformers would change, is left to torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.ops.similarity import unit
from fourfold.runtimes.files import find
from fourfold.runtimes.whole import WholeGraph, Wholes
from fourfold.store.layouts import part_name
from fourfold.store.manifest import CONFIG_FILE, ModuleEntry, read_model_type, read_modules
from fourfold.store.source import Source
from fourfold.store.tokenizer import SETTINGS_FILE, SavedTokenizer
from fourfold.store.weights import SAFETENSORS_FILE, read_arrays

Numbers = NDArray[np.float32]
Step = Callable[[Numbers, NDArray[np.int64]], Numbers]
"""Takes numbers and the mask of real tokens; the first gets ``[rows, tokens, width]`` and gives ``[rows, width]``."""

_LEAST = 1e-9
# Tokenizers that are what their file says, as far as SavedTokenizer knows their classes.
_KNOWN_TOKENIZERS = {
    None, "PreTrainedTokenizerFast", "TokenizersBackend",
    *(f"{name}Tokenizer{fast}" for fast in ("", "Fast")
      for name in ("Bert", "Camembert", "DistilBert", "Electra", "MPNet", "Roberta", "XLMRoberta")),
}  # fmt: skip
_SETTINGS_FILE = "sentence_bert_config.json"


# -- pooling -----------------------------------------------------------------------------------------------------------


def _total(hidden: Numbers, weights: NDArray[Any]) -> Numbers:
    return np.matmul(weights[:, None, :].astype(np.float32), hidden)[:, 0]


def _mean(hidden: Numbers, mask: NDArray[np.int64]) -> Numbers:
    return _total(hidden, mask) / np.maximum(mask.sum(1, keepdims=True), _LEAST)


def _mean_sqrt(hidden: Numbers, mask: NDArray[np.int64]) -> Numbers:
    return _total(hidden, mask) / np.sqrt(np.maximum(mask.sum(1, keepdims=True), _LEAST))


def _weighted_mean(hidden: Numbers, mask: NDArray[np.int64]) -> Numbers:
    weights = mask * mask.cumsum(1)
    return _total(hidden, weights) / np.maximum(weights.sum(1, keepdims=True), _LEAST)


def _first(hidden: Numbers, mask: NDArray[np.int64]) -> Numbers:
    return hidden[np.arange(len(hidden)), mask.argmax(1)]


def _last(hidden: Numbers, mask: NDArray[np.int64]) -> Numbers:
    place = mask.shape[1] - 1 - mask[:, ::-1].argmax(1)
    return hidden[np.arange(len(hidden)), place] * mask.any(1, keepdims=True)


def _maximum(hidden: Numbers, mask: NDArray[np.int64]) -> Numbers:
    return np.where(mask[:, :, None] == 1, hidden, -np.inf).max(1)


# Modes, and the booleans by which older folders say them, in the order in which several are concatenated.
_MODES: dict[str, tuple[str, Step]] = {
    "cls": ("cls_token", _first),
    "max": ("max_tokens", _maximum),
    "mean": ("mean_tokens", _mean),
    "mean_sqrt_len_tokens": ("mean_sqrt_len_tokens", _mean_sqrt),
    "weightedmean": ("weightedmean_tokens", _weighted_mean),
    "lasttoken": ("lasttoken", _last),
}


def _pooling(source: Source) -> Step | None:
    settings = source.object("config.json")
    stated = settings.get("pooling_mode")
    modes = [stated] if isinstance(stated, str) else stated
    if modes is None:
        modes = [name for name, (flag, _) in _MODES.items() if settings.get(f"pooling_mode_{flag}")] or ["mean"]
    if not isinstance(modes, list) or not modes or not set(modes) <= _MODES.keys():
        return None
    if settings.get("include_prompt") is False:
        return None
    steps = [_MODES[mode][1] for mode in modes]
    return lambda hidden, mask: np.concatenate([step(hidden, mask) for step in steps], axis=1)


def _splade(source: Source) -> Step | None:
    settings = source.object("config.json")
    activation = _LOGARITHMS.get(settings.get("activation_function", "relu"))
    strategy = settings.get("pooling_strategy", "max")
    if activation is None or strategy not in ("max", "sum", "mean"):
        return None

    def step(logits: Numbers, mask: NDArray[np.int64]) -> Numbers:
        real = mask[:, :, None] == 1
        if strategy == "max":
            return activation(np.where(real, logits, -np.inf).max(1))
        total = np.where(real, activation(logits), 0).sum(1)
        return total if strategy == "sum" else total / np.maximum(mask.sum(1, keepdims=True), _LEAST)

    return step


_LOGARITHMS: dict[str, Callable[[Numbers], Numbers]] = {
    "relu": lambda logits: np.log1p(np.maximum(logits, 0)),
    "log1p_relu": lambda logits: np.log1p(np.log1p(np.maximum(logits, 0))),
    "identity": lambda logits: logits,
}


# -- vectors -----------------------------------------------------------------------------------------------------------


def _sigmoid(values: Numbers) -> Numbers:
    return (0.5 * (1 + np.tanh(0.5 * values.astype(np.float64)))).astype(np.float32)


_ACTIVATIONS: dict[str, Callable[[Numbers], Numbers]] = {
    "torch.nn.modules.activation.Tanh": np.tanh,
    "torch.nn.modules.activation.Sigmoid": _sigmoid,
    "torch.nn.modules.activation.ReLU": lambda values: np.maximum(values, 0),
    "torch.nn.modules.linear.Identity": lambda values: values,
}


def _dense(source: Source) -> Step | None:
    settings = source.object("config.json")
    activation = _ACTIVATIONS.get(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    names = {settings.get(key, "sentence_embedding") for key in ("module_input_name", "module_output_name")}
    if activation is None or settings.get("use_residual") or not names <= {"sentence_embedding", None}:
        return None
    if source.file(SAFETENSORS_FILE) is None:
        return None
    arrays = read_arrays(source)
    weight, bias = np.asarray(arrays["linear.weight"], np.float32), arrays.get("linear.bias")
    return lambda vectors, mask: activation(vectors @ weight.T + (0 if bias is None else np.asarray(bias, np.float32)))


def _normalize(source: Source) -> Step | None:
    return lambda vectors, mask: unit(vectors)


_STEPS: dict[str, Callable[[Source], Step | None]] = {
    "Pooling": _pooling, "SpladePooling": _splade, "Dense": _dense, "Normalize": _normalize,
    "Dropout": lambda source: lambda vectors, mask: vectors,
}  # fmt: skip


# -- folders -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tail:
    """What is done to the numbers of a published graph.

    Attributes:
        steps: In order.
        logits: Whether the numbers that the last step gets are a classifier's, which callers may ask for.
    """

    steps: list[Step] = field(default_factory=list)
    logits: bool = False

    def __call__(self, numbers: Numbers, mask: NDArray[np.int64], *, raw: bool = False) -> Numbers:
        """Return the model's output, or what its activation would get."""
        for step in self.steps[: -1 if raw else None]:
            numbers = step(numbers, mask)
        return numbers


def published(source: Source, kind: str, file_name: str | None = None) -> tuple[Wholes, Tail] | None:
    """Return a folder's published graph as a whole one, and what follows it; None if that needs torch.

    Args:
        source: The model's folder.
        kind: ``onnx`` or ``openvino``.
        file_name: Name of the file; None is the plain one.

    Raises:
        FolderError: If a file of the folder is damaged.
    """
    entries, family = read_modules(source), read_model_type(source)
    config = source.object("config.json")
    if entries is None and _classifies(config):
        entries, family = [ModuleEntry("0", "", "sentence_transformers.models.Transformer")], "CrossEncoder"
    if not entries or entries[0].path or part_name(entries[0].type) not in ("Transformer", "MLMTransformer"):
        return None
    settings = source.object(_SETTINGS_FILE)
    tail = _tail(source, entries, config, family)
    path = find(source, kind, file_name, warn=False) if tail is not None and _is_plain(settings, family) else None
    saved = _tokenizer(source) if path is not None else None
    if path is None or tail is None or saved is None:
        return None
    tokens = source.object(SETTINGS_FILE)
    pad = tokens.get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    id_ = saved.base.token_to_id(pad) if isinstance(pad, str) else config.get("pad_token_id")
    splade = any(part_name(entry.type) == "SpladePooling" for entry in entries)
    graph = WholeGraph(
        path, max_length=_longest(settings, saved, config), truncation_side=saved.truncation_side,
        pad_id=id_ if isinstance(id_, int) else 0, widest=config.get("vocab_size") if splade else None,
    )  # fmt: skip
    return Wholes(family, kind, [graph], folder=""), tail


def _is_plain(settings: dict[str, Any], family: str) -> bool:
    """Whether a transformer's settings ask for nothing but texts, as its graph takes them."""
    unusual = ("do_lower_case", "query_length", "document_length", "query_expansion", "processing_kwargs")
    modalities = settings.get("modality_config", {"text": {"method": "forward"}})
    if any(settings.get(name) for name in unusual) or not isinstance(modalities, dict):
        return False
    return list(modalities) == ["text"] and modalities["text"].get("method") == "forward"


def _tail(source: Source, entries: list[ModuleEntry], config: dict[str, Any], family: str) -> Tail | None:
    if family == "CrossEncoder":
        activation = _activation(source, config) if len(entries) == 1 and _classifies(config) else None
        return None if activation is None else Tail([lambda logits, mask: activation(logits)], logits=True)
    steps = []
    for entry in entries[1:]:
        make = _STEPS.get(part_name(entry.type) or "")
        step = None if make is None else make(source.at(entry.path))
        if step is None:
            return None
        steps.append(step)
    pools = entries[1:] and part_name(entries[1].type) in ("Pooling", "SpladePooling")
    return Tail(steps) if pools else None


def _classifies(config: dict[str, Any]) -> bool:
    named = config.get("architectures")
    return isinstance(named, list) and str(named[:1]).endswith("ForSequenceClassification']")


def _activation(source: Source, config: dict[str, Any]) -> Callable[[Numbers], Numbers] | None:
    newer = config.get("sentence_transformers")
    stated = source.object(CONFIG_FILE).get("activation_fn") or (
        newer.get("activation_fn") if isinstance(newer, dict) else None
    )  # fmt: skip
    stated = stated or config.get("sbert_ce_default_activation_function")
    if stated is None:
        labels = config.get("id2label")
        return _sigmoid if isinstance(labels, dict) and len(labels) == 1 else _ACTIVATIONS[_IDENTITY]
    return _ACTIVATIONS.get(stated)


_IDENTITY = "torch.nn.modules.linear.Identity"


def _tokenizer(source: Source) -> SavedTokenizer | None:
    if source.object(SETTINGS_FILE).get("tokenizer_class") not in _KNOWN_TOKENIZERS:
        return None
    if source.file("tokenizer.json") is None:
        return None
    saved = SavedTokenizer.read(source)
    return None if saved.changed else saved


def _longest(settings: dict[str, Any], saved: SavedTokenizer, config: dict[str, Any]) -> int | None:
    stated = settings.get("max_seq_length")
    if isinstance(stated, int):
        return stated
    limits = [saved.max_length, config.get("max_position_embeddings")]
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=None)
