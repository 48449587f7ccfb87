"""Run a whole graph of ONNX or OpenVINO on texts: ids in, the model's output out, without torch or transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.backends._tail import Tail
from fourfold.containers import Tokens
from fourfold.errors import FolderError, InputError
from fourfold.runtimes import Graph, open_graph
from fourfold.runtimes.feeds import fed
from fourfold.runtimes.files import fetch
from fourfold.runtimes.whole import WholeGraph, Wholes
from fourfold.store.source import Source
from fourfold.store.tokenizer import SavedTokenizer
from fourfold.text.inputs import check_texts
from fourfold.text.prompts import prepend
from fourfold.text.tokenizer import FastTokenizer

# What a published graph is read for, the first that it has.
_USUAL = ("last_hidden_state", "token_embeddings", "logits")
# Tokens of a batch, padding included, above which a processor's cores get no faster.
_BEST_TOKENS = 512
# Most numbers of the widest array of a batch, as for torch: the logits of every word, where a graph holds them.
_NUMBERS = 8_000_000


class GraphBackend:
    """A graph and the tokenizer before it.

    Args:
        graph: The opened graph.
        description: What it says of itself.
        tokenizer: Texts to ids.
        max_length: Tokens after which a text is cut; None is no limit.
        prompt: Put before each text.
        tail: What makes the model's output of the graph's, where that is not whole.
        output: The output that is read; None is the first, or the usual one before a tail.
    """

    packed = False

    def __init__(
        self,
        graph: Graph,
        description: WholeGraph,
        tokenizer: FastTokenizer,
        max_length: int | None,
        prompt: str | None = None,
        tail: Tail | None = None,
        output: str | None = None,
    ) -> None:
        self.graph = graph
        self.tail = tail
        self.description = description
        self.tokenizer = tokenizer
        self.max_length = max_length
        # Published graphs may have outputs beside the usual one.
        first = next((name for name in _USUAL if tail is not None and name in graph.outputs), graph.outputs[0])
        self._raw = tail is not None and tail.logits and output == "logits"
        self.output = first if output is None or self._raw else output
        self._prompt = prompt
        self._more: dict[str, Any] = {}
        if "prompt_length" in graph.inputs:
            length = tokenizer.prompt_length(prompt) if prompt else 0
            self._more["prompt_length"] = np.array(length, dtype=np.int64)

    @classmethod
    def open(
        cls,
        source: Source,
        wholes: Wholes,
        route: str | None = None,
        options: Mapping[str, Any] | None = None,
        tail: Tail | None = None,
    ) -> GraphBackend:
        """Open the graph of a route.

        Args:
            source: The model's folder.
            wholes: What it says of its graphs.
            route: The route; None is the default.
            options: ``file_name``, where several precisions are there, and how the runtime runs it.
            tail: What follows the graph, if it is not whole.

        Raises:
            InputError: If there is no such route, file or option.
            FolderError: If a file cannot be read, or does not give what the description says.
            MissingExtraError: If the runtime is not installed.
        """
        given = dict(options or {})
        description = wholes.graph(route, given.pop("file_name", None))
        inside = source.at(wholes.place)
        origin = inside.pretty(description.file)
        saved = SavedTokenizer.read(source.at(description.tokenizer))
        graph = open_graph(wholes.kind, fetch(inside, description.file), origin, given)
        wanted = {entry["name"] for entry in description.outputs}
        if not wanted <= set(graph.outputs):
            raise FolderError(
                f"{origin} gives {', '.join(graph.outputs)}, its description promises {', '.join(sorted(wanted))}; "
                "export the model again"
            )
        tokenizer = FastTokenizer(
            saved.base, add_special_tokens=description.special_tokens, truncation_side=description.truncation_side,
            owned=True,
        )  # fmt: skip
        return cls(graph, description, tokenizer, description.max_length, tail=tail)

    def reading(self, output: str | None = None, prompt: str | None = None) -> GraphBackend:
        """Return the same over another of the graph's outputs, or with a prompt before each text.

        Raises:
            InputError: If the graph has no such output.
        """
        if output is not None and output not in self.graph.outputs:
            raise InputError(f"the graph {self.description.file} gives {', '.join(self.graph.outputs)}, not {output!r}")
        return GraphBackend(
            self.graph, self.description, self.tokenizer, self.max_length, prompt, self.tail, output
        )  # fmt: skip

    @cached_property
    def width(self) -> int:
        """Numbers in a row of the output."""
        return self.description.width or self.run(self.prepare([""])).shape[-1]

    @property
    def best_tokens(self) -> int:
        """Tokens of a batch above which this device gets no faster."""
        return self.within(_BEST_TOKENS)

    def within(self, tokens: int) -> int:
        """Return so many tokens, or fewer where the graph holds much for each."""
        widest = self.description.widest
        return tokens if not widest else max(1, min(tokens, _NUMBERS // widest))

    def prepare(self, items: Sequence[Any]) -> Tokens:
        """Tokenise texts or pairs of texts."""
        return self.tokenizer.encode(prepend(self._prompt, check_texts(items)), self.max_length)

    def run(self, batch: Tokens) -> NDArray[np.float32]:
        """Return the graph's output for each text, float32 ``[rows, width]``."""
        ids, mask = batch.padded(self.description.pad_id, left=self.description.padding_side == "left")
        arrays = {"input_ids": ids, "attention_mask": mask, **self._more}
        if batch.type_ids is not None:
            types = np.zeros_like(ids)
            types[mask == 1] = batch.type_ids
            arrays["token_type_ids"] = types
        found = self.graph.run(fed(self.graph, arrays))[self.output]
        if self.tail is None:
            return found
        return self.tail(np.asarray(found, dtype=np.float32), mask, raw=self._raw)

    def out_of_memory(self, error: Exception) -> bool:
        """Whether the runtime could not allocate."""
        return isinstance(error, MemoryError)
