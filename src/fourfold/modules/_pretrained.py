"""Load the config and the model of a transformers checkpoint by the contract's rules."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from fourfold.errors import FolderError, FourfoldError, InputError, MissingExtraError, WeightsError, require
from fourfold.store.manifest import architectures
from fourfold.store.source import Source

logger = logging.getLogger(__name__)

ADAPTER_FILE = "adapter_config.json"

# Of an encoder-decoder only the encoder is loaded, by its own class: its module in transformers and its name.
_ENCODERS = {
    "blenderbot": ("blenderbot", "BlenderbotEncoder"),
    "blenderbot-small": ("blenderbot_small", "BlenderbotSmallEncoder"),
    "longt5": ("longt5", "LongT5EncoderModel"),
    "m2m_100": ("m2m_100", "M2M100Encoder"),
    "marian": ("marian", "MarianEncoder"),
    "moonshine": ("moonshine", "MoonshineEncoder"),
    "mt5": ("mt5", "MT5EncoderModel"),
    "pegasus": ("pegasus", "PegasusEncoder"),
    "pegasus_x": ("pegasus_x", "PegasusXEncoder"),
    "prophetnet": ("prophetnet", "ProphetNetEncoder"),
    "switch_transformers": ("switch_transformers", "SwitchTransformersEncoderModel"),
    "t5": ("t5", "T5EncoderModel"),
    "t5gemma": ("t5gemma", "T5GemmaEncoderModel"),
    "t5gemma2": ("t5gemma2", "T5Gemma2Encoder"),
    "udop": ("udop", "UdopEncoderModel"),
    "umt5": ("umt5", "UMT5EncoderModel"),
    "whisper": ("whisper", "WhisperEncoder"),
}
_AUTO = {
    "feature-extraction": "AutoModel",
    "sequence-classification": "AutoModelForSequenceClassification",
    "text-generation": "AutoModelForCausalLM",
    "any-to-any": "AutoModelForMultimodalLM",
    "fill-mask": "AutoModelForMaskedLM",
}
# Settings that older releases of transformers take and do nothing about: (key, value, first release that acts on it).
_ATTENTION_SETTINGS = (("use_bidirectional_attention", True, "4.56.2"), ("is_causal", False, "5.2.0"))


def hub_keywords(source: Source, trust_remote_code: bool) -> dict[str, Any]:
    """Return where to load from, as every ``from_pretrained`` takes it."""
    return {
        "subfolder": source.subfolder,
        "token": source.token,
        "cache_dir": source.cache_folder,
        "revision": source.revision,
        "local_files_only": source.offline,
        "trust_remote_code": trust_remote_code,
    }


@contextlib.contextmanager
def reading(place: str, files: str) -> Iterator[None]:
    """Turn whatever transformers fails with over the files of a folder into an error that names them.

    Its own errors about absent files and packages pass, and so does a device that has no memory left.
    """
    try:
        yield
    except (FourfoldError, OSError, ImportError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise FolderError(f"{place}: {files} cannot be read: {type(error).__name__}: {error}") from error


def source_of(name: str, kwargs: Mapping[str, Any]) -> Source:
    """Return where a ``from_pretrained`` with these arguments loads from."""
    return Source(
        name, kwargs.get("revision"), kwargs.get("token"), kwargs.get("cache_dir"),
        bool(kwargs.get("local_files_only")), kwargs.get("subfolder") or "",
    )  # fmt: skip


def from_cache(name: str, kwargs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the cache's folder in place of a hub name whose files may come from there only, and its arguments.

    transformers asks the hub for some optional files even when it is told not to, with waits between its tries. About
    a folder of this machine it asks nobody.
    """
    folder = source_of(name, kwargs).cached()
    if folder is None:
        return name, dict(kwargs)
    return str(folder), {key: value for key, value in kwargs.items() if key not in ("revision", "cache_dir")}


# -- adapters ----------------------------------------------------------------------------------------------------------


def adapter_base(source: Source) -> str | None:
    """Return the checkpoint that a folder's adapter belongs to; None if the folder is no adapter.

    Raises:
        FolderError: If the adapter does not say.
    """
    adapter = source.object(ADAPTER_FILE)
    if not adapter:
        return None
    base = adapter.get("base_model_name_or_path")
    if not isinstance(base, str):
        raise FolderError(f"{source.pretty(ADAPTER_FILE)}: 'base_model_name_or_path' must be a string, got {base!r}")
    return base


def for_base(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return loading arguments without those that name a place inside the adapter's repository."""
    return {key: value for key, value in kwargs.items() if key not in ("revision", "subfolder")}


# -- configs -----------------------------------------------------------------------------------------------------------


def config(name: str, kwargs: dict[str, Any], task: str = "feature-extraction") -> Any:
    """Load the config; the key-value cache is off unless asked for, since encoding reads each text once.

    Args:
        name: Folder or hub name of a checkpoint, or of an adapter to one.
        kwargs: Arguments of the config's ``from_pretrained``.
        task: What the checkpoint is loaded for: a classifier has one label where nothing says otherwise.
    """
    from transformers import AutoConfig

    source = source_of(name, kwargs)
    base = adapter_base(source)
    if base is not None:
        require("peft", "peft", f"The adapter {source.pretty(ADAPTER_FILE)}")
        if source.file("config.json") is None:
            name, kwargs = base, for_base(kwargs)
    place, arguments = from_cache(name, kwargs)
    with reading(source.pretty(), "config.json"):
        loaded = AutoConfig.from_pretrained(place, **arguments)
    loaded._name_or_path = name
    _switch_cache_off(loaded, kwargs)
    _warn_of_attention(loaded)
    if task == "sequence-classification" and "num_labels" not in kwargs:
        named = architectures(getattr(loaded, "architectures", None))
        if not any(architecture.endswith("ForSequenceClassification") for architecture in named):
            loaded.num_labels = 1
    return loaded


def _switch_cache_off(config: Any, asked: Mapping[str, Any]) -> None:
    if "use_cache" in asked:
        return
    if getattr(config, "use_cache", None) is not None:
        config.use_cache = False
    for key in getattr(config, "sub_configs", None) or {}:
        part, given = getattr(config, key, None), asked.get(key)
        if part is not None:
            _switch_cache_off(part, given if isinstance(given, Mapping) else {})


def _warn_of_attention(config: Any) -> None:
    import transformers
    from packaging.version import Version

    for key, value, first in _ATTENTION_SETTINGS:
        if getattr(config, key, None) is value and Version(transformers.__version__) < Version(first):
            logger.warning(
                "the config asks for %s=%s, which transformers %s ignores; install transformers>=%s",
                key, value, transformers.__version__, first,
            )  # fmt: skip


# -- models ------------------------------------------------------------------------------------------------------------


def model(name: str, config: Any, given: dict[str, Any], task: str = "feature-extraction") -> Any:
    """Load the model in evaluation mode; of an encoder-decoder only the encoder, an adapter with its base.

    Args:
        name: Folder or hub name of a checkpoint, or of an adapter to one.
        config: Its config.
        given: Arguments of the model's ``from_pretrained``.
        task: What it is loaded for.

    Raises:
        InputError: If no class of transformers does the task for this config.
        MissingExtraError: If the task needs a newer transformers.
        WeightsError: If weights have another shape than the config says.
    """
    kwargs = dict(given)
    if "torch_dtype" not in kwargs:
        kwargs.setdefault("dtype", "auto")  # that of the checkpoint: the default of transformers 5
    cls, config = _class_for(name, config, kwargs, task)
    inside = _is_inside(cls) and architectures(getattr(config, "architectures", None))[:1] != [cls.__name__]
    if inside:
        # Its weights lie somewhere within those of the whole model, embeddings shared with the decoder included.
        loaded = _load(_auto("feature-extraction"), name, config, kwargs).get_encoder()
        loaded.config.architectures = [cls.__name__]
        return loaded
    return _load(cls, name, config, kwargs)


def _load(cls: Any, name: str, config: Any, given: dict[str, Any]) -> Any:
    # Weights of another shape are collected rather than refused by transformers, so that the error can name them.
    kwargs = {"ignore_mismatched_sizes": True, **given, "output_loading_info": True}
    if not cls.__name__.startswith("Auto"):
        kwargs.pop("trust_remote_code", None)
    place, kwargs = from_cache(name, kwargs)
    with reading(source_of(name, given).pretty(), "config.json or the weights"):
        loaded, info = cls.from_pretrained(place, config=config, **kwargs)
    if place != name:
        loaded.name_or_path = loaded.config._name_or_path = name
    if info["mismatched_keys"] and "ignore_mismatched_sizes" not in given:
        wrong = [
            f"{key!r} has shape {tuple(got)}, config.json asks for {tuple(want)}"
            for key, got, want in sorted(info["mismatched_keys"])
        ]
        raise WeightsError(f"weights in {name} do not fit {type(loaded).__name__}: {'; '.join(wrong[:5])}")
    return loaded


def _is_inside(cls: Any) -> bool:
    """Whether a class is the encoder inside a model rather than a model of its own."""
    return cls.__name__.endswith("Encoder")


def _auto(task: str) -> Any:
    """Return transformers' automatic class for a task."""
    import transformers

    cls = getattr(transformers, _AUTO[task], None)
    if cls is None:
        raise MissingExtraError(
            f"transformer_task {task!r} needs transformers 5, found {transformers.__version__}. "
            'Install it with: pip install "transformers>=5"'
        )
    return cls


def _class_for(name: str, config: Any, kwargs: dict[str, Any], task: str) -> tuple[Any, Any]:
    """Return the class that a checkpoint has for a task, and the config that it takes."""
    if task == "retrieval":
        return _retrieval_class(name, config, kwargs), config
    encoder = _ENCODERS.get(config.model_type) if task == "feature-extraction" else None
    if encoder is None:
        return _auto(task), config
    folder, cls_name = encoder
    cls = getattr(importlib.import_module(f"transformers.models.{folder}.modeling_{folder}"), cls_name)
    if not _is_inside(cls):
        # The decoder's weights are expected in a checkpoint of the whole model, and no news to anybody.
        cls._keys_to_ignore_on_load_unexpected = ["decoder", "lm_head"]
    if config.model_type == "t5gemma":
        config.is_encoder_decoder = False
    return cls, config


def _retrieval_class(name: str, config: Any, kwargs: dict[str, Any]) -> Any:
    import transformers
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_RETRIEVAL_MAPPING

    configs = [config]
    base = adapter_base(source_of(name, kwargs))
    if base is not None:
        configs.append(AutoConfig.from_pretrained(base, **for_base(kwargs)))
    for candidate in configs:
        mapped = MODEL_FOR_RETRIEVAL_MAPPING.get(type(candidate), None)
        if mapped is not None:
            return mapped
    for architecture in architectures(getattr(config, "architectures", None)):
        if hasattr(transformers, architecture):
            return getattr(transformers, architecture)
    if "AutoModel" in (getattr(config, "auto_map", None) or {}):
        return transformers.AutoModel
    raise InputError(
        f"transformer_task 'retrieval': transformers has no retrieval model for {type(config).__name__} in {name}; "
        "load it with transformer_task='feature-extraction'"
    )
