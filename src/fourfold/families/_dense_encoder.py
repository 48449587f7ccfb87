"""Dense encoders that need no torch: texts to vectors over any backend, numpy in and out."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Generator, Iterable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fourfold.backends import Backend, Batch
from fourfold.containers import ChunkedText
from fourfold.engine.collect import RowSink, numpy_rows
from fourfold.engine.plan import Budget
from fourfold.engine.run import LocalRunner, run, stream
from fourfold.errors import InputError
from fourfold.families._chunks import Cutting, chunked, each_alone
from fourfold.families._encoder import Call, Encoder, Prompted, built, saved_settings, torch_options
from fourfold.ops.quantize import as_array
from fourfold.ops.similarity import Vectors, compare, unit
from fourfold.store.source import Source
from fourfold.text import prompts as prompting
from fourfold.text.inputs import as_list, check_stream, is_single


class DenseEncoder(Encoder):
    """Texts to vectors, float32 ``[rows, width]``, whatever runs the model."""

    model_type: ClassVar[str] = "SentenceTransformer"
    _default_similarity: ClassVar[str] = "cosine"

    @abstractmethod
    def _encode(self, items: list[Any], call: Call, normalize: bool) -> NDArray[np.float32]:
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
        task: str | None = None,
    ) -> NDArray[np.float32]:
        """Turn one text or a batch into vectors, in the order given.

        Args:
            inputs: A text, or a list, tuple or array of texts.
            prompt_name: Name of the model's prompt to put before each text.
            prompt: The prompt itself; wins over the name.
            batch_size: Bounds memory, as for ``SentenceTransformer.encode``.
            show_progress_bar: Whether to show a bar that counts texts.
            normalize_embeddings: Scale each vector to length 1.
            task: Which route of a ``Router`` the texts take, such as ``query``; models without one take any.

        Returns:
            float32 ``[rows, width]``; ``[width]`` for one text; ``[0, width]`` for an empty batch.

        Raises:
            InputError: If an argument or a text is unusable.
        """
        call = self._call(prompt_name, prompt, task=task, batch_size=batch_size, progress=show_progress_bar)
        single = is_single(inputs)
        items = [inputs] if single else as_list(inputs)
        if not items:
            return np.empty((0, self.get_embedding_dimension()), dtype=np.float32)
        rows = self._encode(items, call, normalize_embeddings)
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
        task: str | None = None,
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
            task: Which route of a ``Router`` the texts take.

        Raises:
            InputError: At once, if an argument is unusable; while reading, if a text is.
        """
        call = self._call(prompt_name, prompt, task=task, batch_size=batch_size, progress=show_progress_bar)
        check_stream(inputs, window)
        return self._stream(inputs, call, normalize_embeddings, window)

    @abstractmethod
    def _stream(
        self, inputs: Iterable[Any], call: Call, normalize: bool, window: int
    ) -> Generator[NDArray[np.float32], None, None]:
        """Yield the vectors of texts."""

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


class DirectDenseEncoder(DenseEncoder):
    """A dense encoder over a backend of arrays: what numpy alone runs, or a runtime of graphs.

    Subclasses say what runs the texts of a call.
    """

    def __init__(
        self,
        source: Source,
        *,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        config = saved_settings(
            source, prompts=prompts, default_prompt_name=default_prompt_name, similarity_fn_name=similarity_fn_name
        )
        super().__init__(source, config)
        self._truncate_dim = config.extra.get("truncate_dim") if truncate_dim is None else truncate_dim

    @property
    @abstractmethod
    def _width(self) -> int:
        """Width of the vectors before they are truncated."""

    @abstractmethod
    def _planned(self, call: Call) -> tuple[Any, Budget]:
        """Return what runs the texts of a call, its prompt before each, and what a batch may hold."""

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors."""
        return self._width if self._truncate_dim is None else min(self._width, self._truncate_dim)

    def _encode(self, items: list[Any], call: Call, normalize: bool) -> NDArray[np.float32]:
        backend, runner = self._runner(call, normalize)
        sink = RowSink(len(items), numpy_rows)
        run(items, backend, sink, runner, progress=call.progress)
        return sink.result()

    def _runner(self, call: Call, normalize: bool) -> tuple[Backend, LocalRunner]:
        backend, budget = self._planned(call)

        def finish(rows: NDArray[np.float32], batch: Batch) -> NDArray[np.float32]:
            rows = rows[:, : self._truncate_dim]
            return unit(rows) if normalize else rows

        return backend, LocalRunner(backend, budget, finish)

    def _stream(
        self, inputs: Iterable[Any], call: Call, normalize: bool, window: int
    ) -> Generator[NDArray[np.float32], None, None]:
        backend, runner = self._runner(call, normalize)
        parts = stream(
            inputs, backend, runner, lambda count: RowSink(count, numpy_rows), window=window, progress=call.progress
        )
        with contextlib.closing(parts):
            for part in parts:
                yield from map(np.copy, part.result())

    def _encode_chunks(self, inputs: Any, how: dict[str, Any], *, late: bool, **cutting: Any) -> Any:
        if late:
            raise InputError(f"late=True needs {self._late_needs}. Give late=False")
        backend, _ = self._planned(Call())
        plan = Cutting.of(inputs, backend.tokenizer, backend.max_length, prompt=how["prompt"], **cutting)
        return chunked(inputs, lambda texts: each_alone(plan, texts, lambda pieces: self.encode(pieces, **how)))

    @property
    @abstractmethod
    def _late_needs(self) -> str:
        """What chunks with their text around them would need, for an error."""


class StaticDenseEncoder(DirectDenseEncoder):
    """Static token embeddings in numpy."""

    backend: ClassVar[str] = "static"

    def __init__(self, source: Source, **settings: Any) -> None:
        from fourfold.backends.static import StaticBackend

        super().__init__(source, **settings)
        self._static = StaticBackend.open(source)

    @property
    def _width(self) -> int:
        return self._static.width

    def _planned(self, call: Call) -> tuple[Any, Budget]:
        backend: Any = Prompted(self._static, call.prompt) if call.prompt else self._static
        # A static model has no length that batch_size could multiply: the cache is what bounds its batches.
        return backend, Budget(backend.best_tokens)

    @property
    def _late_needs(self) -> str:
        return f"a model whose token vectors know the text around them; those of {self.name} are the same in every text"


class TorchDenseEncoder(DenseEncoder):
    """A ``SentenceTransformer``, numpy in and out."""

    backend: ClassVar[str] = "torch"

    def __init__(self, source: Source, **options: Any) -> None:
        from fourfold.families.dense import SentenceTransformer

        self.model, config = built(SentenceTransformer, source, **options)
        super().__init__(source, config)

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors."""
        width = self.model.get_embedding_dimension()
        return self.model.encode([""]).shape[1] if width is None else width

    def _encode(self, items: list[Any], call: Call, normalize: bool) -> NDArray[np.float32]:
        rows = self.model.encode(items, normalize_embeddings=normalize, **torch_options(call))
        return rows.astype(np.float32, copy=False)

    def _stream(
        self, inputs: Iterable[Any], call: Call, normalize: bool, window: int
    ) -> Generator[NDArray[np.float32], None, None]:
        rows = self.model.encode_stream(inputs, window=window, normalize_embeddings=normalize, **torch_options(call))
        return (row.astype(np.float32, copy=False) for row in rows)

    def _encode_chunks(self, inputs: Any, how: dict[str, Any], *, late: bool, **cutting: Any) -> Any:
        found = self.model.encode_chunks(inputs, late=late, **how, **cutting)
        # A model in half precision gives float32 here, too.
        if isinstance(found, ChunkedText):
            return found.astype(np.float32)
        return [text.astype(np.float32) for text in found]
