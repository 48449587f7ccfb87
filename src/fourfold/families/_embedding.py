"""What the families that embed single texts share: queries and documents, similarity, the width of their rows."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from fourfold.families._model import BaseModel
from fourfold.modules._base import width_methods
from fourfold.modules.pooling import Pooling
from fourfold.notices import renamed_keywords
from fourfold.ops import similarity
from fourfold.ops.similarity import SimilarityFunction, Vectors, similarity_name
from fourfold.text import prompts as prompting


class EmbeddingModel(BaseModel):
    """An encoder of which each input becomes something that a similarity compares.

    Attributes:
        SUPPORTED_SIMILARITY_FN_NAMES: Names of the similarities that :attr:`similarity_fn_name` may have.
    """

    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = ("cosine", "dot", "euclidean", "manhattan")
    _default_prompts: ClassVar[Mapping[str, str | None]] = {"query": None, "document": None}
    _default_similarity: ClassVar[str]
    _similarity: str | None

    def _parse_model_config(self, model_config: dict[str, Any]) -> None:
        super()._parse_model_config(model_config)
        if self._similarity is None and model_config.get("similarity_fn_name") in self.SUPPORTED_SIMILARITY_FN_NAMES:
            self._similarity = model_config["similarity_fn_name"]

    # -- comparing ---------------------------------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """Name of the similarity; the family's usual one unless set."""
        if self._similarity is None:
            self._similarity = self._default_similarity
        return self._similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        self._similarity = None if value is None else similarity_name(value)

    def similarity(self, embeddings1: Vectors, embeddings2: Vectors) -> Tensor:
        """Return the similarity of every row to every other, ``[rows of the first, rows of the second]``."""
        first, second = similarity.as_tensor(embeddings1), similarity.as_tensor(embeddings2)
        return similarity.compare(self.similarity_fn_name, first, second)

    def similarity_pairwise(self, embeddings1: Vectors, embeddings2: Vectors) -> Tensor:
        """Return the similarity of each row to the same one of the other, ``[rows]``."""
        first, second = similarity.as_tensor(embeddings1), similarity.as_tensor(embeddings2)
        return similarity.compare(self.similarity_fn_name, first, second, pairwise=True)

    # -- dimensions --------------------------------------------------------------------------------------------------

    def get_embedding_dimension(self) -> int | None:
        """Return the width of the rows; None if no module tells."""
        answers = (tell() for tell in width_methods(reversed(list(self))))
        return next((answer for answer in answers if answer is not None), None)

    def get_sentence_embedding_dimension(self) -> int | None:
        """Do what :meth:`get_embedding_dimension` does, under its older name."""
        message = "get_sentence_embedding_dimension is deprecated; use get_embedding_dimension"
        warnings.warn(message, FutureWarning, stacklevel=2)
        return self.get_embedding_dimension()

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Say whether the first Pooling module counts the prompt's tokens."""
        for module in self:
            if isinstance(module, Pooling):
                module.include_prompt = include_prompt
                return


def encoding_as(task: str, names: tuple[str, ...], encode: Any) -> Callable[..., Any]:
    """Return the method that encodes inputs of one kind, with the signature of ``encode``.

    Args:
        task: What the inputs are: ``"query"`` or ``"document"``.
        names: Prompts to put before them: the first one that the model has, unless the caller names one.
        encode: The family's ``encode``.
    """
    signature = inspect.signature(encode)
    positional = list(signature.parameters)[2:-1]

    @renamed_keywords(sentences="inputs")
    def method(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) > len(positional):
            raise TypeError(f"encode_{task} takes at most {len(positional) + 1} positional arguments")
        given = {**dict(zip(positional, args, strict=False)), **kwargs}
        if given.get("prompt") is None and given.get("prompt_name") is None:
            given["prompt_name"] = prompting.name_for(self.prompts, names)
        # Subclasses override encode and find every argument by its name.
        return self.encode(inputs=inputs, task=task, **given)

    method.__name__ = f"encode_{task}"
    method.__qualname__ = f"{encode.__qualname__.rpartition('.')[0]}.{method.__name__}"
    method.__module__ = encode.__module__
    method.__doc__ = (
        f"""Encode {task} texts: :meth:`encode`, whose arguments it takes, with their prompt and their task."""
    )
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method
