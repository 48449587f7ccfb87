"""One vector a word, as word2vec and GloVe give it, kept for the modules that follow."""

from __future__ import annotations

import gzip
import logging
from array import array
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fourfold.containers import Tokens
from fourfold.errors import InputError, MissingKeyError, UnknownModuleError, WeightsError
from fourfold.modules._base import Features, InputModule, needed
from fourfold.modules._loading import foreign_class, save_code
from fourfold.modules._settings import check_keys, construct
from fourfold.modules.tokenizer import registry as tokenizers
from fourfold.modules.tokenizer._base import WordTokenizer
from fourfold.modules.tokenizer.transformers_tokenizer_wrapper import TransformersTokenizerWrapper
from fourfold.modules.tokenizer.whitespace_tokenizer import WhitespaceTokenizer
from fourfold.ops.attention import Packing
from fourfold.store.layouts import is_library_type, tokenizer_name, type_string
from fourfold.store.source import Source
from fourfold.store.weights import read_tensors
from fourfold.text.inputs import check_single_texts
from fourfold.text.prompts import prepend

logger = logging.getLogger(__name__)

PADDING_WORD = "PADDING_TOKEN"
_WEIGHT = "emb_layer.weight"


class WordEmbeddings(InputModule):
    """Look up the vector of each word of a text.

    Args:
        tokenizer: A :class:`~fourfold.modules.tokenizer.WordTokenizer`, or a tokenizer of transformers.
        embedding_weights: ``[words, width]``, a list, an array or a tensor.
        update_embeddings: Whether training changes them.
        max_seq_length: Longest text in words; the rest is cut.

    Raises:
        InputError: If the tokenizer is of another kind, or the weights have not two dimensions.
    """

    config_file_name: ClassVar[str] = "wordembedding_config.json"
    config_keys: ClassVar[list[str]] = ["tokenizer_class", "update_embeddings", "max_seq_length"]
    packed = True

    def __init__(
        self, tokenizer: Any, embedding_weights: Any, update_embeddings: bool = False, max_seq_length: int = 1000000
    ) -> None:
        super().__init__()
        if not isinstance(tokenizer, WordTokenizer):
            if not hasattr(tokenizer, "convert_tokens_to_ids") or not hasattr(tokenizer, "save_pretrained"):
                raise InputError(
                    "tokenizer must be a WordTokenizer of fourfold.modules.tokenizer or a tokenizer of transformers, "
                    f"got {type(tokenizer).__name__}"
                )
            tokenizer = TransformersTokenizerWrapper(tokenizer)
        weights = torch.as_tensor(embedding_weights)
        if weights.ndim != 2:
            raise InputError(f"embedding_weights must be [words, width], got shape {tuple(weights.shape)}")
        self.tokenizer = tokenizer
        self.update_embeddings = update_embeddings
        self.max_seq_length = max_seq_length
        # A copy: training must not change the caller's array.
        weights = weights.detach().to(torch.float32, copy=True)
        self.emb_layer = nn.Embedding.from_pretrained(weights, freeze=not update_embeddings)

    @classmethod
    def example(cls) -> WordEmbeddings:
        """Return a tiny instance for tests."""
        tokenizer = WhitespaceTokenizer([PADDING_WORD, "a", "b", "c"], stop_words=())
        return cls(tokenizer, torch.arange(32).reshape(4, 8) / 32, update_embeddings=True)

    @property
    def tokenizer_class(self) -> str:
        """The string by which a saved folder names the tokenizer's class."""
        return type_string(type(self.tokenizer))

    @property
    def embeddings_dimension(self) -> int:
        """Width of the vectors."""
        return self.emb_layer.embedding_dim

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors."""
        return self.embeddings_dimension

    def tokenises(self, kwargs: Mapping[str, Any]) -> bool:
        """Always: no argument changes how texts become ids."""
        return True

    def tokenise(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Tokens:
        """Return the packed ids of texts, each with the prompt in front and cut to ``max_seq_length``."""
        return self.tokenizer.pack(check_single_texts(prepend(prompt, inputs), "WordEmbeddings"), self.max_seq_length)

    def pack(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into packed features.

        Returns:
            ``input_ids`` int64 ``[1, tokens]``, ``cu_seq_lens_q`` and ``cu_seq_lens_k`` int32 ``[rows + 1]``,
            ``max_length_q`` and ``max_length_k``, ``sentence_lengths`` int64 ``[rows]``, and ``packing``. Where no text
            has a word there is one token of filling.
        """
        ids = tokens.ids if len(tokens.ids) else np.zeros(1, dtype=np.int32)
        packing = Packing(tokens.offsets, len(ids) - len(tokens.ids))
        offsets = torch.from_numpy(tokens.offsets).int()
        return {
            "input_ids": torch.from_numpy(ids).long()[None], "sentence_lengths": torch.from_numpy(tokens.lengths),
            "cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets, "max_length_q": packing.longest,
            "max_length_k": packing.longest, "packing": packing,
        }  # fmt: skip

    def pad(self, tokens: Tokens, prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn packed ids into padded features, as :meth:`preprocess` returns them."""
        ids, mask = tokens.padded(0)
        if not ids.shape[1]:
            ids, mask = (np.zeros((len(tokens), 1), dtype=np.int64) for _ in range(2))
        return {
            "input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask),
            "sentence_lengths": torch.from_numpy(tokens.lengths),
        }  # fmt: skip

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Turn texts into padded features.

        Returns:
            ``input_ids``, padded on the right with 0, and ``attention_mask``, both int64 ``[rows, longest]`` and at
            least one wide; ``sentence_lengths`` int64 ``[rows]``, 0 for a text without words.
        """
        return self.pad(self.tokenise(inputs, prompt), prompt) if inputs else {}

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Write ``token_embeddings``, ``[rows, longest, width]`` if padded, ``[1, tokens, width]`` if packed.

        No word stands for its text, so ``cls_token_embeddings`` is None.
        """
        features["token_embeddings"] = self.emb_layer(needed(features, "input_ids", self))
        features["cls_token_embeddings"] = None
        return features

    # -- saving and loading ------------------------------------------------------------------------------------------

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings, the weights and the tokenizer."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization)
        self.tokenizer.save(output_path)
        save_code(self.tokenizer, Path(output_path))

    @classmethod
    def from_source(
        cls,
        source: Source,
        init_defaults: dict[str, Any] | None = None,
        *,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> WordEmbeddings:
        """Build the module from its folder; a tokenizer outside this library needs ``trust_remote_code``.

        Raises:
            MissingKeyError: If the settings name no ``tokenizer_class``.
        """
        config = {**(init_defaults or {}), **cls.read_config(source)}
        origin = source.pretty(cls.config_file_name)
        check_keys(cls, config, cls.config_keys, origin)
        if "tokenizer_class" not in config:
            raise MissingKeyError(f"{origin}: WordEmbeddings needs the key 'tokenizer_class'")
        kind = _tokenizer_class(config.pop("tokenizer_class"), source, origin, trust_remote_code)
        tensors = read_tensors(source)
        if _WEIGHT not in tensors:
            got = ", ".join(sorted(tensors)) or "nothing"
            raise MissingKeyError(f"weights in {source.pretty()} must hold {_WEIGHT!r}, got {got}")
        tokenizer = (
            kind.from_source(source, trust_remote_code=trust_remote_code)
            if issubclass(kind, WordTokenizer)
            else kind.load(str(source.folder()))
        )
        rows = len(tensors[_WEIGHT])
        if (size := len(tokenizer.get_vocab())) > rows:
            raise WeightsError(f"{source.pretty()}: the tokenizer knows {size} words, the weights have {rows} rows")
        return construct(cls, {"tokenizer": tokenizer, "embedding_weights": tensors[_WEIGHT], **config}, origin)

    @classmethod
    def from_text_file(
        cls,
        embeddings_file_path: str,
        update_embeddings: bool = False,
        item_separator: str = " ",
        tokenizer: WordTokenizer | None = None,
        max_vocab_size: int | None = None,
    ) -> WordEmbeddings:
        """Read vectors from a text file of word2vec, GloVe or fastText: a word and its numbers a line.

        A first line of two fields is word2vec's header and skipped. A line with another number of numbers than the
        first is skipped and logged. Id 0 is a padding word with a vector of zeros.

        Args:
            embeddings_file_path: The file; a name that ends in ``.gz`` is unpacked on the way.
            update_embeddings: Whether training changes the vectors.
            item_separator: What stands between the fields.
            tokenizer: Gets the words as its vocabulary; a :class:`~fourfold.modules.tokenizer.WhitespaceTokenizer` by
                default.
            max_vocab_size: Read the vectors of this many words, those of the first lines; None reads all.

        Raises:
            InputError: If there is no such file, or it holds no vectors or something else.
        """
        words, vectors = _read_text_file(Path(embeddings_file_path), item_separator, max_vocab_size)
        tokenizer = WhitespaceTokenizer() if tokenizer is None else tokenizer
        tokenizer.set_vocab(words)
        return cls(tokenizer, vectors, update_embeddings)


def _tokenizer_class(name: Any, source: Source, origin: str, trust_remote_code: bool) -> Any:
    """Return the class that ``tokenizer_class`` names, by the same rules as the classes of modules."""
    if not isinstance(name, str):
        raise UnknownModuleError(f"{origin}: 'tokenizer_class' must name a class, got {name!r}")
    if not is_library_type(name):
        root = replace(source, subfolder="")
        return foreign_class(name, root, origin, trust_remote_code=trust_remote_code, path=source.subfolder)
    known = tokenizer_name(name)
    if known is None or known not in tokenizers:
        raise UnknownModuleError(
            f"{origin}: unknown tokenizer class {name!r}; known tokenizers: {', '.join(tokenizers.names())}"
        )
    return tokenizers.get(known)


def _read_text_file(path: Path, separator: str, most: int | None) -> tuple[list[str], NDArray[np.float32]]:
    """Return the words of a file of vectors, the padding word first, and their vectors ``[words, width]``."""
    if not path.is_file():
        raise InputError(
            f"word vectors {str(path)!r} do not exist; download the file and give its path (none is fetched for you)"
        )
    words, numbers, width, number = [PADDING_WORD], array("f"), 0, 0
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if most is not None and len(words) > most:
                    break
                word, *fields = line.rstrip().split(separator)
                if number == 1 and len(fields) == 1:
                    continue
                if not fields or (width and len(fields) != width):
                    logger.error("%s, line %d: %d numbers instead of %d; skipped", path, number, len(fields), width)
                    continue
                width = len(fields)
                numbers.extend([float(field) for field in fields])
                words.append(word)
        except ValueError as error:  # includes text that is not UTF-8
            raise InputError(f"{path} holds no word vectors after line {number - 1}: {error}") from None
    if not width:
        raise InputError(f"{path} holds no word vectors")
    vectors = np.zeros((len(words), width), dtype=np.float32)
    vectors[1:] = np.frombuffer(numbers, dtype=np.float32).reshape(-1, width)
    return words, vectors
