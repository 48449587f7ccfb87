"""Masked language models of older folders, which had a module class of their own."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from fourfold.modules.transformer import Transformer


class MLMTransformer(Transformer):
    """A :class:`~fourfold.modules.transformer.Transformer` for ``fill-mask`` under its older name; use ``Transformer``.

    Args:
        *args: As for ``Transformer``.
        **kwargs: As for ``Transformer``; ``transformer_task`` is ``fill-mask`` unless given.
    """

    __signature__ = inspect.signature(Transformer)
    instead: ClassVar[str | None] = "Transformer(transformer_task='fill-mask')"
    default_task: ClassVar[str] = "fill-mask"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"transformer_task": self.default_task, **kwargs})
