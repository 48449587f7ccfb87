"""PEFT adapters on a model's transformers backbone: its own methods, reached through the encoder."""

from __future__ import annotations

from typing import Any

from torch import nn

from fourfold.errors import InputError, MissingMethodError
from fourfold.modules.transformer import Transformer


class Adapters(nn.Module):
    """The part of a model that loads, adds, switches and removes adapters.

    Each method is the backbone's of the same name and takes its arguments; see the documentation of
    ``transformers.integrations.PeftAdapterMixin``.
    """

    transformers_model: Any

    def has_peft_compatible_model(self) -> bool:
        """Whether there is a transformers backbone, which adapters can be put on."""
        from transformers.integrations import PeftAdapterMixin

        backbone = self.transformers_model
        return isinstance(backbone, PeftAdapterMixin) or hasattr(backbone, "peft_config")

    def check_peft_compatible_model(self) -> None:
        """Raise :class:`~fourfold.errors.InputError` unless there is a transformers backbone."""
        if not self.has_peft_compatible_model():
            raise InputError(
                f"adapters need a Transformer module with a transformers model; this {type(self).__name__} has none"
            )

    def load_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Load an adapter from a folder or the hub and make it the active one."""
        self._change_adapters("load_adapter", *args, **kwargs)

    def add_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Add a new adapter by its config and make it the active one."""
        self._change_adapters("add_adapter", *args, **kwargs)

    def set_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Make one of the adapters, or several together, the active ones."""
        self._change_adapters("set_adapter", *args, **kwargs)

    def disable_adapters(self) -> None:
        """Run without adapters; they stay loaded."""
        self._change_adapters("disable_adapters")

    def enable_adapters(self) -> None:
        """Run with the active adapters again."""
        self._change_adapters("enable_adapters")

    def delete_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Remove adapters."""
        self._change_adapters("delete_adapter", *args, **kwargs)

    def active_adapters(self) -> list[str]:
        """Return the names of the active adapters."""
        return self._adapter_method("active_adapters")()

    def active_adapter(self) -> str:
        """Return the name of the active adapter."""
        return self._adapter_method("active_adapter")()

    def get_adapter_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return an adapter's weights by name."""
        return self._adapter_method("get_adapter_state_dict")(*args, **kwargs)

    def _adapter_method(self, name: str) -> Any:
        self.check_peft_compatible_model()
        backbone = self.transformers_model
        if not hasattr(backbone, name):
            raise MissingMethodError(
                f"{type(backbone).__name__} has no method {name}; the installed transformers or peft may be another "
                "version than the one that has it"
            )
        return getattr(backbone, name)

    def _change_adapters(self, name: str, *args: Any, **kwargs: Any) -> None:
        self._adapter_method(name)(*args, **kwargs)
        backbone = self.transformers_model
        # New layers arrive in training mode, where their dropout would make encoding random.
        backbone.train(backbone.training)
        for module in self.modules():
            if isinstance(module, Transformer) and module.model is backbone:
                module.unpad_inputs = module.unpad_inputs  # decides anew whether texts run packed
