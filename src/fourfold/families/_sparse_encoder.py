"""Sparse encoders that need no torch: texts to weights of terms over any backend, numpy in and out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fourfold.backends import Backend, Batch
from fourfold.backends.static_sparse import SparseStaticBackend, table_of
from fourfold.containers import Terms
from fourfold.engine.collect import TermsSink
from fourfold.engine.plan import Budget, windows
from fourfold.engine.run import LocalRunner, read_windows, run
from fourfold.errors import InputError, require
from fourfold.families._encoder import Call, Encoder, Prompted, built, saved_settings, torch_options
from fourfold.modules._router_tasks import by_task, stated_tasks
from fourfold.ops.terms import as_terms, check_active, heaviest, sparsity, strongest
from fourfold.ops.terms_similarity import compare_terms
from fourfold.store.source import Source
from fourfold.text.inputs import as_list, check_stream, is_single


class TermsEncoder(Encoder):
    """Texts to sparse rows, :class:`~fourfold.containers.Terms` of float32 weights, whatever runs the model.

    Attributes:
        max_active_dims: How many weights of a text are kept, the largest; None keeps all.
    """

    model_type: ClassVar[str] = "SparseEncoder"
    _default_similarity: ClassVar[str] = "dot"
    max_active_dims: int | None

    @abstractmethod
    def tokens(self, terms: NDArray[np.int32]) -> list[str]:
        """Return the tokens that terms stand for, where the model weighs its tokenizer's vocabulary."""

    @abstractmethod
    def _encode(self, items: list[Any], call: Call, most: int | None) -> Terms:
        """Return the rows of a non-empty list of texts."""

    @abstractmethod
    def _stream(self, inputs: Iterable[Any], call: Call, most: int | None, window: int) -> Generator[Terms, None, None]:
        """Yield the rows of texts, one by one."""

    def encode(
        self,
        inputs: Any,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        max_active_dims: int | None = None,
        task: str | None = None,
    ) -> Terms:
        """Turn one text or a batch into sparse rows, in the order given.

        Args:
            inputs: A text, or a list, tuple or array of texts. One-key dictionaries such as ``{"query": text}`` state
                the route of a ``Router``, each its own.
            prompt_name: Name of the model's prompt to put before each text.
            prompt: The prompt itself; wins over the name.
            batch_size: Bounds memory, as for ``SparseEncoder.encode``.
            show_progress_bar: Whether to show a bar that counts texts.
            max_active_dims: Keep only this many weights of a text, those of largest absolute value, instead of the
                model's own ``max_active_dims``.
            task: Which route of a ``Router`` the texts take, such as ``query``; models without one take any.

        Returns:
            One row a text: a single text gives ``Terms`` of one row, an empty batch those of none.

        Raises:
            InputError: If an argument or a text is unusable.
            MissingExtraError: If these texts take a route that needs torch, which is not installed.

        >>> from fourfold.testing import tiny_folder
        >>> import fourfold
        >>> rows = fourfold.load(tiny_folder("sparse", "static")).encode(["a text", "the text, a text"])
        >>> len(rows), rows.lengths.tolist()
        (2, [2, 4])
        """
        call = self._call(prompt_name, prompt, task=task, batch_size=batch_size, progress=show_progress_bar)
        most = self._most(max_active_dims)
        items = [inputs] if is_single(inputs) else as_list(inputs)
        if not items:
            return Terms.of(np.zeros((0, self.get_embedding_dimension()), np.float32))
        return self._encode(items, call, most)

    def encode_stream(
        self,
        inputs: Iterable[Any],
        *,
        window: int = 8192,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        max_active_dims: int | None = None,
        task: str | None = None,
    ) -> Generator[Terms, None, None]:
        """Encode an iterable of any length, such as a generator, and yield each text's ``Terms`` of one row, in order.

        Args:
            inputs: Texts, one after another; read in the caller's thread, at most two windows ahead.
            window: Most texts read at a time. Two windows bound the memory.
            prompt_name: As for :meth:`encode`, like all that follow.
            prompt: The prompt itself.
            batch_size: Bounds memory besides.
            show_progress_bar: Whether to show a bar that counts texts.
            max_active_dims: How many weights of a text are kept.
            task: Which route of a ``Router`` the texts take.

        Raises:
            InputError: At once, if an argument is unusable; while reading, if a text is.
        """
        call = self._call(prompt_name, prompt, task=task, batch_size=batch_size, progress=show_progress_bar)
        check_stream(inputs, window)
        return self._stream(inputs, call, self._most(max_active_dims), window)

    def _most(self, asked: int | None) -> int | None:
        return self.max_active_dims if asked is None else check_active(asked)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[Any]:
        """Return the similarity of every row to every other, ``[rows of the first, rows of the second]``.

        Args:
            embeddings1: ``Terms``, or a matrix of numpy, scipy or torch, ``[rows, width]`` or ``[width]``.
            embeddings2: As ``embeddings1``.
        """
        return self._compare(embeddings1, embeddings2, pairwise=False)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[Any]:
        """Return the similarity of each row to the same one of the other, ``[rows]``; else as :meth:`similarity`."""
        return self._compare(embeddings1, embeddings2, pairwise=True)

    def _compare(self, first: Any, second: Any, *, pairwise: bool) -> NDArray[Any]:
        a, b = as_terms(first, argument="embeddings1"), as_terms(second, argument="embeddings2")
        return compare_terms(self.similarity_fn_name, a, b, pairwise=pairwise)

    def decode(self, embeddings: Any, top_k: int | None = None) -> list[list[tuple[str, float]]]:
        """Return the tokens of each row with their weights, the heaviest first.

        Args:
            embeddings: ``Terms``, or what :meth:`similarity` takes besides.
            top_k: How many tokens of a row; None is all.

        Raises:
            InputError: If ``top_k`` is below 1.
        """
        found = heaviest(as_terms(embeddings, argument="embeddings"), top_k)
        return [list(zip(self.tokens(terms), weights.tolist(), strict=True)) for terms, weights in found]

    @staticmethod
    def sparsity(embeddings: Any) -> dict[str, float]:
        """Return the mean number of weights of a row as ``active_dims``, and the share of zeros, ``sparsity_ratio``."""
        return sparsity(as_terms(embeddings, argument="embeddings"))


class DirectTermsEncoder(TermsEncoder):
    """A model that runs without torch, route by route.

    Args:
        source: The model's folder.
        prompts: Prompts by name, beside the folder's.
        default_prompt_name: The prompt used when a call names none.
        similarity_fn_name: How rows are compared.
        max_active_dims: How many weights of a text are kept.
    """

    def __init__(
        self,
        source: Source,
        *,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        max_active_dims: int | None = None,
    ) -> None:
        config = saved_settings(
            source, prompts=prompts, default_prompt_name=default_prompt_name, similarity_fn_name=similarity_fn_name
        )
        super().__init__(source, config)
        most = config.extra.get("max_active_dims") if max_active_dims is None else max_active_dims
        self.max_active_dims = check_active(most)

    @abstractmethod
    def _one_way(self, items: list[Any], call: Call, most: int | None) -> Terms:
        """Return the rows of texts that take one route, that of the call's task."""

    def _encode(self, items: list[Any], call: Call, most: int | None) -> Terms:
        tasks = stated_tasks(items) if call.task is None else None
        if tasks is None:
            return self._one_way(items, call, most)
        parts, places = [], []
        for task, rows, some in by_task(items, tasks):
            parts.append(self._one_way(some, replace(call, task=task), most))
            places.append(rows)
        return Terms.joined(parts).take(np.argsort(np.concatenate(places)))

    def _by_window(self, inputs: Iterable[Any], call: Call, most: int | None, window: int) -> Iterator[Terms]:
        """Yield the rows of texts of which each may state a route, a window after another."""
        for items in read_windows(inputs, window):
            yield from self._encode(items, call, most).each()


class StaticTermsEncoder(DirectTermsEncoder):
    """A model whose queries are looked up, in numpy; torch is loaded for what takes another route, if anything does."""

    backend: ClassVar[str] = "static"

    def __init__(self, source: Source, **settings: Any) -> None:
        super().__init__(source, **settings)
        self._tables: dict[str | None, Source | None] = {}
        self._opened: dict[Source, SparseStaticBackend] = {}
        queries = self._static("query")
        if queries is None:
            raise InputError(
                f"{source.pretty()} does not look queries up in a SparseStaticEmbedding; the static backend cannot "
                "run it"
            )
        self._queries = queries

    @property
    def changed(self) -> str:
        """What torch's side of the model would make of its tokenizer, beside what the file says; empty if nothing."""
        return self._queries.saved.changed

    def get_embedding_dimension(self) -> int:
        """Return the number of terms."""
        return self._queries.width

    def tokens(self, terms: NDArray[np.int32]) -> list[str]:
        """Return the tokens that terms stand for."""
        return self._queries.tokens(terms)

    def _static(self, task: str | None) -> SparseStaticBackend | None:
        """Return what looks up the texts of a task; None if their route is another."""
        if task not in self._tables:
            self._tables[task] = table_of(self._source, task)
        table = self._tables[task]
        if table is None:
            return None
        if table not in self._opened:
            self._opened[table] = SparseStaticBackend.open(table)
        return self._opened[table]

    @cached_property
    def _whole(self) -> TorchTermsEncoder:
        require("torch", "torch", f"the part of {self.name} that is not looked up but computed")
        return TorchTermsEncoder(self._source)

    def _one_way(self, items: list[Any], call: Call, most: int | None) -> Terms:
        static = self._static(call.task)
        if static is None:
            return self._whole._encode(items, call, most)
        backend: Backend = Prompted(static, call.prompt) if call.prompt else static

        def finish(rows: Terms, batch: Batch) -> Terms:
            return strongest(rows, most)

        # No length that batch_size could multiply bounds a batch: what the cache keeps does.
        sink = TermsSink(len(items), windows(len(items)))
        run(items, backend, sink, LocalRunner(backend, Budget(backend.best_tokens), finish), progress=call.progress)
        return sink.result()

    def _stream(self, inputs: Iterable[Any], call: Call, most: int | None, window: int) -> Generator[Terms, None, None]:
        if self._static(call.task) is None:
            yield from self._whole._stream(inputs, call, most, window)
            return
        # Looking up costs next to nothing beside tokenising, so that there is nothing to do ahead.
        yield from self._by_window(inputs, call, most, window)


class TorchTermsEncoder(TermsEncoder):
    """A ``SparseEncoder``, numpy in and out."""

    backend: ClassVar[str] = "torch"

    def __init__(self, source: Source, **options: Any) -> None:
        from fourfold.families.sparse import SparseEncoder

        self.model, config = built(SparseEncoder, source, **options)
        super().__init__(source, config)
        self.max_active_dims = self.model.max_active_dims

    def get_embedding_dimension(self) -> int:
        """Return the number of terms."""
        width = self.model.get_embedding_dimension()
        return self.encode("").width if width is None else width

    def tokens(self, terms: NDArray[np.int32]) -> list[str]:
        """Return the tokens that terms stand for."""
        return self.model.tokenizer.convert_ids_to_tokens(terms.tolist())

    def _encode(self, items: list[Any], call: Call, most: int | None) -> Terms:
        from fourfold.families._encoding import encode

        return encode(self.model, items, self._options(call, most))

    def _stream(self, inputs: Iterable[Any], call: Call, most: int | None, window: int) -> Generator[Terms, None, None]:
        from fourfold.families._encoding import encode_stream

        return encode_stream(self.model, inputs, self._options(call, most), window)

    def _options(self, call: Call, most: int | None) -> Any:
        from fourfold.families._sparse_encode import TermsOptions

        return TermsOptions.of(self.model, max_active_dims=most, **torch_options(call))
