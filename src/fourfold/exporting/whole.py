"""One graph from token ids to a model's output, for each way that texts may take through it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.exporting._parts import Backbone, traced
from fourfold.modules import _runtime
from fourfold.modules._packed import unwrapped
from fourfold.modules.router import Router
from fourfold.modules.transformer import Transformer
from fourfold.runtimes import KINDS
from fourfold.runtimes.whole import WholeGraph, Wholes


@dataclass(frozen=True)
class Chain:
    """One way of texts through a model.

    Attributes:
        route: Its name in a ``Router``; None if there is none.
        modules: What it passes, in order.
        tokenizer: Folder of its tokenizer in the saved model.
    """

    route: str | None
    modules: list[Any]
    tokenizer: str = ""


def chains(model: Any) -> tuple[list[Chain], str | None]:
    """Return the ways through a model, and the route of texts that state none.

    Raises:
        InputError: If a router is not the model's first module.
    """
    modules = list(model)
    first = modules[0]
    if any(isinstance(module, Router) for module in modules[1:]):
        raise InputError("a whole graph can hold a Router as its first module alone; export the model without whole")
    if not isinstance(first, Router):
        return [Chain(None, modules)], None
    places = {id(part): f"{route}_{position}_{type(part).__name__}" for route, position, part in first.parts()}
    found = [
        Chain(route, [*chain, *modules[1:]], places[id(chain[0])]) for route, chain in first._chains.items()
    ]  # fmt: skip
    return found, first.default_route


class Whole(nn.Module):
    """The modules of a chain as one graph.

    Args:
        modules: The modules.
        outputs: Features that are returned, the first after ``activation``.
        activation: Of the first output; None is none.
    """

    def __init__(self, modules: list[Any], outputs: list[str], activation: Any = None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(map(traced, modules))
        self.outputs = outputs
        self.activation = activation

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        prompt_length: Tensor | None = None,
    ) -> Any:
        """Return the output, float32 ``[rows, width]``; of a reranker also the scores before their activation."""
        features: dict[str, Any] = {
            "input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids,
            "prompt_length": prompt_length,
        }  # fmt: skip
        for part in self.parts:
            features = part(features)
        found = features[self.outputs[0]].float()
        if self.activation is None:
            return found
        return self.activation(found), found * 1.0  # a graph's outputs must not be one and the same


def export_wholes(model: Any, kind: str, folder: Path) -> Wholes:
    """Write a model's whole graphs below a folder, where its saved files are, and say what they are.

    Args:
        model: An encoder on torch, in float32.
        kind: ``onnx`` or ``openvino``.
        folder: The folder that the model has been saved to.

    Raises:
        InputError: If the model holds what a graph cannot.
        MissingExtraError: If a package is not installed.
    """
    found, default = chains(model)
    ending = KINDS[kind].file.rpartition(".")[2]
    graphs = []
    for chain in found:
        name = "whole" if chain.route is None else f"whole_{chain.route}"
        graphs.append(_export(model, chain, kind, folder / kind / f"{name}.{ending}"))
    return Wholes(model.model_type, kind, graphs, default)


def _export(model: Any, chain: Chain, kind: str, path: Path) -> WholeGraph:
    scores = model.model_type == "CrossEncoder"
    outputs = ["scores"] if scores else ["sentence_embedding"]
    with plain(chain.modules):
        graph = Whole(chain.modules, outputs, model.activation_fn if scores else None).eval()
        feeds = _feeds(chain, graph)
        names = ["scores", "logits"] if scores else outputs
        with torch.no_grad():
            rows = graph(**feeds)
        width = int((rows[0] if scores else rows).shape[-1])
        backbone = getattr(graph.parts[0], "model", None)
        _runtime.export_traced(kind, graph, backbone, feeds, names, path)
    return WholeGraph(
        path.name,
        chain.route,
        inputs=[{"name": name, "dtype": "int64", "axes": _axes(value)} for name, value in feeds.items()],
        outputs=[{"name": name, "dtype": "float32", "axes": ["batch_size", width]} for name in names],
        width=width,
        **_tokens(chain),
        widest=_widest(chain),
    )


def _axes(value: Tensor) -> list[str]:
    return ["batch_size", "sequence_length"] if value.ndim == 2 else []


def _feeds(chain: Chain, graph: Whole) -> dict[str, Tensor]:
    first: Any = graph.parts[0]
    if isinstance(first, Backbone):
        feeds = _runtime.example_feeds(first.model)
        if first.last_alone:
            feeds = {name: value.flip(1) for name, value in feeds.items()}  # padded on the left
    else:
        ids = torch.arange(1, 10).reshape(3, 3) % int(first.weight.shape[0])
        feeds = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]])}
    if any(getattr(part, "include_prompt", True) is False for part in graph.parts):
        feeds["prompt_length"] = torch.tensor(1)
    return feeds


def _tokens(chain: Chain) -> dict[str, Any]:
    """Return what has to be known to make ids of texts."""
    first = chain.modules[0]
    tokenizer = first.tokenizer
    if not isinstance(first, Transformer):
        # What is looked up token by token has no special tokens around it; some is cut by the tokenizer's own file.
        own = (getattr(tokenizer, "truncation", None) or {}).get("max_length")
        length = first.longest_input()
        return {
            "tokenizer": chain.tokenizer,
            "special_tokens": False,
            "max_length": own if length is None or length == float("inf") else int(length),
            "truncation_side": getattr(tokenizer, "truncation_side", "right"),
            "pad_id": getattr(tokenizer, "pad_token_id", None) or 0,
        }
    left = first.transformer_task == "text-generation"
    return {
        "tokenizer": chain.tokenizer,
        "max_length": first.longest_input(),
        "truncation_side": tokenizer.truncation_side,
        "padding_side": "left" if left else "right",
        "pad_id": tokenizer.pad_token_id or 0,
    }


def _widest(chain: Chain) -> int | None:
    first = chain.modules[0]
    # The graph holds the logits of every word, where packed texts leave them out.
    if isinstance(first, Transformer) and first.transformer_task == "fill-mask":
        return first.config.get_text_config().vocab_size
    return first.widest


@contextlib.contextmanager
def plain(modules: Iterable[Any]) -> Iterator[None]:
    """Run a block in which the transformers among some modules have their ordinary attention, as graphs do."""
    changed = []
    for module in modules:
        if isinstance(module, Transformer):
            backbone = unwrapped(module.model)
            config = backbone.config
            changed.append((backbone, config._attn_implementation, getattr(config, "use_cache", None)))
            _runtime.prepare_for_export(backbone)
    try:
        yield
    finally:
        for backbone, attention, use_cache in reversed(changed):
            if backbone.config._attn_implementation != attention:
                backbone.set_attn_implementation(attention)
            if use_cache is not None:
                backbone.config.use_cache = use_cache
