"""One vector a token, averaged: a model without attention, hundreds of times cheaper than a transformer."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from fourfold.containers import Tokens
from fourfold.errors import FolderError, InputError, WeightsError
from fourfold.modules._base import Features, InputModule, needed
from fourfold.store.source import Source, locate
from fourfold.store.tokenizer import read_tokenizer
from fourfold.store.weights import read_tensors
from fourfold.text.inputs import check_texts
from fourfold.text.prompts import prepend
from fourfold.text.tokenizer import FastTokenizer

logger = logging.getLogger(__name__)

# Arguments of from_distillation that say how the transformer is loaded.
_LOADING = (
    "trust_remote_code", "token", "revision", "cache_folder", "local_files_only", "model_kwargs", "processor_kwargs",
    "config_kwargs",
)  # fmt: skip


class StaticEmbedding(InputModule):
    """Average the vectors of a text's tokens.

    Args:
        tokenizer: A ``tokenizers.Tokenizer``, or a transformers tokenizer built on one. Its padding is switched off.
        embedding_weights: ``[vocabulary, width]``.
        embedding_dim: Width of random vectors, where there are no weights.
        base_model: Name of the model that the vectors come from, for the model card.

    Raises:
        InputError: If the tokenizer is of another kind, or neither weights nor width are given.
    """

    packed = True
    config_keys: ClassVar[list[str]] = []

    def __init__(
        self,
        tokenizer: Any,
        embedding_weights: Any = None,
        embedding_dim: int | None = None,
        base_model: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.base_model = base_model
        self.tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not isinstance(self.tokenizer, Tokenizer):
            raise InputError(
                f"tokenizer must be a tokenizers.Tokenizer or a fast transformers tokenizer, got {type(tokenizer)}"
            )
        self.tokenizer.no_padding()
        if embedding_weights is not None:
            weights = torch.as_tensor(embedding_weights)
            if not weights.is_floating_point():
                weights = weights.float()
            self.embedding = nn.EmbeddingBag.from_pretrained(weights, freeze=False, mode="mean")
        elif embedding_dim is not None:
            self.embedding = nn.EmbeddingBag(self.tokenizer.get_vocab_size(), embedding_dim, mode="mean")
        else:
            raise InputError("StaticEmbedding needs embedding_weights or embedding_dim")
        self._fast = FastTokenizer(self.tokenizer, add_special_tokens=False)

    @property
    def num_embeddings(self) -> int:
        """Number of tokens that have a vector."""
        return self.embedding.num_embeddings

    @property
    def embedding_dim(self) -> int:
        """Width of the vectors."""
        return self.embedding.embedding_dim

    @property
    def max_seq_length(self) -> float:
        """Always infinity: no text is too long."""
        return math.inf

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors."""
        return self.embedding_dim

    @classmethod
    def example(cls) -> StaticEmbedding:
        """Return a tiny instance for tests."""
        from tokenizers import models, pre_tokenizers

        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "c": 3}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        return cls(tokenizer, torch.arange(32, dtype=torch.float32).reshape(4, 8) / 32)

    def tokenises(self, kwargs: Mapping[str, Any]) -> bool:
        """Always: no argument changes how texts become ids."""
        return True

    def locating_tokenizer(self, **kwargs: Any) -> FastTokenizer | None:
        """Return the tokenizer, which tells where tokens stand in a text."""
        return self._fast

    def tokenise(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Tokens:
        """Return the packed ids of texts, without special tokens; cut only if the tokenizer's own file asks for it."""
        own = (self.tokenizer.truncation or {}).get("max_length")
        return self._fast.encode(prepend(prompt, check_texts(inputs)), own)

    def pack(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into features: ``input_ids`` ``[tokens]`` and ``offsets`` ``[rows]``."""
        return {"input_ids": torch.from_numpy(tokens.ids).long(), "offsets": torch.from_numpy(tokens.offsets[:-1])}

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn texts into ``input_ids`` int64 ``[tokens]`` and ``offsets`` int64 ``[rows]``."""
        return self.pack(self.tokenise(inputs, prompt)) if inputs else {}

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Write ``sentence_embedding`` ``[rows, width]``; a text without tokens gives zeros."""
        features["sentence_embedding"] = self.embedding(
            needed(features, "input_ids", self), needed(features, "offsets", self)
        )
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the weights and the tokenizer."""
        self.save_torch_weights(output_path, safe_serialization)
        self.save_tokenizer(output_path)

    @classmethod
    def from_source(
        cls, source: Source, init_defaults: dict[str, Any] | None = None, **options: Any
    ) -> StaticEmbedding:
        """Build the module from its folder, in this library's layout or model2vec's."""
        tokenizer = read_tokenizer(source)
        weights = table(read_tensors(source), source.pretty("model.safetensors"))
        highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if highest >= len(weights):
            raise WeightsError(
                f"{source.pretty()}: tokenizer.json has ids up to {highest}, the weights have {len(weights)} rows"
            )
        return cls(tokenizer, weights)

    @classmethod
    def from_model2vec(cls, model_id_or_path: str) -> StaticEmbedding:
        """Read a model of model2vec, from a folder or the hub; the package model2vec is not needed.

        Args:
            model_id_or_path: Folder or hub name with model2vec's ``model.safetensors`` and ``tokenizer.json``.

        Raises:
            MissingFileError: If one of the files is absent.
        """
        module = cls.from_source(Source(locate(str(model_id_or_path), None)).pinned())
        module.base_model = str(model_id_or_path)
        return module

    @classmethod
    def from_distillation(
        cls,
        model_name: str,
        vocabulary: Sequence[str] | None = None,
        device: str | torch.device | None = None,
        pca_dims: int | str | None = 256,
        apply_zipf: bool = True,
        sif_coefficient: float | None = 1e-4,
        token_remove_pattern: str | None = r"\[unused\d+\]",
        quantize_to: str = "float32",
        use_subword: bool = True,
        **kwargs: Any,
    ) -> StaticEmbedding:
        """Make static vectors of a transformer's tokens, by model2vec's method; no data and no package are needed.

        Each token runs through the model alone. A vocabulary of 30,000 takes about a minute on a CPU for a model of
        MiniLM's size. Any transformer with a fast tokenizer will do.

        Args:
            model_name: Folder or hub name of a transformer, or of a saved model whose first module is one.
            vocabulary: Words and phrases that get a vector of their own, besides the tokenizer's tokens.
            device: Where the transformer runs; a CUDA device, where there is one, by default.
            pca_dims: Width of the vectors, by their principal axes; ``"auto"`` keeps the width, None skips the step.
            apply_zipf: Whether frequent tokens get shorter vectors. The vocabulary's order stands for frequency.
            sif_coefficient: The smaller, the shorter frequent tokens are; None takes the logarithm of the rank.
            token_remove_pattern: Regular expression; tokens that begin with a match are left out.
            quantize_to: ``float16``, ``float32``, ``float64`` or ``int8``.
            use_subword: Whether the tokenizer's own tokens are kept beside ``vocabulary``.
            **kwargs: ``pooling`` (``mean``, ``first`` or ``last`` of a token's states), and how the transformer is
                loaded: ``trust_remote_code``, ``token``, ``revision``, ``cache_folder``, ``local_files_only``,
                ``model_kwargs``, ``processor_kwargs``, ``config_kwargs``. Others are dropped with a warning.

        Raises:
            InputError: If an argument is unusable, or the tokenizer is not a fast one.
        """
        from fourfold.modules._distil import Recipe, distil

        loading = {key: kwargs.pop(key) for key in list(kwargs) if key in _LOADING}
        mode = kwargs.pop("pooling", "mean")
        if kwargs:
            logger.warning("from_distillation does not know %s; dropped", ", ".join(sorted(kwargs)))
        recipe = Recipe(
            vocabulary, use_subword, token_remove_pattern, mode, pca_dims, apply_zipf, sif_coefficient, quantize_to
        )
        tokenizer, vectors = distil(str(model_name), recipe, device=device, loading=loading)
        return cls(tokenizer, vectors, base_model=str(model_name))


def table(tensors: dict[str, Tensor], origin: str) -> Tensor:
    """Return ``[vocabulary, width]`` vectors from the tensors of a folder.

    ``embedding.weight`` is the table itself. model2vec's ``embeddings`` may come with ``mapping`` ``[vocabulary]``, the
    row of each token, and ``weights`` ``[vocabulary]``, its factor.
    """
    key = next((key for key in ("embedding.weight", "embeddings") if key in tensors), None)
    if key is None:
        got = ", ".join(sorted(tensors)) or "nothing"
        raise FolderError(f"{origin} must hold 'embedding.weight' or 'embeddings', got {got}")
    rows = tensors[key]
    if rows.ndim != 2:
        raise FolderError(f"{origin}: {key!r} must have two dimensions, got shape {tuple(rows.shape)}")
    if key == "embedding.weight":
        return rows
    if "mapping" in tensors:
        mapping = tensors["mapping"].long()
        if mapping.numel() and (int(mapping.min()) < 0 or int(mapping.max()) >= len(rows)):
            raise FolderError(
                f"{origin}: 'mapping' names rows {int(mapping.min())} to {int(mapping.max())} of {len(rows)}"
            )
        rows = rows[mapping]
    if "weights" in tensors:
        if tensors["weights"].shape != rows.shape[:1]:
            shape = tuple(tensors["weights"].shape)
            raise FolderError(
                f"{origin}: 'weights' must have one number for each of {len(rows)} tokens, got shape {shape}"
            )
        dtype = torch.promote_types(rows.dtype, torch.float32)
        rows = rows.to(dtype) * tensors["weights"].to(dtype)[:, None]
    return rows if rows.is_floating_point() else rows.float()
