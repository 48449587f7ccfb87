"""Load config, model and tokenizer of a transformers checkpoint by the contract's rules."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from fourfold.containers import Tokens
from fourfold.errors import FolderError, WeightsError
from fourfold.store.source import Source


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


def config(name: str, kwargs: dict[str, Any]) -> Any:
    """Load the config; the key-value cache is off unless asked for, since encoding reads each text once."""
    from transformers import AutoConfig

    loaded = AutoConfig.from_pretrained(name, **kwargs)
    if "use_cache" not in kwargs:
        for part in (loaded, *(getattr(loaded, key, None) for key in getattr(loaded, "sub_configs", {}))):
            if part is not None and getattr(part, "use_cache", None) is not None:
                part.use_cache = False
    return loaded


def model(name: str, config: Any, given: dict[str, Any]) -> Any:
    """Load the encoder in evaluation mode; of an encoder-decoder only the encoder.

    Raises:
        WeightsError: If weights have another shape than the config says.
    """
    import transformers

    kwargs = dict(given)

    encoder = _ENCODERS.get(config.model_type)
    cls = transformers.AutoModel if encoder is None else getattr(transformers, encoder)
    if encoder is not None:
        kwargs = {key: value for key, value in kwargs.items() if key != "trust_remote_code"}
    # Weights of another shape are collected rather than refused by transformers, so that the error can name them.
    kwargs = {"ignore_mismatched_sizes": True, **kwargs, "output_loading_info": True}
    loaded, info = cls.from_pretrained(name, config=config, **kwargs)
    if info["mismatched_keys"] and "ignore_mismatched_sizes" not in given:
        wrong = [
            f"{key!r} has shape {tuple(got)}, config.json asks for {tuple(want)}"
            for key, got, want in sorted(info["mismatched_keys"])
        ]
        raise WeightsError(f"weights in {name} do not fit {type(loaded).__name__}: {'; '.join(wrong[:5])}")
    return loaded


_ENCODERS = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}


def tokenizer(name: str, config: Any, kwargs: dict[str, Any], max_seq_length: int | None) -> Any:
    """Load the tokenizer; ``model_max_length`` becomes the longest input that it and the model's positions allow."""
    from transformers import AutoTokenizer

    kwargs = dict(kwargs)
    if max_seq_length is not None:
        kwargs.setdefault("model_max_length", max_seq_length)
    try:
        loaded = AutoTokenizer.from_pretrained(name, **kwargs)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FolderError(f"{name}: the tokenizer's files cannot be read: {error!r}") from error
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if kwargs.get("model_max_length") is None and positions is not None and positions != -1:
        loaded.model_max_length = min(loaded.model_max_length, positions)
    return loaded


def lower_case(tokenizer: Any) -> None:
    """Put a lower-casing step in front of a tokenizer's normalizer, unless it has one."""
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    present = backend.normalizer
    if present is None:
        backend.normalizer = normalizers.Lowercase()
    elif "Lowercase" not in repr(present) and "lowercase=True" not in repr(present):
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), present])


class PythonTokenizer:
    """The face of :class:`~fourfold.text.tokenizer.FastTokenizer` over a tokenizer written in Python."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = copy.copy(tokenizer)

    def encode(self, texts: Sequence[Any], max_length: int | None = None) -> Tokens:
        """Return the token ids of texts or pairs of texts."""
        pairs = any(not isinstance(text, str) for text in texts)
        columns = ([text[0] for text in texts], [text[1] for text in texts]) if pairs else (list(texts),)
        out = self._tokenizer(*columns, truncation=max_length is not None, max_length=max_length)
        return Tokens.of(out["input_ids"], out.get("token_type_ids") if pairs else None)

    def prompt_length(self, prompt: str) -> int:
        """Return how many leading tokens a prompt takes."""
        ids = self._tokenizer(prompt)["input_ids"]
        return len(ids) - int(bool(ids) and ids[-1] in self._tokenizer.all_special_ids)
