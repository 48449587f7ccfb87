"""CLIP models of older folders, which had a module class of their own."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from fourfold.modules import _modalities
from fourfold.modules.transformer import Transformer
from fourfold.store.source import Source

_METHODS = {"text": "get_text_features", "image": "get_image_features"}


class CLIPModel(Transformer):
    """A :class:`~fourfold.modules.transformer.Transformer` for CLIP under its older name; use ``Transformer``.

    Args:
        model_name_or_path: Folder or hub name of a CLIP checkpoint.
        processor_name: Deprecated; folder or hub name of another processor.
        **kwargs: As for ``Transformer``.
    """

    __signature__ = inspect.signature(Transformer)
    instead: ClassVar[str | None] = "Transformer"

    def __init__(
        self,
        model_name_or_path: str = "openai/clip-vit-base-patch32",
        *,
        processor_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if processor_name is not None:
            kwargs.setdefault("tokenizer_name_or_path", processor_name)
        super().__init__(model_name_or_path, **kwargs)

    @classmethod
    def older_modalities(cls, source: Source, task: str) -> tuple[_modalities.ModalityConfig, str]:
        """Return the modality config and output of a folder that states none: texts and images in one space."""
        from transformers import CLIPModel as Model

        return _modalities.by_methods(Model, _METHODS, "pooler_output"), "sentence_embedding"
