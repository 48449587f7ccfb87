"""Encoders over whole graphs of ONNX or OpenVINO: no torch, no transformers, numpy in and out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.backends import Batch
from fourfold.backends._tail import Tail
from fourfold.backends.graph import GraphBackend
from fourfold.containers import Terms
from fourfold.engine.collect import RowSink, TermsSink, numpy_rows
from fourfold.engine.plan import Budget, windows
from fourfold.engine.run import LocalRunner, run, stream
from fourfold.errors import InputError, check_positive
from fourfold.families._dense_encoder import DirectDenseEncoder
from fourfold.families._encoder import Call
from fourfold.families._ranking import Reader, best_first, check_ranks, check_scores, rank_passages
from fourfold.families._sparse_encoder import DirectTermsEncoder
from fourfold.ops.terms import strongest
from fourfold.runtimes.whole import Wholes
from fourfold.store.choices import Choice
from fourfold.store.fingerprint import fingerprint
from fourfold.store.manifest import ModelConfig
from fourfold.store.source import Source
from fourfold.text import prompts as prompting
from fourfold.text.inputs import as_list, is_single_pair, strings_as_lists

# Where a model sets no length, batch_size bounds memory as if texts had this many tokens.
_USUAL_LENGTH = 512
# What a run costs besides its tokens, in tokens: measured for a model of six layers on both runtimes.
_EACH = 24


class Graphs:
    """The graphs of a model's routes, each opened when it is first asked for.

    Args:
        source: The model's folder.
        wholes: What it says of its graphs.
        options: ``file_name``, and how the runtime runs it.
        tail: What follows the graphs, if they are not whole.
    """

    def __init__(
        self, source: Source, wholes: Wholes, options: Mapping[str, Any] | None = None, tail: Tail | None = None
    ) -> None:
        self._source, self.wholes, self._options, self._tail = source, wholes, dict(options or {}), tail
        self.best_tokens: int | None = self._options.pop("best_tokens", None)
        self._opened: dict[str, GraphBackend] = {}

    def backend(self, task: str | None = None, prompt: str | None = None, output: str | None = None) -> GraphBackend:
        """Return what runs texts of a task.

        Raises:
            InputError: If the model has routes, and none for the task.
        """
        file = self.wholes.graph(task, self._options.get("file_name")).file
        if file not in self._opened:
            self._opened[file] = GraphBackend.open(self._source, self.wholes, task, self._options, self._tail)
        plain = self._opened[file]
        return plain if output is None and prompt is None else plain.reading(output, prompt)

    def planned(self, call: Call, output: str | None = None) -> tuple[GraphBackend, Budget]:
        """Return what runs the texts of a call, and what a batch may hold."""
        backend = self.backend(call.task, call.prompt, output)
        best = backend.best_tokens if self.best_tokens is None else backend.within(self.best_tokens)
        tokens = min(call.batch_size * (backend.max_length or _USUAL_LENGTH), best)
        return backend, Budget(tokens, padded=True, each=_EACH)


class GraphDenseEncoder(DirectDenseEncoder):
    """A dense model as a graph from ids to vectors.

    Args:
        source: The model's folder.
        wholes: What it says of its graphs.
        tail: What follows the graphs, if they are not whole.
        model_kwargs: ``file_name``, where several precisions are there, and how the runtime runs it: ``provider``,
            ``session_options``, ``threads``, ... for ONNX, ``ov_config`` for OpenVINO.
        **settings: ``prompts``, ``default_prompt_name``, ``similarity_fn_name`` and ``truncate_dim``.
    """

    def __init__(
        self,
        source: Source,
        wholes: Wholes,
        *,
        tail: Tail | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(source, **settings)
        self.backend = wholes.kind  # type: ignore[misc]
        self._graphs = Graphs(source, wholes, model_kwargs, tail)

    @property
    def _width(self) -> int:
        return self._graphs.backend().width

    def _planned(self, call: Call) -> tuple[Any, Budget]:
        return self._graphs.planned(call)

    @property
    def _late_needs(self) -> str:
        return f"the vectors of single tokens, which the graph of {self.name} keeps to itself; load it on torch"


class GraphTermsEncoder(DirectTermsEncoder):
    """A sparse model as a graph from ids to a weight for each term; arguments as for :class:`GraphDenseEncoder`."""

    def __init__(
        self,
        source: Source,
        wholes: Wholes,
        *,
        tail: Tail | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(source, **settings)
        self.backend = wholes.kind  # type: ignore[misc]
        self._graphs = Graphs(source, wholes, model_kwargs, tail)

    def get_embedding_dimension(self) -> int:
        """Return the number of terms."""
        return self._graphs.backend().width

    def tokens(self, terms: NDArray[np.int32]) -> list[str]:
        """Return the tokens that terms stand for."""
        return self._graphs.backend().tokenizer.tokens(terms)

    def _runner(self, call: Call, most: int | None) -> tuple[GraphBackend, LocalRunner]:
        backend, budget = self._graphs.planned(call)

        def finish(rows: NDArray[np.float32], batch: Batch) -> Terms:
            return strongest(Terms.of(rows), most)

        return backend, LocalRunner(backend, budget, finish)

    def _one_way(self, items: list[Any], call: Call, most: int | None) -> Terms:
        backend, runner = self._runner(call, most)
        sink = TermsSink(len(items), windows(len(items)))
        run(items, backend, sink, runner, progress=call.progress)
        return sink.result()

    def _stream(self, inputs: Iterable[Any], call: Call, most: int | None, window: int) -> Generator[Terms, None, None]:
        if self._graphs.wholes.routes and call.task is None:
            yield from self._by_window(inputs, call, most, window)
            return
        backend, runner = self._runner(call, most)
        parts = stream(
            inputs, backend, runner, lambda count: TermsSink(count, windows(count)), window=window,
            progress=call.progress,
        )  # fmt: skip
        with contextlib.closing(parts):
            for part in parts:
                yield from part.result().each()


class GraphPairScorer:
    """A cross encoder as a graph from ids to scores; arguments as for :class:`GraphDenseEncoder`.

    Attributes:
        name: Folder or hub name of the model.
        model_type: The family, by the name of its class.
        backend: ``onnx`` or ``openvino``.
        prompts: Prompts by name.
        default_prompt_name: The prompt used when a call names none.
        num_labels: Scores of a pair.
    """

    model_type = "CrossEncoder"

    def __init__(
        self,
        source: Source,
        wholes: Wholes,
        *,
        tail: Tail | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
    ) -> None:
        config = ModelConfig.read(source)
        self.name = source.name
        self.backend = wholes.kind
        self.prompts = prompting.merge(prompts, config.prompts, ())
        self.default_prompt_name = config.default_prompt_name if default_prompt_name is None else default_prompt_name
        prompting.check_default(self.prompts, self.default_prompt_name)
        self._graphs = Graphs(source, wholes, model_kwargs, tail)
        self.num_labels = self._graphs.backend().width

    def predict(
        self,
        inputs: Any,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        activation_fn: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
        apply_softmax: bool = False,
    ) -> NDArray[Any]:
        """Score one pair or a batch of pairs: ``[pairs]`` for one label, ``[pairs, labels]`` for more.

        Args:
            inputs: As for ``CrossEncoder.predict``: pairs of texts.
            prompt_name: Name of the model's prompt to put before the first text of each pair.
            prompt: The prompt itself; wins over the name.
            batch_size: Bounds memory.
            show_progress_bar: Whether to show a bar.
            activation_fn: Applied to the scores ``[rows, labels]`` of a batch, an array, in place of the model's own
                activation.
            apply_softmax: Turn the scores of several labels into shares that add up to 1.

        Raises:
            InputError: If an argument or an input is unusable, or a score is not a number.
        """
        check_positive(batch_size=batch_size)
        text = prompting.resolve(self.prompts, self.default_prompt_name, prompt, prompt_name)
        given = strings_as_lists(inputs)
        single = is_single_pair(given)
        items = [given] if single else as_list(given)
        if not items:
            return np.zeros(0)
        call = Call(text, None, batch_size, show_progress_bar)
        backend, budget = self._graphs.planned(call, None if activation_fn is None else "logits")

        def finish(rows: NDArray[np.float32], batch: Batch) -> NDArray[np.float32]:
            scores = rows if activation_fn is None else np.asarray(activation_fn(rows))
            scores = scores[:, 0] if self.num_labels == 1 and scores.ndim > 1 else scores
            return _softmax(scores) if apply_softmax and scores.ndim == 2 else scores

        sink = RowSink(len(items), numpy_rows)
        run(items, backend, sink, LocalRunner(backend, budget, finish), progress=call.progress)
        scores = check_scores(sink.result())
        return scores[0] if single else scores

    def rank(
        self,
        query: Any,
        documents: Sequence[Any],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Sort documents by how well they answer a query, the best first; see ``CrossEncoder.rank``."""
        check_ranks(self.num_labels)
        scores = self.predict([[query, document] for document in documents], **options)
        return best_first(scores.tolist(), documents, top_k, return_documents)

    def rank_passages(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        size: int | None = None,
        overlap: int = 0,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Sort documents of any length by the best of their passages; see ``CrossEncoder.rank_passages``."""
        given = options.get("prompt"), options.get("prompt_name")
        backend = self._graphs.backend(
            prompt=prompting.resolve(self.prompts, self.default_prompt_name, given[0], given[1])
        )
        reader = Reader(
            self.num_labels,
            lambda pairs: self.predict(pairs, **options),
            backend.tokenizer,
            backend.max_length,
            lambda pair: len(backend.prepare([pair]).ids),
        )
        return rank_passages(reader, query, documents, top_k, return_documents, size, overlap)


def _softmax(scores: NDArray[Any]) -> NDArray[Any]:
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def tuned_encoder(family: str, source: Source, choice: Choice, options: dict[str, Any]) -> Any:
    """Return a family's encoder over the graphs that ``fourfold tune`` has chosen, under the model's own name.

    Raises:
        InputError: If it takes no such option.
    """
    place = Source(str(choice.folder))
    wholes = Wholes.read(place, choice.backend)
    if wholes is None:
        raise InputError(f"{choice.folder} holds no whole graph any more; run fourfold tune {source.name} again")
    found = graph_encoder(family, place, wholes, {**options, **choice.options})
    found.name = source.name
    # An index of the model's vectors stays one: a choice keeps them.
    found.fingerprint = fingerprint(source)
    return found


def graph_encoder(
    family: str, source: Source, wholes: Wholes, options: dict[str, Any], tail: Tail | None = None
) -> Any:
    """Return a family's encoder over a model's graphs.

    Raises:
        InputError: If the graphs are another family's, or it takes no such option.
    """
    classes: dict[str, Any] = {"dense": GraphDenseEncoder, "sparse": GraphTermsEncoder, "cross": GraphPairScorer}
    made = classes[family]
    if wholes.model_type != made.model_type:
        raise InputError(f"the graphs of {source.name} are those of a {wholes.model_type}, not of a {made.model_type}")
    try:
        return made(source, wholes, tail=tail, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise InputError(f"the {wholes.kind} backend does not know an argument: {error}") from None
