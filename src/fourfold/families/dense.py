"""Dense encoders: a text becomes one vector."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from fourfold.engine.workers import WorkerPool
from fourfold.errors import InputError
from fourfold.families import _dense_chunks, _dense_encode, _encoding
from fourfold.families._dense_legacy import DenseLegacy
from fourfold.families._embedding import EmbeddingModel, encoding_as
from fourfold.families._model import Loaded, ModelOptions, shows_model_options
from fourfold.families._signatures import returns_by_flags, streams_by_flags
from fourfold.families.model_card import BaseModelCardData, SentenceTransformerModelCardData
from fourfold.modules.pooling import Pooling
from fourfold.modules.transformer import Transformer
from fourfold.notices import renamed_keywords
from fourfold.ops.similarity import SimilarityFunction
from fourfold.store.manifest import architectures
from fourfold.text import prompts as prompting

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

_INSTRUCTOR = ("hkunlp/instructor-base", "hkunlp/instructor-large", "hkunlp/instructor-xl")


class SentenceTransformer(DenseLegacy, EmbeddingModel):
    """Turn texts into vectors ``[rows, width]``.

    Args:
        model_name_or_path: A folder, or a name on the hub; one without an organisation means
            ``sentence-transformers/``.
        modules: Modules to build the model from instead, a list or an ``OrderedDict``.
        device: Where to run; None takes the best that is there.
        similarity_fn_name: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``.
        truncate_dim: Keep only this many leading numbers of each vector.
        use_auth_token: Older name of ``token``.
        **kwargs: Those of every family: :class:`~fourfold.families._model.ModelOptions`.

    >>> from fourfold.testing import tiny
    >>> model = tiny("dense")
    >>> model.encode(["a text", "another"]).shape
    (2, 32)
    """

    model_type: ClassVar[str] = "SentenceTransformer"
    default_huggingface_organization: ClassVar[str | None] = "sentence-transformers"
    model_card_data_class: ClassVar[type[BaseModelCardData]] = SentenceTransformerModelCardData
    _default_similarity: ClassVar[str] = "cosine"

    @shows_model_options
    @renamed_keywords(tokenizer_kwargs="processor_kwargs")
    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        modules: Any = None,
        device: str | torch.device | None = None,
        similarity_fn_name: str | SimilarityFunction | None = None,
        truncate_dim: int | None = None,
        use_auth_token: bool | str | None = None,
        **kwargs: Unpack[ModelOptions],
    ) -> None:
        if use_auth_token is not None:
            if kwargs.get("token") is not None:
                raise InputError("token and use_auth_token are both given; use token")
            warnings.warn("use_auth_token is deprecated; use token", FutureWarning, stacklevel=3)
            kwargs["token"] = use_auth_token
        self.similarity_fn_name = similarity_fn_name
        self.truncate_dim = truncate_dim
        super().__init__(model_name_or_path, modules=modules, device=device, **kwargs)
        self._follow_instructor(str(model_name_or_path or ""))

    def _follow_instructor(self, name: str) -> None:
        """Pool without the prompt's tokens in INSTRUCTOR models, whose folders do not say so themselves."""
        if name in _INSTRUCTOR:
            self.set_pooling_include_prompt(False)
        counted = any(isinstance(module, Pooling) and module.include_prompt for module in self)
        if counted and "instructor" in name.partition("/")[2].lower():
            logger.warning(
                "%s is called an INSTRUCTOR model, which pools without the prompt's tokens, but its Pooling counts "
                "them: call model.set_pooling_include_prompt(False) if it is one",
                name,
            )

    def _parse_model_config(self, model_config: dict[str, Any]) -> None:
        super()._parse_model_config(model_config)
        if self.truncate_dim is None:
            self.truncate_dim = model_config.get("truncate_dim")

    def _get_model_config(self) -> dict[str, Any]:
        config = {**super()._get_model_config(), "similarity_fn_name": self.similarity_fn_name}
        return config if self.truncate_dim is None else {**config, "truncate_dim": self.truncate_dim}

    def _load_default_modules(self, model_name_or_path: str, *args: Any, **kwargs: Any) -> Loaded:
        source, options = self._arguments(model_name_or_path, *args, **kwargs)
        transformer = Transformer.from_checkpoint(source, **options.keywords(source))
        if transformer.module_output_name == "sentence_embedding":
            return [transformer], {}
        config = transformer.config
        first = "".join(architectures(config.architectures)[:1])
        generative = first.endswith("ForCausalLM") and getattr(config, "is_causal", None) is not False
        pooling = Pooling(transformer.get_embedding_dimension(), "lasttoken" if generative else "mean")
        return [transformer, pooling], {}

    # -- encoding ----------------------------------------------------------------------------------------------------

    @returns_by_flags
    @renamed_keywords(sentences="inputs")
    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | torch.device | list[str | torch.device] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Turn one input or a batch into vectors, in the order given.

        Args:
            inputs: A text, or a list, tuple, array or dataset column of texts; a pair of texts is a tuple inside a
                list. A model of other modalities takes what it supports: images, audio, dictionaries, chat messages.
            prompt_name: Name of the model's prompt to put before each text.
            prompt: The prompt itself; wins over the name, and ``""`` switches prompts off.
            batch_size: Bounds memory: at most ``batch_size * max_seq_length`` tokens run together.
            show_progress_bar: None shows a bar only if this library's logger is at INFO or DEBUG.
            output_value: ``"sentence_embedding"``, ``"token_embeddings"`` (a tensor ``[tokens, width]`` each), the
                name of another feature, or None for a dictionary of all features each.
            precision: ``float32``, ``int8``, ``uint8``, ``binary`` or ``ubinary``.
            convert_to_numpy: Return an array ``[rows, width]``; if neither this nor ``convert_to_tensor``, a list of
                tensors.
            convert_to_tensor: Return a tensor ``[rows, width]``; wins over ``convert_to_numpy``.
            device: Move the model there first, for good. A list of devices encodes with a process on each, started for
                this call; the model then stays on the CPU.
            normalize_embeddings: Scale each vector to length 1, after truncation.
            truncate_dim: Keep only this many leading numbers, instead of the model's own ``truncate_dim``.
            pool: Worker processes from :meth:`start_multi_process_pool`; wins over ``device``.
            chunk_size: Most inputs handed to a worker at a time; None goes by the measured speed.
            **kwargs: What the model's modules take, ``task`` and ``processing_kwargs``.

        Returns:
            One input gives its vector ``[width]``, a batch ``[rows, width]`` or a list.

        Raises:
            InputError: If an argument or an input is unusable; the message names it.
            WorkerError: If worker processes died, and no other could do their work.
        """
        options = _dense_encode.Options.of(
            self,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            output_value=output_value,
            precision=precision,
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor,
            device=device,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
            **kwargs,
        )
        return _encoding.encode(self, inputs, options)

    encode_query = returns_by_flags(encoding_as("query", prompting.QUERY_NAMES, encode))
    encode_document = returns_by_flags(encoding_as("document", prompting.DOCUMENT_NAMES, encode))

    @streams_by_flags
    def encode_stream(self, inputs: Iterable[Any], *, window: int = 8192, ranges: Any = None, **options: Any) -> Any:
        """Encode an iterable of any length, such as a generator, and yield each input's result in order.

        Memory is bounded by two windows. The iterable is read in the caller's thread, at most two windows ahead of what
        is yielded; tokenising runs ahead in a thread of its own. An error of the iterable is raised after the results
        of what it gave before. Closing the generator that is returned ends all work.

        Args:
            inputs: What :meth:`encode` takes in a batch, one after another.
            window: Most inputs read at a time, which are sorted and run together: large windows are faster, small
                ones yield sooner.
            ranges: ``[2, width]``, the smallest and largest value of each dimension, for ``int8`` and ``uint8``: a
                stream tells its own only at its end.
            **options: The other arguments of :meth:`encode`, with the same meaning for each input.

        Raises:
            InputError: At once, if an argument is unusable; while reading, if an input is.

        >>> from fourfold.testing import tiny
        >>> model = tiny("dense")
        >>> [vector.shape for vector in model.encode_stream(f"text {i}" for i in range(3))]
        [(32,), (32,), (32,)]
        """
        options = {**options, "ranges": ranges}
        return _dense_encode.encode_stream(self, inputs, _dense_encode.Options.of(self, **options), window)

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
        show_progress_bar: bool | None = None,
        precision: str | None = "float32",
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Any = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Turn long texts into vectors of their chunks.

        Args:
            inputs: A text, or a list, tuple or array of texts.
            size: Most tokens of a chunk, special tokens and prompt included; None is what the model takes. Chunks are
                cut as :func:`fourfold.text.split` cuts them.
            overlap: Most tokens that a chunk repeats of the one before.
            spans: The caller's own chunks instead: pairs of start and stop in characters, for a batch a list of them
                for each text. They may overlap and leave gaps.
            late: False encodes each chunk as a text of its own, with the prompt in front. True runs the whole text,
                with the prompt in front once, and pools the token vectors of each chunk (late chunking,
                arXiv:2409.04701), so that a chunk's vector knows what stands around it. It needs a model that pools all
                tokens of a text.
            prompt_name: As for :meth:`encode`, like all that follow.
            prompt: The prompt itself.
            batch_size: Bounds memory.
            show_progress_bar: Whether to show a bar.
            precision: ``float32``, ``int8``, ``uint8``, ``binary`` or ``ubinary``.
            convert_to_tensor: Give tensors, not arrays.
            device: Move the model there first; a list of devices needs ``late=False``.
            normalize_embeddings: Scale each vector to length 1.
            truncate_dim: Keep only this many leading numbers.
            pool: Worker processes; needs ``late=False``.
            chunk_size: Most chunks handed to a worker at a time.
            **kwargs: What the model's modules take, and ``task``.

        Returns:
            For one text a :class:`~fourfold.containers.ChunkedText`, for a batch a list of them: vectors
            ``[chunks, width]`` and their offsets. A text that fits is one chunk, with the vector that :meth:`encode`
            gives it.

        Raises:
            InputError: If an argument or a text is unusable, the tokenizer cannot tell where tokens stand, or the model
                cannot be late.

        >>> from fourfold.testing import tiny
        >>> chunks = tiny("dense").encode_chunks("A long text. In short chunks.", size=12, late=True)
        >>> chunks.vectors.shape, chunks.texts
        ((2, 32), ['A long text. In short', 'chunks.'])
        """
        options = _dense_encode.Options.of(
            self,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            precision=precision,
            convert_to_tensor=convert_to_tensor,
            device=device,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
            **kwargs,
        )
        return _dense_chunks.encode_chunks(self, inputs, options, late=late, size=size, overlap=overlap, spans=spans)

    # -- dimensions --------------------------------------------------------------------------------------------------

    def get_embedding_dimension(self) -> int | None:
        """Return the width of the vectors, after truncation; None if no module tells."""
        width = super().get_embedding_dimension()
        known = [number for number in (width, self.truncate_dim) if number is not None]
        return min(known, default=None)

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Set :attr:`truncate_dim` inside the block."""
        before = self.truncate_dim
        self.truncate_dim = truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before
