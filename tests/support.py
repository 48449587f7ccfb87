"""Small makers shared by tests."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import string
from pathlib import Path

import pytest
from packaging.version import Version
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

# Encoders such as BERT's run packed through an attention interface that they have had since transformers 5.
_OLD_TRANSFORMERS = Version(importlib.metadata.version("transformers")) < Version("5")
needs_packing = pytest.mark.skipif(_OLD_TRANSFORMERS, reason="encoders pack since transformers 5")
needs_no_settings = pytest.mark.skipif(_OLD_TRANSFORMERS, reason="older transformers read no tokenizer.json alone")

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "text", "words", "long", "short"]

TEXTS = [
    "the quick brown fox",
    "",
    "a",
    "Jumps over the lazy dog, twice: 12 times!",
    "query text " * 12,
    "short",
    "an ünïcödé text — with … odd 漢字 and 🙂 signs",
    "long " * 30,
]


thorough = pytest.mark.skipif(
    not os.environ.get("FOURFOLD_THOROUGH"), reason="the same in another way; runs where FOURFOLD_THOROUGH is set"
)


def runs(count: int) -> int:
    """How often a test repeats what chance decides: a quarter of `count`, all of it where FOURFOLD_THOROUGH is set."""
    return count if os.environ.get("FOURFOLD_THOROUGH") else count // 4


def wordpiece() -> Tokenizer:
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    tokens = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *letters, *(f"##{x}" for x in letters), *WORDS]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def byte_level() -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in WORDS:
        for word_ in (word, "Ġ" + word):
            for i in range(1, len(word_)):
                merge = (word_[:i], word_[i])
                if merge[0] + merge[1] not in vocabulary:
                    vocabulary[merge[0] + merge[1]] = len(vocabulary)
                    merges.append(merge)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def metaspace() -> Tokenizer:
    """Pieces with weights, as in T5 and XLM-R: the whole text is one piece of work, spaces included."""
    pieces = [("<unk>", 0.0), ("▁", -3.0), *((letter, -6.0) for letter in string.ascii_lowercase + string.punctuation)]
    pieces += [("▁" + word, -4.0 - i / 10) for i, word in enumerate(WORDS)] + [(word, -5.0) for word in WORDS]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def whole_words(*words: str) -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


TOKENIZERS = {"wordpiece": wordpiece, "byte_level": byte_level, "metaspace": metaspace}


def load(path, **options):
    """Load a model on the CPU, whatever else there is."""
    from fourfold import SentenceTransformer

    return SentenceTransformer(str(path), **{"device": "cpu", **options})


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def content(folder):
    """Return every file of a folder, by its path inside."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def saved_with(folder, source, **config):
    """Save a model anew with other keys in its ``config_sentence_transformers.json``, and return the folder."""
    load(source).save(folder)
    file = Path(folder, "config_sentence_transformers.json")
    file.write_text(json.dumps({**read_json(file), **config}))
    return folder


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub_cache(root, name, folder, commit=COMMIT):
    """Put a folder into a hub cache as a repository's only commit, and return the cache."""
    storage = Path(root, "models--" + name.replace("/", "--"))
    snapshot = storage / "snapshots" / commit
    for file in sorted(Path(folder).rglob("*")):
        if file.is_file():
            blob = storage / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(file.read_bytes())
            link = snapshot / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(commit)
    return str(root)


def close_hub_session() -> None:
    """Let the hub's client make its connections anew."""
    from huggingface_hub import utils

    close = getattr(utils, "close_session", None) or utils.reset_sessions  # the older name
    close()


def named(value: object) -> str:
    """Return an object's name in a test's id: the same in every process, so without addresses and hash order."""
    if isinstance(value, set):
        return f"{{{', '.join(sorted(map(named, value)))}}}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def outcome(function, *arguments, **keywords):
    """Return what a call gives, or the type of the error that it raises: a built-in one, as callers catch it."""
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        kinds = (AttributeError, KeyError, NotADirectoryError, FileNotFoundError, ImportError, ValueError, TypeError)
        return next((kind for kind in kinds if isinstance(error, kind)), type(error))
