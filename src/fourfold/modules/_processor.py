"""Load the processor of a transformers checkpoint: a tokenizer, or what prepares images, audio and video too."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from typing import Any

from fourfold.containers import Tokens
from fourfold.errors import FolderError
from fourfold.modules import _pretrained
from fourfold.modules._processing import tokenizer_of
from fourfold.store.source import Source
from fourfold.text.pairs import Cut
from fourfold.text.tokenizer import FastTokenizer

logger = logging.getLogger(__name__)

# Files of which one is there where inputs are more than texts.
_MEDIA_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model")


def load(name: str, config: Any, kwargs: dict[str, Any], max_seq_length: int | None) -> Any:
    """Load the processor; ``model_max_length`` becomes the longest input that it and the model's positions allow.

    Args:
        name: Folder or hub name.
        config: The model's config.
        kwargs: Arguments of the processor's ``from_pretrained``.
        max_seq_length: Longest input in tokens, unless ``kwargs`` say it.

    Raises:
        FolderError: If its files cannot be read.
    """
    kwargs = dict(kwargs)
    if max_seq_length is not None:
        kwargs.setdefault("model_max_length", max_seq_length)
    source = _pretrained.source_of(name, kwargs)
    base = _pretrained.adapter_base(source)
    if base is not None and not any(source.file(file) for file in _TOKENIZER_FILES):
        name, kwargs = base, _pretrained.for_base(kwargs)
        source = _pretrained.source_of(name, kwargs)
    place, arguments = _pretrained.from_cache(name, kwargs)
    with _pretrained.reading(source.pretty(), "the processor's or tokenizer's files"):
        loaded = _loader(any(source.file(file) for file in _MEDIA_FILES)).from_pretrained(place, **arguments)
    tokenizer = tokenizer_of(loaded)
    if tokenizer is not None and place != name:
        tokenizer.name_or_path = name
    if tokenizer is not None:
        _check_length(tokenizer, source)
    positions = getattr(config, "max_position_embeddings", None)
    if tokenizer is not None and kwargs.get("model_max_length") is None and positions not in (None, -1):
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return loaded


def _loader(media: bool) -> Any:
    if media:
        from transformers import AutoProcessor

        return AutoProcessor
    # AutoProcessor gives the tokenizer here too, after importing everything that prepares images.
    from transformers import AutoTokenizer

    return AutoTokenizer


def load_tokenizer(source: Source, *, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer of a folder that has no config.

    Raises:
        FolderError: If its files cannot be read.
    """
    from transformers import AutoTokenizer

    place, arguments = _pretrained.from_cache(source.name, _pretrained.hub_keywords(source, trust_remote_code))
    with _pretrained.reading(source.pretty(), "the tokenizer's files"):
        tokenizer = AutoTokenizer.from_pretrained(place, **arguments)
    _check_length(tokenizer, source)
    # How it was loaded is nothing that a saved folder should say.
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def _check_length(tokenizer: Any, source: Source) -> None:
    length = getattr(tokenizer, "model_max_length", math.inf)
    if isinstance(length, bool) or not isinstance(length, (int, float)) or math.isnan(length):
        raise FolderError(
            f"{source.pretty('tokenizer_config.json')}: 'model_max_length' must be a number or null, got {length!r}"
        )


def face_of(tokenizer: Any, *, special: bool = True) -> FastTokenizer | PythonTokenizer:
    """Return what turns texts into packed ids with a tokenizer of transformers.

    Args:
        tokenizer: The tokenizer; truncation happens on its own side.
        special: Whether special tokens are put around each text.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return PythonTokenizer(tokenizer, add_special_tokens=special)
    return FastTokenizer(backend, add_special_tokens=special, truncation_side=tokenizer.truncation_side)


def pad_left(processor: Any, tokenizer: Any) -> None:
    """Make a processor put padding before texts, so that each ends at the last position."""
    for part in (processor, tokenizer):
        if hasattr(part, "padding_side"):
            part.padding_side = "left"


def lower_case(tokenizer: Any) -> None:
    """Put a lower-casing step in front of a tokenizer's normalizer, unless it has one."""
    from tokenizers import normalizers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        tokenizer.do_lower_case = True  # what tokenizers written in Python read
        return
    present = backend.normalizer
    if present is None:
        backend.normalizer = normalizers.Lowercase()
    elif "Lowercase" not in repr(present) and "lowercase=True" not in repr(present):
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), present])


class PythonTokenizer:
    """The face of :class:`~fourfold.text.tokenizer.FastTokenizer` over a tokenizer written in Python."""

    def __init__(self, tokenizer: Any, *, add_special_tokens: bool = True) -> None:
        self._tokenizer = copy.copy(tokenizer)
        self._special = add_special_tokens

    def encode(self, texts: Sequence[Any], max_length: int | None = None, cut: Cut = "longest_first") -> Tokens:
        """Return the token ids of texts or pairs of texts."""
        pairs = any(not isinstance(text, str) for text in texts)
        columns = ([text[0] for text in texts], [text[1] for text in texts]) if pairs else (list(texts),)
        shorter = {"truncation": max_length is not None and cut, "max_length": max_length}
        out = self._tokenizer(*columns, add_special_tokens=self._special, **shorter)
        return Tokens.of(out["input_ids"], out.get("token_type_ids") if pairs else None)

    def prompt_length(self, prompt: str) -> int:
        """Return how many leading tokens a prompt takes."""
        ids = self._tokenizer(prompt, add_special_tokens=self._special)["input_ids"]
        return len(ids) - int(bool(ids) and ids[-1] in self._tokenizer.all_special_ids)
