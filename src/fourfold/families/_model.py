"""What the public classes of all families share: a torch ``Sequential`` of modules that is loaded and asked."""

from __future__ import annotations

import inspect
import itertools
import logging
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any, ClassVar, TypedDict, TypeVar

import torch
from torch import nn

from fourfold import __version__
from fourfold.errors import InputError
from fourfold.families._adapters import Adapters
from fourfold.families._inputs import Inputs
from fourfold.families._loading import LoadOptions, as_modules, hub_arguments, load_modules, module_class
from fourfold.families._merging import Merging
from fourfold.families._names import Shown
from fourfold.families._parts import Parts
from fourfold.families._placement import Placement, best_device
from fourfold.families._running import Processes
from fourfold.families._sharing import Sharing
from fourfold.modules._base import Features
from fourfold.modules.router import Router
from fourfold.modules.transformer import check_backend
from fourfold.notices import warn_once
from fourfold.store import card, manifest
from fourfold.store.manifest import ModelConfig
from fourfold.store.source import Source, locate
from fourfold.text import prompts as prompting

logger = logging.getLogger(__name__)

_Init = TypeVar("_Init", bound=Callable[..., None])

Loaded = tuple["list[nn.Module] | OrderedDict[str, nn.Module]", "dict[str, list[str]]"]
"""Modules, and the names of ``encode`` keywords that each takes besides its own."""


class ModelOptions(TypedDict, total=False):
    """Constructor arguments of every family, beside ``model_name_or_path``, ``modules`` and ``device``.

    Attributes:
        prompts: Prompts by name. They win over those saved with the model, also where they are blank.
        default_prompt_name: The prompt of calls that name none; None is the saved one.
        cache_folder: Folder for downloads; None is ``SENTENCE_TRANSFORMERS_HOME``, else the hub's default.
        trust_remote_code: Whether code outside this library, which a folder names, may run.
        revision: Branch, tag or commit of the hub.
        local_files_only: Never use the network.
        token: Hub token, True for the stored one.
        model_kwargs: For the ``from_pretrained`` of the transformers model, such as ``dtype``, ``attn_implementation``
            or ``device_map``.
        processor_kwargs: For that of its tokenizer or processor.
        config_kwargs: For that of its config.
        model_card_data: What the model card says; None is the family's default.
        backend: What runs the transformer: ``torch``, ``onnx`` or ``openvino``. For the last two ``model_kwargs`` say
            which exported file (``file_name``, ``subfolder``) and how it runs; without one the model is exported.
        dtype: ``"fastest"`` takes the data type that a short measurement shows to be fastest here, remembered for the
            machine; others are passed to the checkpoint's loader. None keeps the checkpoint's own.
    """

    prompts: dict[str, str] | None
    default_prompt_name: str | None
    cache_folder: str | None
    trust_remote_code: bool
    revision: str | None
    local_files_only: bool
    token: bool | str | None
    model_kwargs: dict[str, Any] | None
    processor_kwargs: dict[str, Any] | None
    config_kwargs: dict[str, Any] | None
    model_card_data: Any
    backend: str
    dtype: str | torch.dtype | None


def shows_model_options(init: _Init) -> _Init:
    """Put the names of :class:`ModelOptions` into a constructor's signature, in place of ``**kwargs``."""
    own, shared = inspect.signature(init), inspect.signature(BaseModel.__init__)
    named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [shared.parameters[name] for name in ModelOptions.__annotations__]
    init.__signature__ = own.replace(parameters=[*named, *options])  # type: ignore[attr-defined]
    return init


class BaseModel(Placement, Sharing, Adapters, Merging, Parts, Inputs, Processes, nn.Sequential, ABC, metaclass=Shown):
    """An encoder: modules in order, and the settings that belong to all of them.

    Subclasses declare their family by the class attributes and supply :meth:`_load_default_modules`.

    Attributes:
        prompts: Prompts by name. An assignment or a change takes effect at the next call.
        default_prompt_name: The prompt of calls that name none.
        trust_remote_code: Whether code outside this library was allowed to run.
        module_kwargs: Names of ``encode`` keywords that each module takes besides its own; None if the model was
            built from modules.
        model_card_data: What the model card says.
        backend: What runs the transformer.
        is_hpu_graph_enabled: Whether the model runs as a graph of an HPU; always False here.
    """

    model_type: ClassVar[str]
    default_huggingface_organization: ClassVar[str | None] = None
    _default_prompts: ClassVar[Mapping[str, str | None]] = {}
    _module_classes: Mapping[str, Any] = {}

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
        dtype: str | torch.dtype | None = None,
    ) -> None:
        if model_name_or_path is None and modules is None:
            raise InputError(f"{type(self).__name__} needs model_name_or_path or modules")
        if model_name_or_path is not None and modules is not None:
            logger.warning("both model_name_or_path and modules are given; modules are ignored")
        if dtype == "fastest" and backend != "torch":
            raise InputError(
                f"dtype='fastest' chooses among torch's data types, and backend={backend!r} has none; leave one out, "
                "or ask fourfold tune what is fastest"
            )
        if dtype is not None and dtype != "fastest":
            model_kwargs = {**(model_kwargs or {}), "dtype": dtype}
        self.prompts: dict[str, Any] = {**self._default_prompts, **(prompts or {})}
        self.default_prompt_name = default_prompt_name
        self.trust_remote_code = bool(trust_remote_code)
        self.backend = check_backend(backend)
        self.module_kwargs: dict[str, list[str]] | None = None
        self.is_hpu_graph_enabled = False
        self._model_card_text: str | None = None
        self._model_card_vars: dict[str, Any] = {}
        if model_card_data is None:
            model_card_data = self.model_card_data_class(local_files_only=local_files_only)
        self.model_card_data = model_card_data
        if model_name_or_path is not None and backend == "torch":
            self._device_map = (model_kwargs or {}).get("device_map")
        target = self._choose_device(device)
        if model_name_or_path is not None:
            name = locate(str(model_name_or_path), self.default_huggingface_organization)
            given = {
                "trust_remote_code": self.trust_remote_code,
                "model_kwargs": model_kwargs,
                "processor_kwargs": processor_kwargs,
                "config_kwargs": config_kwargs,
            }
            purpose = self._purpose(given)
            source = Source(name, revision, token, cache_folder, local_files_only).pinned(purpose)
            with source.explained():
                modules, self.module_kwargs = self._load_modules(source.name, **_hub_keywords(source), **given)
            source.settle(purpose)
        nn.Sequential.__init__(self, as_modules(modules))
        self._align_modules()
        if target is not None:
            self.to(target)
        if model_name_or_path is not None:
            self._notice_low_precision(model_kwargs or {})
        self._validate_prompts()
        self._tell_parts()
        if dtype == "fastest":
            from fourfold.backends.tuning import fastest_dtype

            self.to(fastest_dtype(self))
        self._post_init()

    def _tell_parts(self) -> None:
        """Tell the card and the modules that the model is built."""
        if hasattr(self.model_card_data, "register_model"):
            self.model_card_data.register_model(self)
        for module in self:
            if callable(ready := getattr(module, "on_model_ready", None)):
                ready(self)

    def _choose_device(self, device: str | torch.device | None) -> torch.device | None:
        """Return the device to move to, or None where accelerate places the model."""
        if self._device_map is not None:
            if device is not None:
                logger.warning("device=%s is ignored: model_kwargs['device_map'] places the model", device)
            return None
        if device is not None:
            return torch.device(device)
        best = best_device()
        logger.info("no device given, using %s", best)
        return best

    def _notice_low_precision(self, model_kwargs: Mapping[str, Any]) -> None:
        asked = model_kwargs.get("dtype", model_kwargs.get("torch_dtype"))
        low = self.dtype in (torch.float16, torch.bfloat16)
        if self.backend != "torch" or asked not in (None, "auto") or not low:
            return
        if all(tensor.device.type == "cpu" for tensor in itertools.chain(self.parameters(), self.buffers())):
            warn_once(
                logger,
                f"this model is {self.dtype}, as it was saved, and runs on the CPU, where torch.float32 may be much "
                'faster: compare with model_kwargs={"dtype": torch.float32}',
            )

    def _validate_prompts(self) -> None:
        """Blank the prompts that nobody set, and check that the default prompt is one of them."""
        self.prompts = prompting.blanked(self.prompts)
        prompting.check_default(self.prompts, self.default_prompt_name)
        if set_ := [name for name, text in self.prompts.items() if text]:
            logger.info("%d prompts: %s", len(set_), ", ".join(set_))
        if self.default_prompt_name is not None:
            warn_once(
                logger,
                f"the default prompt is {self.default_prompt_name!r}: it goes before every text unless a call says "
                "otherwise; prompt='' switches it off",
            )

    def _post_init(self) -> None:
        """Do what a subclass wants done last in the constructor."""

    # -- loading -----------------------------------------------------------------------------------------------------
    # The loading hooks take model_name_or_path, token, cache_folder, revision, trust_remote_code, local_files_only,
    # model_kwargs, processor_kwargs and config_kwargs: subclasses override them, and call each other's.

    def _load_modules(self, model_name_or_path: str, **hub: Any) -> Loaded:
        """Return the modules of a folder: those it lists, those it is converted to, or the family's default ones."""
        source, _ = hub_arguments(model_name_or_path, **hub)
        if source.file(manifest.MODULES_FILE) is None:
            logger.info("%s has no modules.json; building the default modules of %s", source.pretty(), self._name())
            return self._load_default_modules(model_name_or_path, **hub)
        saved = self._get_model_type(model_name_or_path, **_hub_keywords(source))
        if saved == self.model_type:
            return self._load_config_modules(model_name_or_path, **hub)
        logger.warning("converting a %s in %s to a %s", saved, source.pretty(), self.model_type)
        return self._load_converted_modules(model_name_or_path, **hub, model_type=saved)

    def _name(self) -> str:
        return type(self).__name__

    def _arguments(self, *args: Any, **kwargs: Any) -> tuple[Source, LoadOptions]:
        source, options = hub_arguments(*args, **kwargs)
        return source, replace(options, backend=self.backend, classes=self._module_classes)

    def _purpose(self, given: Mapping[str, Any]) -> str:
        """Return what tells apart loads that may need other files of a folder."""
        versions = (__version__, version("transformers"))
        return repr((versions, self.model_type, self._name(), self.backend, sorted(given.items())))

    def _get_model_type(
        self,
        model_name_or_path: str,
        token: bool | str | None,
        cache_folder: str | None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> str:
        """Return the family that a folder with ``modules.json`` was saved by."""
        return manifest.read_model_type(Source(model_name_or_path, revision, token, cache_folder, local_files_only))

    def _load_config_modules(self, model_name_or_path: str, *args: Any, **kwargs: Any) -> Loaded:
        """Return the modules that a folder lists, and take its settings and card."""
        source, options = self._arguments(model_name_or_path, *args, **kwargs)
        entries = manifest.read_modules(source) or []
        self._parse_model_config(ModelConfig.read(source).raw)
        self._model_card_text = card.read(source)
        self._code_folders = {entry.type: entry.path for entry in entries}

        def class_of(type_string: str) -> Any:
            return self._load_module_class_from_ref(
                type_string,
                model_name_or_path,
                options.trust_remote_code,
                source.revision,
                options.model_kwargs,
                token=source.token,
                cache_folder=source.cache_folder,
                local_files_only=source.offline,
            )

        return load_modules(entries, source, options, class_of=class_of, init_defaults=self._get_module_init_defaults)

    def _load_converted_modules(
        self, model_name_or_path: str, *args: Any, model_type: str | None = None, **kwargs: Any
    ) -> Loaded:
        """Return what the folder of another family becomes: by default the default modules on its backbone."""
        return self._load_default_modules(model_name_or_path, *args, **kwargs)

    @abstractmethod
    def _load_default_modules(self, model_name_or_path: str, *args: Any, **kwargs: Any) -> Loaded:
        """Return the modules that a plain transformers checkpoint becomes."""

    def _load_module_class_from_ref(
        self,
        class_ref: str,
        model_name_or_path: str,
        trust_remote_code: bool,
        revision: str | None,
        model_kwargs: dict[str, Any] | None,
        token: bool | str | None = None,
        cache_folder: str | None = None,
        local_files_only: bool = False,
    ) -> Any:
        """Return the class that a type string of ``modules.json`` names."""
        source, options = self._arguments(
            model_name_or_path, token, cache_folder, revision, trust_remote_code, local_files_only, model_kwargs
        )
        return module_class(class_ref, source, options, self._code_folders.get(class_ref, ""))

    def _get_module_init_defaults(self, class_ref: str) -> dict[str, Any]:
        """Return constructor arguments for the keys that a module's folder does not state."""
        return {}

    def _parse_model_config(self, model_config: dict[str, Any]) -> None:
        """Take the settings of ``config_sentence_transformers.json`` that the caller did not give."""
        self.prompts = prompting.filled(self.prompts, model_config.get("prompts") or {})
        if self.default_prompt_name is None:
            self.default_prompt_name = model_config.get("default_prompt_name")

    # -- running -----------------------------------------------------------------------------------------------------

    def forward(self, input: Features, **kwargs: Any) -> Features:  # noqa: A002 - the contract's name
        """Run the modules in order on one dictionary of features.

        Args:
            input: Features, as :meth:`preprocess` makes them.
            **kwargs: Each reaches the modules that name it in ``forward_kwargs`` or in ``modules.json``; a ``Router``
                gets all, and hands them on likewise.
        """
        features = input
        for name, module in self.named_children():
            features = module(features, **self._forward_kwargs(name, module, kwargs))
        return features

    def _forward_kwargs(self, name: str, module: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if not kwargs or isinstance(module, Router):
            return kwargs
        names = {*getattr(module, "forward_kwargs", ()), *(self.module_kwargs or {}).get(name, ())}
        return {key: value for key, value in kwargs.items() if key in names}

    def evaluate(self, evaluator: Callable[..., Any], output_path: str | None = None) -> Any:
        """Return what an evaluator says about the model.

        Args:
            evaluator: Called with the model and ``output_path``.
            output_path: Folder for its files, made if absent; None writes none.
        """
        if output_path is not None:
            os.makedirs(output_path, exist_ok=True)  # noqa: PTH103 - the evaluator gets the string it was given
        return evaluator(self, output_path)

    def __getitem__(self, idx: Any) -> Any:
        """Return a module by position; negative positions count from the end."""
        if isinstance(idx, slice):
            name = self._name()
            raise TypeError(f"a {name} cannot be sliced; {name}(modules=list(model)[:2]) builds a new one")
        return super().__getitem__(idx)


def _hub_keywords(source: Source) -> dict[str, Any]:
    return {
        "token": source.token,
        "cache_folder": source.cache_folder,
        "revision": source.revision,
        "local_files_only": source.offline,
    }
