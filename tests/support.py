"""Small makers shared by tests."""

from __future__ import annotations

import string

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

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
