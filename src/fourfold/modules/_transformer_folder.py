"""A transformer's folder: the settings file under all its names, the checkpoint and the processor beside it."""

from __future__ import annotations

import inspect
import logging
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar

from fourfold.errors import FolderError
from fourfold.modules import _modalities, _pretrained
from fourfold.modules._base import InputModule
from fourfold.notices import warn_once
from fourfold.store.files import write_json
from fourfold.store.source import Source
from fourfold.store.weights import check_checkpoint

logger = logging.getLogger(__name__)

# Names that the settings file has had; the first that holds something is read, only the first is written.
_CONFIG_NAMES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
KWARGS = ("model_kwargs", "processor_kwargs", "config_kwargs")
# Settings that are saved only where they say something.
_OPTIONAL = ("processing_kwargs", "unpad_inputs", "query_length", "document_length", "query_expansion")

_loading: ContextVar[bool] = ContextVar("loading", default=False)


class TransformerFolder(InputModule):
    """The part of :class:`~fourfold.modules.transformer.Transformer` that reads and writes folders."""

    config_file_name: ClassVar[str] = "sentence_bert_config.json"
    config_keys: ClassVar[list[str]] = ["transformer_task", "modality_config", "module_output_name"]
    config_key_renames: ClassVar[dict[str, str]] = {
        "model_args": "model_kwargs", "tokenizer_args": "processor_kwargs", "config_args": "config_kwargs",
    }  # fmt: skip
    default_task: ClassVar[str] = "feature-extraction"
    instead: ClassVar[str | None] = None
    """What to use instead of a class that is kept for older folders and scripts."""

    model: Any
    processor: Any
    modality_config: _modalities.ModalityConfig

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that are saved."""
        config = {**super().get_config_dict(), "modality_config": _modalities.stored(self.modality_config)}
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        return {**config, **{name: value for name, value in optional.items() if value is not None and value != {}}}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the checkpoint (of a model with an adapter the adapter alone), the processor and the settings."""
        self.model.save_pretrained(output_path)
        self.processor.save_pretrained(output_path)
        write_json(Path(output_path, self.config_file_name), self.get_config_dict())

    @classmethod
    def from_source(
        cls,
        source: Source,
        init_defaults: dict[str, Any] | None = None,
        *,
        trust_remote_code: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        **options: Any,
    ) -> Any:
        """Build the module from its folder; the caller's dictionaries win over those that the folder states."""
        check_checkpoint(source)
        given = (model_kwargs, processor_kwargs, config_kwargs)
        config = cls.loading_keywords(source, init_defaults, given, trust_remote_code=trust_remote_code)
        if "modality_config" not in config:
            # Saved before there were modalities: such a model never reads chat messages.
            task = config.setdefault("transformer_task", cls.default_task)
            config["modality_config"], config["module_output_name"] = cls.older_modalities(source, task)
        token = _loading.set(True)
        try:
            return cls._build({**config, "backend": backend}, source)
        finally:
            _loading.reset(token)

    def _warn_if_deprecated(self) -> None:
        if self.instead is not None and not _loading.get():
            logger.warning("%s is deprecated; use %s", type(self).__name__, self.instead)

    @classmethod
    def from_checkpoint(
        cls,
        source: Source,
        *,
        trust_remote_code: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        **arguments: Any,
    ) -> Any:
        """Build the module from a bare transformers checkpoint or adapter: what inputs it takes is found out.

        Args:
            source: The folder; a ``subfolder`` in the dictionaries wins over the source's.
            trust_remote_code: Whether transformers may run code of the folder.
            model_kwargs: As for the constructor.
            processor_kwargs: As for the constructor.
            config_kwargs: As for the constructor.
            backend: As for the constructor.
            **arguments: Further arguments of the constructor; the rest of the model's loading options is ignored.

        Raises:
            MissingFileError: If the folder holds no checkpoint.
        """
        _check_place(source, config_kwargs)
        hub = _pretrained.hub_keywords(source, trust_remote_code)
        given = zip(KWARGS, (model_kwargs, processor_kwargs, config_kwargs), strict=True)
        known = inspect.signature(cls).parameters
        arguments = {key: value for key, value in arguments.items() if key in known}
        return cls(source.name, backend=backend, **{name: {**hub, **(own or {})} for name, own in given}, **arguments)

    @classmethod
    def checkpoint_config(
        cls,
        source: Source,
        *,
        trust_remote_code: bool = False,
        config_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Return the transformers config of a bare checkpoint, or of the one that an adapter belongs to.

        Args:
            source: The folder.
            trust_remote_code: Whether transformers may run code of the folder.
            config_kwargs: As for the constructor.
            **options: The rest of the model's loading options, ignored.
        """
        _check_place(source, config_kwargs)
        hub = _pretrained.hub_keywords(source, trust_remote_code)
        return _pretrained.config(source.name, {**hub, **(config_kwargs or {})}, "feature-extraction")

    @classmethod
    def loading_keywords(
        cls,
        source: Source,
        init_defaults: dict[str, Any] | None,
        given: tuple[dict[str, Any] | None, ...],
        *,
        trust_remote_code: bool,
    ) -> dict[str, Any]:
        """Return the constructor's arguments that a folder and a caller state; others' classes are built with them too.

        Args:
            source: The module's folder.
            init_defaults: Arguments used where the folder states none.
            given: The caller's ``model_kwargs``, ``processor_kwargs`` and ``config_kwargs``.
            trust_remote_code: Whether transformers may run code of the folder.
        """
        config = {**(init_defaults or {}), **cls.read_config(source)}
        hub = _pretrained.hub_keywords(source, trust_remote_code)
        for name, theirs in zip(KWARGS, given, strict=True):
            saved = config.pop(name, None) or {}
            if not isinstance(saved, dict):
                raise FolderError(f"{source.pretty(cls.config_file_name)}: {name!r} must be an object, got {saved!r}")
            saved.pop("trust_remote_code", None)  # a folder cannot grant trust to itself
            config[name] = {**saved, **hub, **(theirs or {})}
        if "tokenizer_name_or_path" in config:
            warn_once(
                logger, f"{source.pretty(cls.config_file_name)}: 'tokenizer_name_or_path' is deprecated and ignored"
            )
            del config["tokenizer_name_or_path"]
        return {"model_name_or_path": source.name, **config}

    @classmethod
    def older_modalities(cls, source: Source, task: str) -> tuple[_modalities.ModalityConfig, str]:
        """Return the modality config and output of a folder that states none: texts, by the task's default."""
        if task not in _modalities.OUTPUTS:
            raise FolderError(f"{source.pretty(cls.config_file_name)}: unknown transformer_task {task!r}")
        output, name = _modalities.OUTPUTS[task]
        return {"text": {"method": "forward", "method_output_name": output}}, name

    @classmethod
    def read_config(cls, source: Source) -> dict[str, Any]:
        """Return the settings from the first of the file's names that holds something, under today's keys."""
        for name in _CONFIG_NAMES:
            config = source.object(f"sentence_{name}_config.json")
            if config:
                break
        for old, new in cls.config_key_renames.items():
            if old in config:
                config.setdefault(new, config.pop(old))
        return config


def _check_place(source: Source, config_kwargs: dict[str, Any] | None) -> None:
    """Raise unless a folder holds a checkpoint or an adapter, and neither is hostile."""
    place = source.at(str((config_kwargs or {}).get("subfolder") or ""))
    if place.file(_pretrained.ADAPTER_FILE) is None:
        place.need("config.json")
    check_checkpoint(place)
