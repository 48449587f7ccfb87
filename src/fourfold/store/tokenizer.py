"""Read a folder's ``tokenizer.json``, without transformers."""

from __future__ import annotations

from tokenizers import Tokenizer

from fourfold.errors import FolderError
from fourfold.store.source import Source

TOKENIZER_FILE = "tokenizer.json"


def read_tokenizer(source: Source) -> Tokenizer:
    """Read ``tokenizer.json``; a damaged one is a :class:`~fourfold.errors.FolderError`."""
    path = source.need(TOKENIZER_FILE)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises plain Exception
        raise FolderError(f"{source.pretty(TOKENIZER_FILE)} cannot be read: {error}") from None
