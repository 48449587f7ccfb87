"""The contract of a model part: a torch module from features to features, saved as JSON and safetensors."""

from __future__ import annotations

import inspect
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from fourfold.containers import Tokens
from fourfold.errors import (
    FirstModuleError,
    MissingFeatureError,
    ShapeError,
)
from fourfold.modules._settings import construct
from fourfold.notices import warn_once
from fourfold.ops.splade import whole
from fourfold.store.files import write_json
from fourfold.store.source import Source
from fourfold.store.weights import load_into, read_tensors, save_module
from fourfold.text.prompts import prepend
from fourfold.text.tokenizer import FastTokenizer

logger = logging.getLogger(__name__)

Features = dict[str, Any]
"""What every module takes and returns: ``input_ids``, ``token_embeddings``, ``sentence_embedding``, ... by name."""

_RENAMED_METHODS = dict.fromkeys(
    ("get_sentence_embedding_dimension", "get_word_embedding_dimension"), "get_embedding_dimension"
)


class Module(nn.Module, ABC):
    """A model part.

    A subclass names its settings in ``config_keys``; each is an attribute, a key of the saved JSON, and an argument of
    the constructor.

    Attributes:
        config_file_name: Name of the JSON file.
        config_keys: Settings that are saved, in this order.
        config_key_renames: Older key to today's, applied when the newer one is absent.
        save_in_root: Whether the module's files lie in the model's own folder when it is the first module.
        forward_kwargs: Names of keyword arguments of ``encode`` that ``forward`` takes.
        packed: Whether ``forward`` takes packed features (``cu_seq_lens_q`` instead of a padded ``attention_mask``).
    """

    config_file_name: ClassVar[str] = "config.json"
    config_keys: ClassVar[list[str]] = []
    config_key_renames: ClassVar[dict[str, str]] = {}
    save_in_root: ClassVar[bool] = False
    forward_kwargs: ClassVar[set[str]] = set()
    packed: bool = False

    @abstractmethod
    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Read some features, write others, return the dictionary."""

    @abstractmethod
    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the module's files into ``output_path``."""

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that are saved."""
        return {key: getattr(self, key) for key in self.config_keys}

    def save_config(self, output_path: str, filename: str | None = None) -> None:
        """Write the settings as JSON."""
        write_json(Path(output_path, filename or self.config_file_name), self.get_config_dict())

    def save_torch_weights(self, output_path: str, safe_serialization: bool = True) -> None:
        """Write the weights as ``model.safetensors``, or as ``pytorch_model.bin``."""
        save_module(self, Path(output_path), safe_serialization=safe_serialization)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Build the module from its folder.

        Args:
            model_name_or_path: The model's folder or hub name.
            subfolder: The module's folder inside it.
            token: Hub token.
            cache_folder: Folder for downloads.
            revision: Branch, tag or commit.
            local_files_only: Never use the network.
            init_defaults: Constructor arguments used where the folder's JSON has no such key.
            **kwargs: Further loading options of the model, for modules whose :meth:`from_source` names them.
        """
        source = Source(model_name_or_path, revision, token, cache_folder, local_files_only).at(subfolder)
        return cls.from_source(source, init_defaults, **kwargs)

    @classmethod
    def from_source(cls, source: Source, init_defaults: dict[str, Any] | None = None, **options: Any) -> Module:
        """Build the module from its own folder: settings only; parts with weights load those too."""
        return cls._build({**(init_defaults or {}), **cls.read_config(source)}, source)

    @classmethod
    def _build(cls, config: dict[str, Any], source: Source) -> Any:
        """Call the constructor, turning what does not fit it into an error that names the file and the key."""
        return construct(cls, config, source.pretty(cls.config_file_name))

    @classmethod
    def read_config(cls, source: Source) -> dict[str, Any]:
        """Return the settings of a module's folder under today's names; an absent file gives an empty dictionary."""
        return cls._under_todays_names(source.object(cls.config_file_name))

    @classmethod
    def _under_todays_names(cls, config: dict[str, Any]) -> dict[str, Any]:
        for old, new in cls.config_key_renames.items():
            if old in config:
                value = config.pop(old)
                config.setdefault(new, value)
        return config

    @classmethod
    def load_config(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        config_filename: str | None = None,
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> dict[str, Any]:
        """Return the settings as a dictionary, under today's names; an absent file gives an empty one."""
        source = Source(model_name_or_path, revision, token, cache_folder, local_files_only).at(subfolder)
        if config_filename is None:
            return cls.read_config(source)
        return cls._under_todays_names(source.object(config_filename))

    @staticmethod
    def load_file_path(
        model_name_or_path: str,
        filename: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> str | None:
        """Return a local path of one of the model's files, or None if it has no such file."""
        source = Source(model_name_or_path, revision, token, cache_folder, local_files_only).at(subfolder)
        found = source.file(filename)
        return None if found is None else str(found)

    @staticmethod
    def load_dir_path(
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> str | None:
        """Return a local path of one of the model's folders with all its files, or None if it has no such folder."""
        found = Source(model_name_or_path, revision, token, cache_folder, local_files_only).at(subfolder).folder()
        return None if found is None else str(found)

    @classmethod
    def load_torch_weights(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        model: nn.Module | None = None,
    ) -> Any:
        """Load a folder's weights into ``model`` and return it; without ``model`` return the tensors by name.

        Raises:
            MissingFileError: If the folder holds no weights.
            WeightsError: If they do not fit ``model``.
        """
        source = Source(model_name_or_path, revision, token, cache_folder, local_files_only).at(subfolder)
        if model is None:
            return read_tensors(source)
        load_into(model, source)
        return model

    def packs(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether ``forward`` takes packed features when ``encode`` got these keyword arguments."""
        return self.packed

    def on_model_ready(self, model: nn.Module) -> None:
        """Do what must wait until the whole model is built. Called once on each module; does nothing by default."""

    def __getattr__(self, name: str) -> Any:
        # Reached only where ordinary look-up found nothing, so a module that defines the old method keeps its own.
        renamed = _RENAMED_METHODS.get(name)
        if renamed is not None and hasattr(type(self), renamed):
            message = f"{type(self).__name__}.{name} is deprecated; use {renamed}"
            warnings.warn(message, FutureWarning, stacklevel=2)
            return getattr(self, renamed)
        return super().__getattr__(name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_config_dict()})"


class WeightedModule(Module):
    """A module that is its settings and its weights: both are saved, both are read back."""

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings and the weights."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization)

    @classmethod
    def from_source(cls, source: Source, init_defaults: dict[str, Any] | None = None, **options: Any) -> Module:
        """Build the module from its own folder: the settings, then the weights."""
        module = super().from_source(source, init_defaults, **options)
        load_into(module, source)
        return module


class InputModule(Module):
    """A module that can be the first of a model: it turns inputs into features."""

    save_in_root: ClassVar[bool] = True
    tokenizer: Any = None
    widest: int | None = None
    """Most numbers that ``forward`` holds for a token at one time, if known; bounds a batch's memory."""

    @property
    def modalities(self) -> list[str]:
        """Kinds of input that the module takes."""
        return ["text"]

    def tokenises(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether :meth:`tokenise`, then :meth:`pack` or :meth:`pad`, stand for ``preprocess`` with these arguments.

        Then the engine sorts texts by their true token count and packs them. A module that says no prepares each batch
        as a whole.

        Args:
            kwargs: The keyword arguments of ``encode`` that reach ``preprocess``, such as ``task``.
        """
        return False

    def packs_some(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether :meth:`pack` gives packed features for some texts of a call, if not for all."""
        return self.packs(kwargs)

    def locating_tokenizer(self, **kwargs: Any) -> FastTokenizer | None:
        """Return the tokenizer that tells where tokens stand in a text, or None if the module's does not."""
        return None

    def longest_input(self, **kwargs: Any) -> float | None:
        """Return the most tokens that a call with these arguments keeps of a text; None is no limit."""
        return getattr(self, "max_seq_length", None)

    def tokenise(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Tokens:
        """Return the packed token ids of texts or pairs, each with the prompt in front."""
        raise NotImplementedError(f"{type(self).__name__} prepares whole batches. This is a bug.")

    def pack(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into packed features."""
        raise NotImplementedError(f"{type(self).__name__} prepares whole batches. This is a bug.")

    def pad(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into padded features, as ``preprocess`` returns them."""
        return self.pack(tokens, prompt, **kwargs)

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn inputs into features; modules written for the older interface do so in ``tokenize``."""
        if type(self).tokenize is InputModule.tokenize:
            raise NotImplementedError(f"{type(self).__name__} must define preprocess(inputs, prompt=None, **kwargs)")
        warn_once(logger, f"{type(self).__name__} defines tokenize, which is deprecated; define preprocess instead")
        return self.tokenize(prepend(prompt, inputs), **kwargs)

    def tokenize(self, texts: list[Any], **kwargs: Any) -> Features:
        """Do what ``preprocess`` does, under its older name."""
        warn_once(logger, f"{type(self).__name__}.tokenize is deprecated; use preprocess")
        return self.preprocess(texts, **kwargs)

    def save_tokenizer(self, output_path: str, **kwargs: Any) -> None:
        """Write the tokenizer's files."""
        if hasattr(self.tokenizer, "save_pretrained"):
            self.tokenizer.save_pretrained(output_path, **kwargs)
        elif self.tokenizer is not None:
            self.tokenizer.save(str(Path(output_path, "tokenizer.json")))


def needed(features: Features, name: str, reader: Any, width: int | None = None) -> Any:
    """Return a feature that a module cannot do without.

    Args:
        features: What the modules before it wrote.
        name: The feature's name.
        reader: The module, for errors.
        width: Length of the feature's last axis, if it matters.

    Raises:
        MissingFeatureError: If the feature is absent.
        ShapeError: If its last axis has another length.
    """
    if name not in features:
        known = ", ".join(map(str, features)) or "none"
        raise MissingFeatureError(
            f"{type(reader).__name__} reads the feature {name!r}, which no module before it wrote; there are: {known}"
        )
    value = features[name] = whole(features[name])
    if width is not None and value.shape[-1] != width:
        raise ShapeError(
            f"{type(reader).__name__} takes a {name!r} of width {width}, got one of shape {tuple(value.shape)}"
        )
    return value


def tokenises(module: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a first module tokenises and batches in steps of their own, and nobody has replaced ``preprocess``."""
    ours = isinstance(module, InputModule) and type(module).__module__.startswith("fourfold.modules.")
    return ours and "preprocess" not in vars(module) and module.tokenises(kwargs)


def packs(module: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a module takes packed features; other people's may say so by an attribute alone."""
    return module.packs(kwargs) if isinstance(module, Module) else getattr(module, "packed", False)


def prepare(module: Any, inputs: Sequence[Any], prompt: str | None, kwargs: Mapping[str, Any]) -> Features:
    """Turn a batch of inputs into features, by whichever method a first module has for it.

    Args:
        module: A first module: ours, or one written for an older interface.
        inputs: A batch of inputs.
        prompt: Put before each text; modules that do not know of prompts get texts that begin with it.
        kwargs: ``task`` and whatever else ``preprocess`` takes.
    """
    method = getattr(module, "preprocess", None) or getattr(module, "tokenize", None)
    if method is None:
        raise FirstModuleError(f"the first module, {type(module).__name__}, has neither preprocess nor tokenize")
    parameters = inspect.signature(method).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = dict(kwargs)
    if "prompt" in parameters or (open_ended and method.__name__ == "preprocess"):
        given["prompt"] = prompt
    else:
        inputs = prepend(prompt, inputs)
    if not open_ended and "task" not in parameters:
        given.pop("task", None)
    return method(inputs, **given)


def width_methods(modules: Iterable[Any]) -> Iterator[Callable[[], int | None]]:
    """Yield the methods that tell the width of a module's output, of each module that has one, by its newest name."""
    for module in modules:
        names = ("get_embedding_dimension", "get_sentence_embedding_dimension", "get_word_embedding_dimension")
        found = next((name for name in names if hasattr(module, name)), None)
        if found is not None:
            yield getattr(module, found)
