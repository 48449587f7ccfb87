"""Scale vectors to unit length."""

from __future__ import annotations

from typing import Any, ClassVar

from torch.nn import functional

from fourfold.modules._base import Features, Module, needed
from fourfold.store.source import Source


class Normalize(Module):
    """Divide each vector by its Euclidean length; a zero vector stays zero.

    Args:
        module_input_name: Feature to read; nothing happens where it is absent.
        module_output_name: Feature to write; the input's own name by default.
    """

    config_keys: ClassVar[list[str]] = ["module_input_name", "module_output_name"]
    packed = True

    def __init__(self, module_input_name: str = "sentence_embedding", module_output_name: str | None = None) -> None:
        super().__init__()
        self.module_input_name = module_input_name
        self.module_output_name = module_output_name or module_input_name

    @classmethod
    def example(cls) -> Normalize:
        """Return a tiny instance for tests."""
        return cls()

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Normalise ``module_input_name`` ``[..., width]`` along its last axis, in float32 for half precision."""
        if self.module_input_name in features:
            vectors = needed(features, self.module_input_name, self)
            features[self.module_output_name] = (
                functional.normalize(vectors.float(), dim=-1).to(vectors.dtype)
                if (vectors.element_size() < 4)
                else functional.normalize(vectors, dim=-1)
            )
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings."""
        self.save_config(output_path)

    @classmethod
    def load(cls, model_name_or_path: str | None = None, *args: Any, **kwargs: Any) -> Module:
        """Build the module from its folder; without a path, with its defaults."""
        return cls() if model_name_or_path is None else super().load(model_name_or_path, *args, **kwargs)

    @classmethod
    def read_config(cls, source: Source) -> dict[str, Any]:
        """Return the settings; the file may be absent, and unknown keys are dropped, as folders of many ages need."""
        return {key: value for key, value in super().read_config(source).items() if key in cls.config_keys}
