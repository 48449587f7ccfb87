"""What the public classes of all families share: a torch ``Sequential`` of modules that is loaded, saved and moved."""

from __future__ import annotations

import itertools
import logging
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from fourfold.errors import InputError
from fourfold.families._loading import LoadOptions, as_modules, load_modules
from fourfold.families._names import Shown
from fourfold.modules._base import Features
from fourfold.notices import warn_once
from fourfold.store import card, manifest
from fourfold.store.files import atomic_folder, write_json
from fourfold.store.layouts import is_remote, type_string
from fourfold.store.manifest import ModelConfig, ModuleEntry
from fourfold.store.source import Source, locate
from fourfold.text import prompts as prompting

logger = logging.getLogger(__name__)


class BaseModel(nn.Sequential, ABC, metaclass=Shown):
    """An encoder: modules in order, and the settings that belong to all of them.

    Subclasses declare their family by the class attributes and supply :meth:`_default_modules`.
    """

    model_type: ClassVar[str]
    default_huggingface_organization: ClassVar[str | None] = None
    _default_prompts: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        modules: Any = None,
        device: str | torch.device | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
        tokenizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if tokenizer_kwargs is not None:
            warn_once(logger, "tokenizer_kwargs is deprecated; use processor_kwargs")
            processor_kwargs = tokenizer_kwargs if processor_kwargs is None else processor_kwargs
        options = LoadOptions(
            bool(trust_remote_code),
            dict(model_kwargs or {}),
            dict(processor_kwargs or {}),
            dict(config_kwargs or {}),
            backend,
        )
        if model_name_or_path is None and modules is None:
            raise InputError(f"{type(self).__name__} needs model_name_or_path or modules")
        if model_name_or_path is not None and modules is not None:
            logger.warning("both model_name_or_path and modules are given; modules are ignored")
        saved = ModelConfig()
        self.module_kwargs: dict[str, list[str]] | None = None
        self._model_card_text: str | None = None
        if model_name_or_path is None:
            named = as_modules(modules)
        else:
            name = locate(str(model_name_or_path), self.default_huggingface_organization)
            source = Source(name, revision, token, cache_folder, local_files_only).pinned()
            named, saved = self._load(source, options)
        nn.Sequential.__init__(self, named)
        self.prompts = prompting.merge(prompts, saved.prompts, self._default_prompts)
        self.default_prompt_name = default_prompt_name if default_prompt_name is not None else saved.default_prompt_name
        prompting.check_default(self.prompts, self.default_prompt_name)
        self.trust_remote_code = options.trust_remote_code
        self.model_card_data = model_card_data
        self.backend = backend
        self._apply_saved(saved)
        self._place(device, placed="device_map" in options.model_kwargs)
        ready: Any
        for ready in self:
            if hasattr(ready, "on_model_ready"):
                ready.on_model_ready(self)

    # -- loading -----------------------------------------------------------------------------------------------------

    def _load(self, source: Source, options: LoadOptions) -> tuple[OrderedDict[str, nn.Module], ModelConfig]:
        entries = manifest.read_modules(source)
        if entries is None:
            logger.info(
                "%s has no modules.json; building the default modules of %s", source.pretty(), type(self).__name__
            )
            self.module_kwargs = {}
            return as_modules(self._default_modules(source, options)), ModelConfig()
        config = ModelConfig.read(source)
        if config.model_type != self.model_type:
            logger.warning("converting a %s in %s to a %s", config.model_type, source.pretty(), self.model_type)
            self.module_kwargs = {}
            return as_modules(self._default_modules(source, options)), ModelConfig()
        self._model_card_text = card.read(source)
        modules, self.module_kwargs = load_modules(entries, source, options)
        return modules, config

    @abstractmethod
    def _default_modules(self, source: Source, options: LoadOptions) -> list[nn.Module]:
        """Return the modules that a plain transformers checkpoint becomes."""

    def _apply_saved(self, saved: ModelConfig) -> None:
        """Take the family's own settings from a folder where the caller gave none."""

    def _place(self, device: str | torch.device | None, *, placed: bool) -> None:
        backbone = next(self[0].parameters(), None)
        if backbone is not None:
            for module in list(self)[1:]:
                module.to(backbone.dtype)
        if not placed:
            self.to(torch.device(device) if device is not None else best_device())

    # -- the modules -------------------------------------------------------------------------------------------------

    def forward(self, input: Features, **kwargs: Any) -> Features:  # noqa: A002 - the contract's name
        """Run the modules in order on one dictionary of features.

        Args:
            input: Features, as :meth:`preprocess` makes them.
            **kwargs: Each reaches the modules that name it in ``forward_kwargs`` or in ``modules.json``.
        """
        features = input
        for name, module in self.named_children():
            names = set(getattr(module, "forward_kwargs", ())) | set((self.module_kwargs or {}).get(name, ()))
            features = module(features, **{key: value for key, value in kwargs.items() if key in names})
        return features

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn a list of inputs into features, by the first module; an empty list gives an empty dictionary."""
        if not inputs:
            return {}
        first = self._first_module()
        if not hasattr(first, "preprocess"):
            return first.tokenize(prompting.prepend(prompt, inputs))
        try:
            return first.preprocess(inputs, prompt=prompt, **kwargs)
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
            return first.preprocess(prompting.prepend(prompt, inputs))

    def tokenize(self, texts: list[Any], **kwargs: Any) -> Features:
        """Do what :meth:`preprocess` does, under its older name."""
        warn_once(logger, f"{type(self).__name__}.tokenize is deprecated; use preprocess")
        return self.preprocess(texts, **kwargs)

    def _first_module(self) -> Any:
        return self[0]

    def _last_module(self) -> Any:
        return self[len(self) - 1]

    def get_model_kwargs(self) -> list[str]:
        """Return the names of keyword arguments that some module's ``forward`` takes from ``encode``."""
        names = {name for module in self for name in getattr(module, "forward_kwargs", ())}
        return sorted(names.union(*(self.module_kwargs or {}).values()))

    @property
    def tokenizer(self) -> Any:
        """The first module's tokenizer."""
        return self._first_module().tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        self._first_module().tokenizer = value

    @property
    def processor(self) -> Any:
        """The first module's processor."""
        return self._first_module().processor

    @property
    def max_seq_length(self) -> Any:
        """Longest input in tokens, special tokens included; longer ones are cut. None if nothing limits it."""
        return getattr(self._first_module(), "max_seq_length", None)

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self._first_module().max_seq_length = value

    def get_max_seq_length(self) -> Any:
        """Return :attr:`max_seq_length`."""
        return self.max_seq_length

    @property
    def transformers_model(self) -> Any:
        """The transformers model inside, or None."""
        from transformers import PreTrainedModel

        return next((module for module in self.modules() if isinstance(module, PreTrainedModel)), None)

    @property
    def config(self) -> Any:
        """The transformers config, or None."""
        return getattr(self.transformers_model, "config", None)

    @property
    def modalities(self) -> list[str]:
        """Kinds of input that the model takes."""
        return getattr(self._first_module(), "modalities", ["text"])

    def supports(self, modality: str) -> bool:
        """Whether the model takes a kind of input."""
        return modality in self.modalities

    def get_backend(self) -> str:
        """Return the name of the backend."""
        return self.backend

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter is."""
        first = next(itertools.chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def dtype(self) -> torch.dtype | None:
        """Data type of the model's first parameter; None without parameters."""
        first = next(self.parameters(), None)
        return None if first is None else first.dtype

    # -- saving ------------------------------------------------------------------------------------------------------

    def save(
        self,
        path: str | os.PathLike[str] | None,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the model's folder. It appears whole or not at all; in an existing folder each file is replaced whole.

        Args:
            path: The folder; None does nothing.
            model_name: Name for the model card.
            create_model_card: Whether to write ``README.md``.
            train_datasets: Names of data sets for the model card.
            safe_serialization: Whether weights are safetensors rather than pickles.
        """
        if path is None:
            return
        with atomic_folder(Path(path)) as folder:
            entries = [self._save_module(i, name, folder, safe_serialization) for i, name in enumerate(self._modules)]
            config = self._config()
            write_json(folder / manifest.CONFIG_FILE, config, indent=2, sort_keys=True)
            write_json(folder / manifest.MODULES_FILE, manifest.modules_json(entries), indent=2)
            if create_model_card:
                text = self._model_card_text or card.generate(self._card_facts(model_name, train_datasets))
                (folder / card.FILE).write_text(text, encoding="utf-8")

    def save_pretrained(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Do what :meth:`save` does."""
        self.save(path, *args, **kwargs)

    def _save_module(self, position: int, name: str, folder: Path, safe: bool) -> ModuleEntry:
        module: Any = self._modules[name]
        in_root = position == 0 and getattr(module, "save_in_root", False)
        inside = "" if in_root else f"{position}_{type(module).__name__}"
        target = folder / inside
        target.mkdir(exist_ok=True)
        try:
            module.save(str(target), safe_serialization=safe)
        except TypeError as error:
            if "safe_serialization" not in str(error):
                raise
            module.save(str(target))
        if is_remote(type(module)):
            from transformers.dynamic_module_utils import custom_object_save

            # Loaders look for code in the root; the contract also puts a copy beside the module's own files.
            for place in dict.fromkeys((folder, target)):
                custom_object_save(module, place)
        return ModuleEntry(name, inside, type_string(type(module)), tuple((self.module_kwargs or {}).get(name, ())))

    def _config(self) -> dict[str, Any]:
        return ModelConfig(self.model_type, self.prompts, self.default_prompt_name, extra=self._own_config()).json()

    def _own_config(self) -> dict[str, Any]:
        """Return the family's own keys of ``config_sentence_transformers.json``."""
        return {}

    @abstractmethod
    def _card_facts(self, model_name: str | None, train_datasets: list[str] | None) -> card.Facts:
        """Return what the model card says."""


def best_device() -> torch.device:
    """Return the device that a model goes to when none is asked for: cuda, mps, npu, xpu, hpu or cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda", _cuda_index())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    for name in ("npu", "xpu", "hpu"):
        library = getattr(torch, name, None)
        if library is not None and library.is_available():
            return torch.device(name)
    return torch.device("cpu")


def _cuda_index() -> int:
    rank = os.environ.get("LOCAL_RANK")
    if rank is None and torch.distributed.is_available() and torch.distributed.is_initialized():
        rank = str(torch.distributed.get_rank())
    index = int(rank) if rank and rank.isdigit() else 0
    return index if index < torch.cuda.device_count() else 0
