"""A linear layer with an activation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from fourfold.errors import InputError
from fourfold.modules import _activation
from fourfold.modules._base import Features, WeightedModule, needed
from fourfold.store.source import Source
from fourfold.store.weights import load_into

logger = logging.getLogger(__name__)


class Dense(WeightedModule):
    """Compute ``activation(W x + b)``, plus ``x`` or its projection with ``use_residual``.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        bias: Whether there is a ``b``.
        activation_function: A module or function; None is the identity. Only its class is saved.
        init_weight: ``[out_features, in_features]``, first value of ``W``.
        init_bias: ``[out_features]``, first value of ``b``.
        module_input_name: Feature to read.
        module_output_name: Feature to write; the input's own name by default.
        use_residual: Add the input; where the widths differ, through a projection without bias.
    """

    config_keys: ClassVar[list[str]] = [
        "in_features", "out_features", "bias", "activation_function", "module_input_name", "module_output_name",
    ]  # fmt: skip
    packed = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation_function: Callable[[Tensor], Tensor] | None = nn.Tanh(),  # noqa: B008 - stateless, and the contract's default
        init_weight: Tensor | None = None,
        init_bias: Tensor | None = None,
        module_input_name: str = "sentence_embedding",
        module_output_name: str | None = None,
        use_residual: bool = False,
    ) -> None:
        super().__init__()
        for name, width in (("in_features", in_features), ("out_features", out_features)):
            if not isinstance(width, int) or width < 1:
                raise InputError(f"{name} must be a positive number of features, got {width!r}")
        self.in_features = in_features
        self.out_features = out_features
        self.bias = bias
        self.activation_function = activation_function or nn.Identity()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.use_residual = use_residual
        self.residual = (
            nn.Linear(in_features, out_features, bias=False) if use_residual and in_features != out_features else None
        )
        self.module_input_name = module_input_name
        self.module_output_name = module_output_name or module_input_name
        if init_weight is not None:
            self.linear.weight = nn.Parameter(init_weight)
        if init_bias is not None:
            self.linear.bias = nn.Parameter(init_bias)

    @classmethod
    def example(cls) -> Dense:
        """Return a tiny instance for tests."""
        return cls(8, 4)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Map ``module_input_name`` ``[..., in_features]`` to ``module_output_name`` ``[..., out_features]``."""
        vectors = needed(features, self.module_input_name, self, self.in_features)
        mapped = self.activation_function(self.linear(vectors))
        if self.use_residual:
            mapped = mapped + (vectors if self.residual is None else self.residual(vectors))
        features[self.module_output_name] = mapped
        return features

    def get_embedding_dimension(self) -> int:
        """Return the width of the output."""
        return self.out_features

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that are saved; the activation by the path of its class."""
        config = {**super().get_config_dict(), "activation_function": _activation.path_of(self.activation_function)}
        return {**config, "use_residual": True} if self.use_residual else config

    @classmethod
    def from_source(
        cls,
        source: Source,
        init_defaults: dict[str, Any] | None = None,
        *,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> Dense:
        """Build the module from its folder; an activation outside torch needs ``trust_remote_code``."""
        config = {**(init_defaults or {}), **cls.read_config(source)}
        origin = source.pretty(cls.config_file_name)
        for key in [key for key in config if key not in (*cls.config_keys, "use_residual")]:
            logger.warning("%s: unknown key %r for Dense is ignored", origin, key)
            del config[key]
        if (path := config.get("activation_function")) is not None:
            config["activation_function"] = _activation.from_path(path, origin, trust_remote_code, nn.Tanh())
        module = cls._build(config, source)
        load_into(module, source)
        return module
