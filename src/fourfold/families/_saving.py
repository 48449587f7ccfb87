"""Write a model's folder, and its card beside it."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from fourfold.families._parts import with_routes
from fourfold.modules._loading import save_code, save_part
from fourfold.store import manifest
from fourfold.store.files import atomic_folder, write_json
from fourfold.store.layouts import type_string
from fourfold.store.manifest import ModelConfig, ModuleEntry

logger = logging.getLogger(__name__)


class Saving(nn.Module):
    """The part of a model that writes its folder."""

    model_type: ClassVar[str]
    prompts: dict[str, str]
    default_prompt_name: str | None
    module_kwargs: dict[str, list[str]] | None

    def save(
        self,
        path: str | os.PathLike[str] | None,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the model's folder. It appears whole or not at all; in an existing folder each file is replaced whole.

        Files of an earlier save that this model does not write stay where they are.

        Args:
            path: The folder; None does nothing.
            model_name: Name for the model card.
            create_model_card: Whether to write ``README.md``.
            train_datasets: Names of data sets for the model card.
            safe_serialization: Whether weights are safetensors rather than pickles; a transformers checkpoint always
                is.
        """
        if path is None:
            return
        logger.info("saving the model to %s", path)
        with atomic_folder(Path(path)) as folder:
            entries = [self._save_module(i, name, folder, safe_serialization) for i, name in enumerate(self._modules)]
            write_json(folder / manifest.CONFIG_FILE, self._get_model_config(), indent=2, sort_keys=True)
            write_json(folder / manifest.MODULES_FILE, manifest.modules_json(entries), indent=2)
            if create_model_card:
                self._create_model_card(str(folder), model_name, train_datasets)

    def save_pretrained(
        self,
        path: str | os.PathLike[str] | None,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Do what :meth:`save` does."""
        self.save(path, model_name, create_model_card, train_datasets, safe_serialization)

    def _save_module(self, position: int, name: str, folder: Path, safe: bool) -> ModuleEntry:
        module: Any = self._modules[name]
        in_root = position == 0 and getattr(module, "save_in_root", False)
        inside = "" if in_root else f"{position}_{type(module).__name__}"
        save_part(module, folder / inside, safe_serialization=safe)
        # Loaders look for code in the root; the contract also puts a copy beside the module's own files.
        save_code(module, folder / inside)
        for part in with_routes(module):
            save_code(part, folder)
        return ModuleEntry(name, inside, type_string(type(module)), tuple((self.module_kwargs or {}).get(name, ())))

    def _get_model_config(self) -> dict[str, Any]:
        """Return what ``config_sentence_transformers.json`` holds; families add their keys."""
        return ModelConfig(self.model_type, self.prompts, self.default_prompt_name).json()

    @abstractmethod
    def _create_model_card(
        self, path: str, model_name: str | None = None, train_datasets: list[str] | None = None
    ) -> None:
        """Write ``README.md`` into a folder."""
