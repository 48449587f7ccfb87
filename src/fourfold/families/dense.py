"""Dense encoders: a text becomes one vector."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.families import _dense_chunks, _dense_encode
from fourfold.families._loading import LoadOptions
from fourfold.families._model import BaseModel
from fourfold.modules.pooling import Pooling
from fourfold.modules.transformer import Transformer
from fourfold.notices import warn_once
from fourfold.ops import similarity
from fourfold.ops.similarity import SimilarityFunction, Vectors, similarity_name
from fourfold.store.card import Facts
from fourfold.store.manifest import ModelConfig
from fourfold.store.source import Source
from fourfold.text import prompts as prompting

logger = logging.getLogger(__name__)

_USAGE = """from fourfold import SentenceTransformer

model = SentenceTransformer("sentence_transformers_model_id")
embeddings = model.encode(["The weather is lovely today.", "It's so sunny outside!"])
print(model.similarity(embeddings, embeddings))"""


class SentenceTransformer(BaseModel):
    """Turn texts into vectors ``[rows, width]``.

    Args:
        model_name_or_path: A folder, or a name on the hub; one without an organisation means
            ``sentence-transformers/``.
        modules: Modules to build the model from instead, a list or an ``OrderedDict``.
        device: Where to run; None takes the best that is there.
        dtype: ``"fastest"`` takes the data type that a short measurement shows to be fastest here, remembered for the
            machine; others are passed to the checkpoint's loader. None keeps the checkpoint's own.
        similarity_fn_name: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``.
        truncate_dim: Keep only this many leading numbers of each vector.
        use_auth_token: Older name of ``token``.
        **kwargs: ``prompts``, ``default_prompt_name``, ``cache_folder``, ``trust_remote_code``, ``revision``,
            ``local_files_only``, ``token``, ``model_kwargs``, ``processor_kwargs``, ``config_kwargs``,
            ``model_card_data`` and ``backend``, as for every family.

    >>> from fourfold.testing import tiny
    >>> model = tiny("dense")
    >>> model.encode(["a text", "another"]).shape
    (2, 32)
    """

    model_type: ClassVar[str] = "SentenceTransformer"
    default_huggingface_organization: ClassVar[str | None] = "sentence-transformers"
    _default_prompts: ClassVar[tuple[str, ...]] = ("query", "document")
    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = ("cosine", "dot", "euclidean", "manhattan")

    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        modules: Any = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        similarity_fn_name: str | SimilarityFunction | None = None,
        truncate_dim: int | None = None,
        use_auth_token: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        if use_auth_token is not None:
            if kwargs.get("token") is not None:
                raise InputError("token and use_auth_token are both given; use token")
            warnings.warn("use_auth_token is deprecated; use token", FutureWarning, stacklevel=2)
            kwargs["token"] = use_auth_token
        if dtype is not None and dtype != "fastest":
            kwargs["model_kwargs"] = {**(kwargs.get("model_kwargs") or {}), "dtype": dtype}
        self._similarity = None if similarity_fn_name is None else similarity_name(similarity_fn_name)
        self.truncate_dim = truncate_dim
        super().__init__(model_name_or_path, modules=modules, device=device, **kwargs)
        if dtype == "fastest":
            from fourfold.backends.tuning import fastest_dtype

            self.to(fastest_dtype(self))

    def _apply_saved(self, saved: ModelConfig) -> None:
        if self._similarity is None and saved.similarity_fn_name in self.SUPPORTED_SIMILARITY_FN_NAMES:
            self._similarity = saved.similarity_fn_name
        if self.truncate_dim is None:
            self.truncate_dim = saved.extra.get("truncate_dim")

    def _default_modules(self, source: Source, options: LoadOptions) -> list[nn.Module]:
        source.need("config.json")
        transformer = Transformer.load(source.name, **options.keywords(source))
        config = transformer.config
        architecture = (config.architectures or [""])[0]
        generative = architecture.endswith("ForCausalLM") and getattr(config, "is_causal", None) is not False
        pooling = Pooling(transformer.get_embedding_dimension(), "lasttoken" if generative else "mean")
        return [transformer, pooling]

    # -- encoding ----------------------------------------------------------------------------------------------------

    def encode(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | torch.device | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Any = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Turn one input or a batch into vectors, in the order given.

        Args:
            inputs: A text, or a list, tuple or array of texts; a pair of texts is a tuple inside a list.
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
            device: Move the model there first, for good.
            normalize_embeddings: Scale each vector to length 1, after truncation.
            truncate_dim: Keep only this many leading numbers, instead of the model's own ``truncate_dim``.
            pool: Not supported yet.
            chunk_size: Not supported yet.
            **kwargs: What the model's modules take, ``task`` and ``processing_kwargs``.

        Returns:
            One input gives its vector ``[width]``, a batch ``[rows, width]`` or a list.

        Raises:
            InputError: If an argument or an input is unusable; the message names it.
        """
        if inputs is None and "sentences" in kwargs:
            warn_once(logger, "encode(sentences=) is deprecated; use inputs=")
            inputs = kwargs.pop("sentences")
        options = _dense_encode.Options(
            prompt=prompting.resolve(self.prompts, self.default_prompt_name, prompt, prompt_name),
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            output_value=output_value,
            precision=precision,
            as_tensor=convert_to_tensor,
            as_numpy=convert_to_numpy and not convert_to_tensor,
            normalize=normalize_embeddings,
            truncate_dim=truncate_dim if truncate_dim is not None else self.truncate_dim,
            kwargs=kwargs,
            pool=pool,
            devices=list(device) if isinstance(device, (list, tuple)) else None,
            chunk_size=chunk_size,
        )
        if device is not None and options.devices is None:
            self.to(device)
        return _dense_encode.encode(self, inputs, options)

    def encode_query(self, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Encode queries: :meth:`encode`, whose arguments it takes, with the ``query`` prompt and ``task="query"``."""
        return self._encode_as("query", prompting.QUERY_NAMES, inputs, args, kwargs)

    def encode_document(self, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Encode documents: :meth:`encode`, whose arguments it takes, with the ``document`` prompt and its task."""
        return self._encode_as("document", prompting.DOCUMENT_NAMES, inputs, args, kwargs)

    def _encode_as(
        self, task: str, names: tuple[str, ...], inputs: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        positional = list(inspect.signature(SentenceTransformer.encode).parameters)[2:-1]
        if len(args) > len(positional):
            raise TypeError(f"encode_{task} takes at most {len(positional) + 1} positional arguments")
        given = {**dict(zip(positional, args, strict=False)), **kwargs}
        if given.get("prompt") is None and given.get("prompt_name") is None:
            given["prompt_name"] = prompting.name_for(self.prompts, names)
        # Subclasses override encode and find every argument by its name.
        return self.encode(inputs=inputs, task=task, **given)

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
            late: False encodes each chunk as a text of its own, with the prompt in front. True runs the whole text, with
                the prompt in front once, and pools the token vectors of each chunk (late chunking, arXiv:2409.04701),
                so that a chunk's vector knows what stands around it. It needs a model that pools all tokens of a text.
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
        options = _dense_encode.Options(
            prompt=prompting.resolve(self.prompts, self.default_prompt_name, prompt, prompt_name),
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            precision=precision,
            as_tensor=convert_to_tensor,
            as_numpy=not convert_to_tensor,
            normalize=normalize_embeddings,
            truncate_dim=truncate_dim if truncate_dim is not None else self.truncate_dim,
            kwargs=kwargs,
            pool=pool,
            devices=list(device) if isinstance(device, (list, tuple)) else None,
            chunk_size=chunk_size,
        )
        if device is not None and options.devices is None:
            self.to(device)
        return _dense_chunks.encode_chunks(self, inputs, options, late=late, size=size, overlap=overlap, spans=spans)

    # -- comparing ---------------------------------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """Name of the similarity; ``cosine`` unless set."""
        if self._similarity is None:
            self._similarity = "cosine"
        return self._similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        self._similarity = None if value is None else similarity_name(value)

    def similarity(self, embeddings1: Vectors, embeddings2: Vectors) -> Tensor:
        """Return the similarity of every vector to every other, ``[rows of the first, rows of the second]``."""
        first, second = similarity.as_tensor(embeddings1), similarity.as_tensor(embeddings2)
        return similarity.compare(self.similarity_fn_name, first, second)

    def similarity_pairwise(self, embeddings1: Vectors, embeddings2: Vectors) -> Tensor:
        """Return the similarity of each vector to the one in the same row, ``[rows]``."""
        first, second = similarity.as_tensor(embeddings1), similarity.as_tensor(embeddings2)
        return similarity.compare(self.similarity_fn_name, first, second, pairwise=True)

    # -- dimensions --------------------------------------------------------------------------------------------------

    def get_embedding_dimension(self) -> int | None:
        """Return the width of the vectors, after truncation; None if no module tells."""
        names = ("get_embedding_dimension", "get_sentence_embedding_dimension", "get_word_embedding_dimension")
        answers = (
            getattr(module, name)() for module in reversed(list(self)) for name in names if hasattr(module, name)
        )
        width = next((answer for answer in answers if answer is not None), None)
        known = [number for number in (width, self.truncate_dim) if number is not None]
        return min(known, default=None)

    def get_sentence_embedding_dimension(self) -> int | None:
        """Do what :meth:`get_embedding_dimension` does, under its older name."""
        message = "get_sentence_embedding_dimension is deprecated; use get_embedding_dimension"
        warnings.warn(message, FutureWarning, stacklevel=2)
        return self.get_embedding_dimension()

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Set :attr:`truncate_dim` inside the block."""
        before = self.truncate_dim
        self.truncate_dim = truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Say whether the first Pooling module counts the prompt's tokens."""
        for module in self:
            if isinstance(module, Pooling):
                module.include_prompt = include_prompt
                return

    # -- saving ------------------------------------------------------------------------------------------------------

    def _own_config(self) -> dict[str, Any]:
        own: dict[str, Any] = {"similarity_fn_name": self.similarity_fn_name}
        return own if self.truncate_dim is None else {**own, "truncate_dim": self.truncate_dim}

    def _card_facts(self, model_name: str | None, train_datasets: list[str] | None) -> Facts:
        width = self.get_embedding_dimension()
        return Facts(
            title=model_name or "SentenceTransformer",
            tags=["sentence-transformers", "sentence-similarity", "feature-extraction", "dense"],
            pipeline_tag="sentence-similarity",
            summary=f"This model turns texts into vectors of {width} numbers, for search, similarity and clustering.",
            description={
                "Model Type": "Sentence Transformer",
                "Maximum Sequence Length": f"{self.max_seq_length} tokens",
                "Output Dimensionality": f"{width} dimensions",
                "Similarity Function": self.similarity_fn_name,
            },
            architecture=repr(self),
            usage=_USAGE,
            datasets=train_datasets or [],
        )
