"""Read a folder's tokenizer without transformers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from fourfold.errors import FolderError
from fourfold.store.source import Source

TOKENIZER_FILE = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"

# A tokenizer without a limit is saved with a number of this size.
_NO_LIMIT = 10**9
# What transformers' classes of BERT's kind set anew in a normalizer, by the names of their settings.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# Tokens that these classes have, named or not.
_BERTS = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")
# Classes that take a tokenizer as the file has it.
_PLAIN = ("TokenizersBackend", "PreTrainedTokenizerFast")


def read_tokenizer(source: Source) -> Tokenizer:
    """Read ``tokenizer.json``; a damaged one is a :class:`~fourfold.errors.FolderError`."""
    path = source.need(TOKENIZER_FILE)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises plain Exception
        raise FolderError(f"{source.pretty(TOKENIZER_FILE)} cannot be read: {error}") from None


@dataclass(frozen=True)
class SavedTokenizer:
    """A tokenizer that transformers saved.

    Attributes:
        base: What turns texts into ids.
        max_length: Most tokens of a text; None is no limit.
        truncation_side: The side on which a longer text is cut, ``right`` or ``left``.
        changed: What transformers' class of it would make different from ``base``; empty if nothing.
    """

    base: Tokenizer
    max_length: int | None = None
    truncation_side: str = "right"
    changed: str = ""

    @classmethod
    def read(cls, source: Source) -> SavedTokenizer:
        """Read ``tokenizer.json`` and the settings beside it.

        Raises:
            FolderError: If a file is damaged.
        """
        base, settings = read_tokenizer(source), source.object(SETTINGS_FILE)
        stated = settings.get("model_max_length", settings.get("max_len"))
        length = int(stated) if isinstance(stated, (int, float)) and stated <= _NO_LIMIT else None
        side = settings.get("truncation_side") or (base.truncation or {}).get("direction", "right")
        if (length is not None and length < 1) or side not in ("left", "right"):
            raise FolderError(
                f"{source.pretty(SETTINGS_FILE)}: model_max_length must be at least 1 and truncation_side left or "
                f"right, got {length!r} and {side!r}"
            )
        return cls(base, length, side, _changes(base, settings))


def _changes(base: Tokenizer, settings: dict[str, Any]) -> str:
    """Return what the settings ask for beside the file, which transformers builds in when it loads a tokenizer."""
    known = {token.content for token in base.get_added_tokens_decoder().values()}
    normalizer = base.normalizer
    remade = settings.get("tokenizer_class") not in (None, *_PLAIN) and type(normalizer).__name__ == "BertNormalizer"
    named = dict.fromkeys([*_named(settings), *(_BERTS if remade else ())])
    new = [token for token in named if token not in known]
    if new:
        return f"adds the tokens {', '.join(map(repr, new))}"
    for setting, name in _NORMALIZER.items() if remade else ():
        if setting in settings and settings[setting] != getattr(normalizer, name):
            return f"sets {setting} to {settings[setting]!r}"
    return "splits special tokens" if settings.get("split_special_tokens") else ""


def _named(settings: dict[str, Any]) -> Iterator[str]:
    """Yield the tokens that settings name: ``cls_token`` and the like, lists of more, and the table of added ones."""
    decoder = settings.get("added_tokens_decoder")
    extra = (settings.get(name) for name in ("additional_special_tokens", "extra_special_tokens"))
    lists = [list(more.values()) if isinstance(more, dict) else more for more in (decoder, *extra)]
    named = [value for name, value in settings.items() if name.endswith("_token")]
    for token in [*named, *(token for more in lists if isinstance(more, list) for token in more)]:
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str):
            yield content
