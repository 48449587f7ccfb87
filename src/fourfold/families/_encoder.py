"""The encoder that needs no torch: the families' methods over any backend, numpy in and out."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.backends import Backend, Batch
from fourfold.containers import ChunkedText
from fourfold.engine.collect import RowSink, numpy_rows
from fourfold.engine.plan import Budget
from fourfold.engine.run import LocalRunner, run, stream
from fourfold.errors import InputError
from fourfold.families._chunks import Cutting, chunked, each_alone
from fourfold.ops.quantize import as_array
from fourfold.ops.similarity import SimilarityFunction, Vectors, compare, similarity_name
from fourfold.store.fingerprint import fingerprint
from fourfold.store.manifest import ModelConfig
from fourfold.store.source import Source
from fourfold.text import prompts as prompting
from fourfold.text.inputs import as_list, check_stream, is_single


class DenseEncoder(ABC):
    """Texts to vectors, float32 ``[rows, width]``, whatever runs the model.

    Attributes:
        name: Folder or hub name of the model.
        prompts: Prompts by name.
        default_prompt_name: The prompt used when a call names none.
        similarity_fn_name: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``.
        backend: Name of what runs the model.
    """

    backend: str

    def __init__(self, source: Source, config: ModelConfig) -> None:
        self._source = source
        self.name = source.name
        self.prompts = prompting.merge(None, config.prompts, ("query", "document"))
        self.default_prompt_name = config.default_prompt_name
        prompting.check_default(self.prompts, self.default_prompt_name)
        self.similarity_fn_name = config.similarity_fn_name or "cosine"

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the model's content, which changes with its settings, tokenizer or weights."""
        return fingerprint(self._source)

    @abstractmethod
    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors."""

    @abstractmethod
    def _encode(
        self, items: list[Any], prompt: str | None, batch_size: int, normalize: bool, progress: bool
    ) -> NDArray[np.float32]:
        """Return the vectors of a non-empty list of texts."""

    def encode(
        self,
        inputs: Any,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        normalize_embeddings: bool = False,
    ) -> NDArray[np.float32]:
        """Turn one text or a batch into vectors, in the order given.

        Args:
            inputs: A text, or a list, tuple or array of texts.
            prompt_name: Name of the model's prompt to put before each text.
            prompt: The prompt itself; wins over the name.
            batch_size: Bounds memory, as for ``SentenceTransformer.encode``.
            show_progress_bar: Whether to show a bar that counts texts.
            normalize_embeddings: Scale each vector to length 1.

        Returns:
            float32 ``[rows, width]``; ``[width]`` for one text; ``[0, width]`` for an empty batch.

        Raises:
            InputError: If an argument or a text is unusable.
        """
        _check_batch_size(batch_size)
        text = prompting.resolve(self.prompts, self.default_prompt_name, prompt, prompt_name)
        single = is_single(inputs)
        items = [inputs] if single else as_list(inputs)
        if not items:
            return np.empty((0, self.get_embedding_dimension()), dtype=np.float32)
        rows = self._encode(items, text, batch_size, normalize_embeddings, show_progress_bar)
        return rows[0] if single else rows

    def encode_stream(
        self,
        inputs: Iterable[Any],
        *,
        window: int = 8192,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        normalize_embeddings: bool = False,
    ) -> Generator[NDArray[np.float32], None, None]:
        """Encode an iterable of any length, such as a generator, and yield each text's vector, in order.

        Args:
            inputs: Texts, one after another; read in the caller's thread, at most two windows ahead.
            window: Most texts read at a time, which are sorted and run together. Two windows bound the memory.
            prompt_name: As for :meth:`encode`, like all that follow.
            prompt: The prompt itself.
            batch_size: Bounds memory besides.
            show_progress_bar: Whether to show a bar that counts texts.
            normalize_embeddings: Scale each vector to length 1.

        Raises:
            InputError: At once, if an argument is unusable; while reading, if a text is.
        """
        _check_batch_size(batch_size)
        check_stream(inputs, window)
        text = prompting.resolve(self.prompts, self.default_prompt_name, prompt, prompt_name)
        return self._stream(inputs, text, batch_size, normalize_embeddings, show_progress_bar, window)

    @abstractmethod
    def _stream(
        self, inputs: Iterable[Any], prompt: str | None, batch_size: int, normalize: bool, progress: bool, window: int
    ) -> Generator[NDArray[np.float32], None, None]:
        """Yield the vectors of texts."""

    def encode_query(self, inputs: Any, **options: Any) -> NDArray[np.float32]:
        """Encode queries: :meth:`encode` with the ``query`` prompt."""
        return self.encode(
            inputs, **{"prompt_name": prompting.name_for(self.prompts, prompting.QUERY_NAMES), **options}
        )

    def encode_document(self, inputs: Any, **options: Any) -> NDArray[np.float32]:
        """Encode documents: :meth:`encode` with the ``document`` prompt."""
        return self.encode(
            inputs, **{"prompt_name": prompting.name_for(self.prompts, prompting.DOCUMENT_NAMES), **options}
        )

    def encode_chunks(
        self,
        inputs: Any,
        *,
        size: int | None = None,
        overlap: int = 0,
        spans: Any = None,
        late: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        normalize_embeddings: bool = False,
    ) -> ChunkedText | list[ChunkedText]:
        """Turn long texts into vectors of their chunks, float32 ``[chunks, width]``.

        Args:
            inputs: A text, or a list, tuple or array of texts.
            size: Most tokens of a chunk, special tokens and prompt included; None is what the model takes. Chunks are
                cut as :func:`fourfold.text.split` cuts them.
            overlap: Most tokens that a chunk repeats of the one before.
            spans: The caller's own chunks instead: pairs of start and stop in characters, for a batch a list of them
                for each text.
            late: False encodes each chunk as a text of its own. True runs the whole text and pools the token vectors of
                each chunk, as ``SentenceTransformer.encode_chunks`` does; it needs a transformer.
            prompt_name: As for :meth:`encode`, like all that follow.
            prompt: The prompt itself.
            batch_size: Bounds memory.
            show_progress_bar: Whether to show a bar.
            normalize_embeddings: Scale each vector to length 1.

        Raises:
            InputError: If an argument or a text is unusable, or the model cannot be late.
        """
        how = {
            "prompt": prompting.resolve(self.prompts, self.default_prompt_name, prompt, prompt_name) or "",
            "batch_size": batch_size,
            "show_progress_bar": show_progress_bar,
            "normalize_embeddings": normalize_embeddings,
        }
        return self._encode_chunks(inputs, how, late=late, size=size, overlap=overlap, spans=spans)

    @abstractmethod
    def _encode_chunks(self, inputs: Any, how: dict[str, Any], *, late: bool, **cutting: Any) -> Any:
        """Return what :meth:`encode_chunks` returns; ``how`` holds arguments of :meth:`encode`."""

    def similarity(self, embeddings1: Vectors, embeddings2: Vectors) -> NDArray[Any]:
        """Return the similarity of every vector to every other, ``[rows of the first, rows of the second]``."""
        return compare(self.similarity_fn_name, as_array(embeddings1), as_array(embeddings2))

    def similarity_pairwise(self, embeddings1: Vectors, embeddings2: Vectors) -> NDArray[Any]:
        """Return the similarity of each vector to the one in the same row, ``[rows]``."""
        return compare(self.similarity_fn_name, as_array(embeddings1), as_array(embeddings2), pairwise=True)


def _check_batch_size(size: int) -> None:
    if size < 1:
        raise InputError(f"batch_size must be at least 1, got {size}")


class _Prompted:
    """A backend that puts a prompt before each text."""

    def __init__(self, backend: Backend, prompt: str) -> None:
        self._backend = backend
        self._prompt = prompt
        self.packed = backend.packed
        self.run, self.out_of_memory = backend.run, backend.out_of_memory

    @property
    def best_tokens(self) -> int:
        return self._backend.best_tokens

    def prepare(self, items: Sequence[Any]) -> Batch:
        return self._backend.prepare(prompting.prepend(self._prompt, items))


class StaticDenseEncoder(DenseEncoder):
    """Static token embeddings in numpy."""

    backend = "static"

    def __init__(
        self,
        source: Source,
        *,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        from fourfold.backends.static import StaticBackend

        saved = ModelConfig.read(source)
        known = SimilarityFunction.possible_values()
        config = ModelConfig(
            prompts=prompting.merge(prompts, saved.prompts, ()),
            default_prompt_name=saved.default_prompt_name if default_prompt_name is None else default_prompt_name,
            similarity_fn_name=saved.similarity_fn_name if saved.similarity_fn_name in known else None,
        )
        super().__init__(source, config)
        if similarity_fn_name is not None:
            self.similarity_fn_name = similarity_name(similarity_fn_name)
        self._static = StaticBackend.open(source)
        self._truncate_dim = saved.extra.get("truncate_dim") if truncate_dim is None else truncate_dim

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors."""
        return self._static.width if self._truncate_dim is None else min(self._static.width, self._truncate_dim)

    def _encode(
        self, items: list[Any], prompt: str | None, batch_size: int, normalize: bool, progress: bool
    ) -> NDArray[np.float32]:
        backend, runner = self._runner(prompt, normalize)
        sink = RowSink(len(items), numpy_rows)
        run(items, backend, sink, runner, progress=progress)
        return sink.result()

    def _runner(self, prompt: str | None, normalize: bool) -> tuple[Backend, LocalRunner]:
        backend: Backend = _Prompted(self._static, prompt) if prompt else self._static

        def finish(rows: NDArray[np.float32], batch: Batch) -> NDArray[np.float32]:
            rows = rows[:, : self._truncate_dim]
            return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) if normalize else rows

        # A static model has no length that batch_size could multiply: the cache is what bounds its batches.
        return backend, LocalRunner(backend, Budget(backend.best_tokens), finish)

    def _stream(
        self, inputs: Iterable[Any], prompt: str | None, batch_size: int, normalize: bool, progress: bool, window: int
    ) -> Generator[NDArray[np.float32], None, None]:
        backend, runner = self._runner(prompt, normalize)
        parts = stream(
            inputs, backend, runner, lambda count: RowSink(count, numpy_rows), window=window, progress=progress
        )
        with contextlib.closing(parts):
            for part in parts:
                yield from map(np.copy, part.result())

    def _encode_chunks(self, inputs: Any, how: dict[str, Any], *, late: bool, **cutting: Any) -> Any:
        if late:
            raise InputError(
                f"late=True needs a model whose token vectors know the text around them; those of {self.name} are the "
                "same in every text. Give late=False"
            )
        plan = Cutting.of(inputs, self._static.tokenizer, self._static.max_length, prompt=how["prompt"], **cutting)
        return chunked(inputs, lambda texts: each_alone(plan, texts, lambda pieces: self.encode(pieces, **how)))


class TorchDenseEncoder(DenseEncoder):
    """A ``SentenceTransformer``, numpy in and out."""

    backend = "torch"

    def __init__(self, source: Source, **options: Any) -> None:
        from fourfold.families.dense import SentenceTransformer

        self.model = SentenceTransformer(
            source.name, revision=source.revision, token=source.token, cache_folder=source.cache,
            local_files_only=source.offline, **options,
        )  # fmt: skip
        config = ModelConfig("SentenceTransformer", self.model.prompts, self.model.default_prompt_name)
        super().__init__(source, config)
        self.similarity_fn_name = self.model.similarity_fn_name

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors."""
        width = self.model.get_embedding_dimension()
        return self.model.encode([""]).shape[1] if width is None else width

    def _encode(
        self, items: list[Any], prompt: str | None, batch_size: int, normalize: bool, progress: bool
    ) -> NDArray[np.float32]:
        rows = self.model.encode(
            items,
            prompt=prompt or "",
            batch_size=batch_size,
            normalize_embeddings=normalize,
            show_progress_bar=progress,
        )
        return rows.astype(np.float32, copy=False)

    def _stream(
        self, inputs: Iterable[Any], prompt: str | None, batch_size: int, normalize: bool, progress: bool, window: int
    ) -> Generator[NDArray[np.float32], None, None]:
        rows = self.model.encode_stream(
            inputs,
            window=window,
            prompt=prompt or "",
            batch_size=batch_size,
            normalize_embeddings=normalize,
            show_progress_bar=progress,
        )
        return (row.astype(np.float32, copy=False) for row in rows)

    def _encode_chunks(self, inputs: Any, how: dict[str, Any], *, late: bool, **cutting: Any) -> Any:
        found = self.model.encode_chunks(inputs, late=late, **how, **cutting)
        # A model in half precision gives float32 here, too.
        if isinstance(found, ChunkedText):
            return found.astype(np.float32)
        return [text.astype(np.float32) for text in found]
