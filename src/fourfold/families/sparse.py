"""Sparse encoders: a text becomes weights of terms, most of them zero."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from fourfold.engine.workers import WorkerPool
from fourfold.errors import InputError, InputTypeError
from fourfold.families import _encoding, _sparse_encode
from fourfold.families._embedding import EmbeddingModel, encoding_as
from fourfold.families._loading import as_modules
from fourfold.families._model import Loaded, ModelOptions, shows_model_options
from fourfold.families.model_card import BaseModelCardData, SparseEncoderModelCardData
from fourfold.modules._base import width_methods
from fourfold.modules.pooling import Pooling
from fourfold.modules.sparse_auto_encoder import SparseAutoEncoder
from fourfold.modules.splade_pooling import SpladePooling
from fourfold.modules.transformer import Transformer
from fourfold.notices import renamed_keywords
from fourfold.ops import sparse
from fourfold.ops.similarity import SimilarityFunction
from fourfold.ops.terms import check_active, heaviest, sparsity
from fourfold.ops.vectors import to_batch
from fourfold.store.manifest import architectures
from fourfold.text import prompts as prompting

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)


class SparseEncoder(EmbeddingModel):
    """Turn texts into sparse vectors ``[rows, width]``: one weight for each word piece of a vocabulary, or each unit.

    Args:
        model_name_or_path: A folder, or a name on the hub; one without an organisation means ``sparse-encoder/``. A
            masked language model becomes a SPLADE model (Formal et al. 2021, arXiv:2109.10086); a dense model gets a
            sparse auto-encoder on top (Wen et al. 2025, arXiv:2503.01776), which has to be trained.
        modules: Modules to build the model from instead, a list or an ``OrderedDict``.
        device: Where to run; None takes the best that is there.
        similarity_fn_name: ``dot`` (which it is unless set), ``cosine``, ``euclidean`` or ``manhattan``.
        max_active_dims: Keep only this many weights of a text, the largest; None keeps all. Models with a sparse
            auto-encoder keep its ``k``.
        **kwargs: Those of every family: :class:`~fourfold.families._model.ModelOptions`.

    >>> from fourfold.testing import tiny
    >>> model = tiny("sparse")
    >>> vectors = model.encode(["a text", "another"])
    >>> vectors.layout, vectors.shape[0]
    (torch.sparse_coo, 2)
    """

    model_type: ClassVar[str] = "SparseEncoder"
    default_huggingface_organization: ClassVar[str | None] = "sparse-encoder"
    model_card_data_class: ClassVar[type[BaseModelCardData]] = SparseEncoderModelCardData
    _default_similarity: ClassVar[str] = "dot"

    @shows_model_options
    @renamed_keywords(tokenizer_kwargs="processor_kwargs")
    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        modules: Any = None,
        device: str | torch.device | None = None,
        similarity_fn_name: str | SimilarityFunction | None = None,
        max_active_dims: int | None = None,
        **kwargs: Unpack[ModelOptions],
    ) -> None:
        self.similarity_fn_name = similarity_fn_name
        self.max_active_dims = check_active(max_active_dims, "the argument max_active_dims")
        super().__init__(model_name_or_path, modules=modules, device=device, **kwargs)
        if self.max_active_dims is None:
            encoders = [module for module in self if isinstance(module, SparseAutoEncoder)]
            self.max_active_dims = encoders[0].k if encoders else None

    def _parse_model_config(self, model_config: dict[str, Any]) -> None:
        super()._parse_model_config(model_config)
        if self.max_active_dims is None:
            self.max_active_dims = check_active(model_config.get("max_active_dims"))

    def _get_model_config(self) -> dict[str, Any]:
        config = {**super()._get_model_config(), "similarity_fn_name": self._similarity}
        return config if self.max_active_dims is None else {**config, "max_active_dims": self.max_active_dims}

    # -- loading -----------------------------------------------------------------------------------------------------

    def _load_default_modules(self, model_name_or_path: str, *args: Any, **kwargs: Any) -> Loaded:
        source, options = self._arguments(model_name_or_path, *args, **kwargs)
        config = Transformer.checkpoint_config(source, **options.keywords(source))
        if any(name.endswith("ForMaskedLM") for name in architectures(config.architectures)):
            keywords = {**options.keywords(source), "transformer_task": "fill-mask"}
            return [Transformer.from_checkpoint(source, **keywords), SpladePooling("max")], {}
        transformer = Transformer.from_checkpoint(source, **options.keywords(source))
        width = transformer.get_embedding_dimension()
        logger.warning("%s has no masked language model; a sparse auto-encoder, still untrained, is added", source.name)
        top = SparseAutoEncoder(width, hidden_dim=4 * width, k=256, k_aux=512)
        return [transformer, Pooling(width, "mean"), top], {}

    def _load_converted_modules(
        self, model_name_or_path: str, *args: Any, model_type: str | None = None, **kwargs: Any
    ) -> Loaded:
        """Return what another family's folder becomes: a dense model's modules get a sparse auto-encoder on top."""
        if model_type != "SentenceTransformer":
            return super()._load_converted_modules(model_name_or_path, *args, model_type=model_type, **kwargs)
        modules, names = self._load_config_modules(model_name_or_path, *args, **kwargs)
        self._model_card_text = None  # it speaks of the dense model
        named = as_modules(modules)
        # The last one that has a say: what an earlier one says is not the width of what comes out.
        tell = next(width_methods(reversed(named.values())), lambda: None)
        width = tell()
        if width is None:
            raise InputError(f"no module of {model_name_or_path} tells the width of its vectors, which must be known")
        named[str(len(named))] = SparseAutoEncoder(width, hidden_dim=4 * width, k=width // 4, k_aux=width // 2)
        return named, names

    # -- encoding ----------------------------------------------------------------------------------------------------

    @renamed_keywords(sentences="inputs")
    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool | str = True,
        save_to_cpu: bool = False,
        device: str | torch.device | list[str | torch.device] | None = None,
        max_active_dims: int | None = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Turn one input or a batch into sparse vectors, in the order given.

        Args:
            inputs: A text, or a list, tuple, array or dataset column of texts; a pair of texts is a tuple inside a
                list. One-key dictionaries such as ``{"query": text}`` state the route of a ``Router``.
            prompt_name: Name of the model's prompt to put before each text.
            prompt: The prompt itself; wins over the name, and ``""`` switches prompts off.
            batch_size: Bounds memory: at most ``batch_size * max_seq_length`` tokens run together.
            show_progress_bar: None shows a bar only if this library's logger is at INFO or DEBUG.
            convert_to_tensor: Return one tensor ``[rows, width]``; otherwise a list of vectors ``[width]``.
            convert_to_sparse_tensor: Whether tensors are sparse: True or ``"coo"`` for torch's coordinate layout,
                ``"csr"`` for compressed rows, False for dense ones, which take ``4 * width`` bytes each.
            save_to_cpu: Return CPU tensors wherever the model runs.
            device: Move the model there first, for good. A list of devices encodes with a process on each.
            max_active_dims: Keep only this many weights of a text, those of largest absolute value, instead of the
                model's own ``max_active_dims``.
            pool: Worker processes from :meth:`start_multi_process_pool`; wins over ``device``. The result is on the
                CPU.
            chunk_size: Most inputs handed to a worker at a time; None goes by the measured speed.
            **kwargs: What the model's modules take, ``task`` and ``processing_kwargs``.

        Returns:
            One input gives its vector ``[width]``, a batch ``[rows, width]`` or a list. Sparse tensors are coalesced.

        Raises:
            InputError: If an argument or an input is unusable; the message names it.
            WorkerError: If worker processes died, and no other could do their work.
        """
        options = _sparse_encode.Options.of(
            self,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            convert_to_tensor=convert_to_tensor,
            convert_to_sparse_tensor=convert_to_sparse_tensor,
            save_to_cpu=save_to_cpu,
            device=device,
            max_active_dims=max_active_dims,
            pool=pool,
            chunk_size=chunk_size,
            **kwargs,
        )
        return _encoding.encode(self, inputs, options)

    encode_query = encoding_as("query", prompting.QUERY_NAMES, encode)
    encode_document = encoding_as("document", prompting.DOCUMENT_NAMES, encode)

    def encode_stream(self, inputs: Iterable[Any], *, window: int = 8192, **options: Any) -> Any:
        """Encode an iterable of any length, such as a generator, and yield each input's vector ``[width]`` in order.

        Args:
            inputs: What :meth:`encode` takes in a batch, one after another; read in the caller's thread, at most two
                windows ahead.
            window: Most inputs read at a time, which are sorted and run together. Two windows bound the memory.
            **options: The other arguments of :meth:`encode`.

        Raises:
            InputError: At once, if an argument is unusable; while reading, if an input is.

        >>> from fourfold.testing import tiny
        >>> [vector.ndim for vector in tiny("sparse").encode_stream(f"text {i}" for i in range(3))]
        [1, 1, 1]
        """
        return _encoding.encode_stream(self, inputs, _sparse_encode.Options.of(self, **options), window)

    @property
    def splade_pooling_chunk_size(self) -> int | None:
        """Tokens that the first SpladePooling takes at a time; None if there is no such module, or no limit."""
        pooling = self._splade_pooling()
        return None if pooling is None else pooling.chunk_size

    @splade_pooling_chunk_size.setter
    def splade_pooling_chunk_size(self, value: int | None) -> None:
        pooling = self._splade_pooling()
        if pooling is not None:
            pooling.chunk_size = value

    def _splade_pooling(self) -> SpladePooling | None:
        found = next((module for module in self if isinstance(module, SpladePooling)), None)
        if found is None:
            logger.warning("this model has no SpladePooling, whose chunk_size is asked for")
        return found

    def get_embedding_dimension(self) -> int | None:
        """Return the number of terms; None if no module tells.

        A SPLADE model has as many as its vocabulary has words, also before the first text has shown it.
        """
        last = self._last_module()
        if isinstance(last, SpladePooling) and last.embedding_dimension is None and self.config is not None:
            return self.config.get_text_config().vocab_size
        return super().get_embedding_dimension()

    # -- looking inside ----------------------------------------------------------------------------------------------

    def decode(self, embeddings: Tensor, top_k: int | None = None) -> list[Any]:
        """Return the tokens of sparse vectors with their weights, the heaviest first.

        Args:
            embeddings: ``[width]`` or ``[rows, width]``, sparse or dense.
            top_k: How many tokens of a vector; None is all.

        Returns:
            A list of pairs of token and weight for one vector, a list of such lists for several. What a weight stands
            for is a token only if the model weighs its tokenizer's vocabulary.

        Raises:
            InputError: If ``top_k`` is below 1 or the tensor has another rank.
            InputTypeError: If it is no tensor.
        """
        _check_tensor(embeddings)
        found = []
        for terms, weights in heaviest(sparse.terms_of(to_batch(embeddings)), top_k):
            tokens = self.tokenizer.convert_ids_to_tokens(terms.tolist())
            found.append(list(zip(tokens, weights.tolist(), strict=True)))
        return found[0] if embeddings.ndim == 1 else found

    @staticmethod
    def sparsity(embeddings: Tensor) -> dict[str, float]:
        """Return how sparse vectors are.

        Args:
            embeddings: ``[width]`` or ``[rows, width]``, sparse or dense.

        Returns:
            ``active_dims``, the mean number of weights that are not 0, and ``sparsity_ratio``, the share of those
            that are.

        >>> SparseEncoder.sparsity(torch.tensor([[1.0, 0, 0, 0], [1.0, 2, 0, 0]]))
        {'active_dims': 1.5, 'sparsity_ratio': 0.625}
        """
        _check_tensor(embeddings)
        return sparsity(sparse.terms_of(to_batch(embeddings)))

    @staticmethod
    def intersection(embeddings_1: Tensor, embeddings_2: Tensor) -> Tensor:
        """Return what two vectors share: the products of their weights that are above 0, as a sparse COO tensor.

        Args:
            embeddings_1: ``[width]``.
            embeddings_2: ``[width]`` or ``[rows, width]``, whose shape the result has.

        Raises:
            InputError: If the first has several rows, or the widths differ.
        """
        for embeddings in (embeddings_1, embeddings_2):
            _check_tensor(embeddings)
        if embeddings_1.ndim != 1:
            raise InputError(f"embeddings_1 must be one vector [width], got the shape {list(embeddings_1.shape)}")
        if embeddings_1.shape[-1] != embeddings_2.shape[-1]:
            raise InputError(f"widths differ: {embeddings_1.shape[-1]} and {embeddings_2.shape[-1]}")
        first = embeddings_1 if embeddings_1.layout == torch.strided else embeddings_1.to_dense()
        rows = sparse.as_coo(embeddings_2)
        values = first[rows.indices()[-1]] * rows.values()
        kept = values > 0
        indices = rows.indices()[:, kept]
        return torch.sparse_coo_tensor(indices, values[kept], rows.shape, is_coalesced=True, check_invariants=False)


def _check_tensor(embeddings: Any) -> None:
    if not isinstance(embeddings, Tensor):
        raise InputTypeError(f"embeddings must be a tensor, got {type(embeddings).__name__}")
    if embeddings.ndim not in (1, 2):
        raise InputError(f"embeddings must be [width] or [rows, width], got the shape {list(embeddings.shape)}")
