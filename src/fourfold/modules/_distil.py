"""Static vectors of a transformer's tokens: each token alone through the model, principal axes, rare tokens longer.

The method is model2vec's (Tulkens & van Dongen 2024), rebuilt from its documentation and outputs. Each token runs
through the transformer between the special tokens of its tokenizer; its vector is the mean of the last layer. The
vectors are projected on their principal axes and weighted as Arora et al. 2017 do (smooth inverse frequency, SIF),
with frequencies guessed from the rank in the vocabulary by Zipf's law.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from fourfold.containers import Tokens
from fourfold.errors import InputError, did_you_mean
from fourfold.modules._segments import segments_of
from fourfold.modules.transformer import Transformer
from fourfold.ops import pooling
from fourfold.ops.linear import fastest_linear
from fourfold.store.layouts import part_name
from fourfold.store.manifest import read_modules
from fourfold.store.source import Source, locate
from fourfold.text import vocabulary as vocabularies

logger = logging.getLogger(__name__)

_BATCH_TOKENS = 4096
_POOLING = {"mean": pooling.mean, "last": pooling.last, "first": pooling.cls}
_FLOATS = {"float16": np.float16, "float32": np.float32, "float64": np.float64}


@dataclass(frozen=True)
class Recipe:
    """How a transformer becomes a table of vectors.

    Attributes:
        vocabulary: Words that are to be one token each, besides the tokenizer's own.
        use_subword: Whether the tokenizer's own tokens stay.
        remove: Tokens whose beginning this regular expression matches are left out.
        pooling: ``mean``, ``last`` or ``first``: what of a token's states counts.
        pca_dims: Width of the vectors; ``"auto"`` keeps it, None skips the principal axes.
        apply_zipf: Whether frequent tokens get shorter vectors.
        sif: The smaller, the shorter they are; None takes the logarithm of the rank.
        quantize_to: Type of the numbers.

    Raises:
        InputError: If one of them is unusable.
    """

    vocabulary: Sequence[str] | None = None
    use_subword: bool = True
    remove: str | None = None
    pooling: str = "mean"
    pca_dims: int | str | None = None
    apply_zipf: bool = True
    sif: float | None = None
    quantize_to: str = "float32"

    def __post_init__(self) -> None:
        if self.vocabulary is None and not self.use_subword:
            raise InputError("use_subword=False needs a vocabulary: no token would be left")
        try:
            re.compile(self.remove or "")
        except re.error as error:
            raise InputError(f"token_remove_pattern {self.remove!r} is no regular expression: {error}") from None
        _one_of("pooling", self.pooling, _POOLING)
        _one_of("quantize_to", self.quantize_to, [*_FLOATS, "int8"])
        dims = self.pca_dims
        if dims not in (None, "auto") and (not isinstance(dims, int) or dims < 1):
            raise InputError(f"pca_dims must be a positive number, 'auto' or None, got {dims!r}")
        if self.sif is not None and not 0 < self.sif < 1:
            raise InputError(f"sif_coefficient must lie between 0 and 1, both excluded, or be None; got {self.sif!r}")


def _one_of(argument: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise InputError(f"{argument} must be one of {', '.join(known)}; got {value!r}.{did_you_mean(value, known)}")


def distil(
    name: str, recipe: Recipe, *, device: str | torch.device | None = None, loading: dict[str, Any] | None = None
) -> tuple[Tokenizer, NDArray[Any]]:
    """Return a tokenizer and the vectors ``[vocabulary, width]`` of its tokens.

    Args:
        name: Folder or hub name of a transformer, or of a saved model whose first module is one.
        recipe: How.
        device: Where the transformer runs; a CUDA device, where there is one, by default.
        loading: Keyword arguments of ``Transformer.load``.
    """
    transformer = _transformer(name, loading or {})
    tokenizer, rows = vocabulary_of(transformer.tokenizer, recipe)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    vectors = principal_axes(token_vectors(transformer, rows, device, recipe.pooling), recipe.pca_dims)
    if recipe.apply_zipf:
        vectors = (vectors * frequency_weights(len(vectors), recipe.sif)[:, None]).astype(np.float32)
    return tokenizer, quantised(vectors, recipe.quantize_to)


def _transformer(name: str, loading: dict[str, Any]) -> Any:
    revision, token, cache = (loading.get(key) for key in ("revision", "token", "cache_folder"))
    source = Source(locate(name, None), revision, token, cache, bool(loading.get("local_files_only")))
    entries = read_modules(source)
    if entries and part_name(entries[0].type) not in (None, "Transformer"):
        raise InputError(f"from_distillation needs a transformer; the first module of {name} is {entries[0].type}")
    return Transformer.load(source.name, entries[0].path if entries else "", **loading)


def vocabulary_of(tokenizer: Any, recipe: Recipe) -> tuple[Tokenizer, list[list[int]]]:
    """Return the tokenizer of a static model, and what the transformer reads for each of its tokens.

    Args:
        tokenizer: The transformer's tokenizer, of transformers.
        recipe: Which tokens are kept, and which added.
    """
    base = getattr(tokenizer, "backend_tokenizer", None)
    if base is None:
        raise InputError(f"from_distillation needs a fast tokenizer, {type(tokenizer).__name__} is none")
    base = Tokenizer.from_str(base.to_str())
    base.no_truncation()
    base.no_padding()
    pattern = None if recipe.remove is None else re.compile(recipe.remove)
    special = {added.content for added in base.get_added_tokens_decoder().values() if added.special}
    special -= {tokenizer.pad_token, tokenizer.unk_token, vocabularies.unknown_token(base)}

    def drop(token: str) -> bool:
        if token in (tokenizer.pad_token, tokenizer.unk_token):
            return False
        return token in special or not recipe.use_subword or (pattern is not None and pattern.match(token) is not None)

    pruned, kept = vocabularies.without(base, drop)
    added = vocabularies.add_words(pruned, recipe.vocabulary or ())
    before, after = vocabularies.surroundings(base)
    inner = [[number] for number in kept]
    inner += [encoding.ids for encoding in base.encode_batch(added, add_special_tokens=False)]
    if not inner:
        raise InputError("no token is left: token_remove_pattern removes them all")
    return pruned, [[*before, *ids, *after] for ids in inner]


def token_vectors(transformer: Any, rows: list[list[int]], device: str | torch.device, mode: str) -> NDArray[Any]:
    """Return the pooled last layer of each row of ids, float32 ``[rows, width]``.

    Args:
        transformer: A :class:`~fourfold.modules.Transformer`.
        rows: Token ids, special tokens included.
        device: Where to run.
        mode: ``mean``, ``last`` or ``first``: what of a row's tokens counts.
    """
    transformer.eval().to(device)
    tokens = Tokens.of(rows)
    order = np.argsort(-tokens.lengths, kind="stable")
    size = max(1, _BATCH_TOKENS // max(int(tokens.lengths.max(initial=1)), 1))
    vectors: NDArray[np.float32] | None = None
    with torch.inference_mode(), fastest_linear(torch.device(device)):
        for start in range(0, len(rows), size):
            chosen = order[start : start + size]
            part = _pooled(transformer, tokens.take(chosen), device, _POOLING[mode])
            vectors = np.empty((len(rows), part.shape[1]), np.float32) if vectors is None else vectors
            vectors[chosen] = part.float().cpu().numpy()
    assert vectors is not None
    # A model in half precision may overflow on a token that it has never seen.
    return np.nan_to_num(vectors, copy=False)


def _pooled(transformer: Any, tokens: Tokens, device: Any, pool: Callable[..., Tensor]) -> Tensor:
    features = transformer.pack(tokens) if transformer.packs({}) else transformer.pad(tokens)
    features = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in features.items()}
    hidden = transformer(features).get("token_embeddings")
    if hidden is None:
        raise InputError(f"from_distillation needs token vectors, {type(transformer.model).__name__} gives none")
    return pool(hidden.reshape(-1, hidden.shape[-1]), segments_of(features, hidden))


def principal_axes(vectors: NDArray[np.float32], dims: int | str | None) -> NDArray[np.float32]:
    """Return the vectors centred and on their first ``dims`` principal axes, ``[rows, min(dims, width)]``.

    None changes nothing; ``"auto"`` keeps the width. Each axis points to where its largest number is positive.
    """
    if dims is None:
        return vectors
    width = vectors.shape[1]
    if isinstance(dims, int) and dims > width:
        logger.warning("pca_dims=%d exceeds the width %d of the model's vectors; all of it is kept", dims, width)
    wanted = width if isinstance(dims, str) else min(dims, width)
    centred = vectors.astype(np.float64)
    centred -= centred.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    projected = centred @ axes[:, ::-1][:, :wanted]
    largest = projected[np.abs(projected).argmax(axis=0), np.arange(wanted)]
    return (projected * np.where(largest < 0, -1.0, 1.0)).astype(np.float32)


def frequency_weights(count: int, sif: float | None) -> NDArray[np.float64]:
    """Return a weight for each token of a vocabulary sorted by falling frequency.

    With ``sif`` it is ``sif / (sif + p)``, where ``p`` falls as one over the rank; without, the logarithm of the rank.
    """
    ranks = np.arange(count) + 2.0
    if sif is None:
        return np.log(ranks)
    share = (1 / ranks) / (1 / ranks).sum()
    return sif / (sif + share)


def quantised(vectors: NDArray[np.float32], kind: str) -> NDArray[Any]:
    """Return the vectors in a floating-point type, or as whole numbers from -127 to 127 (``int8``)."""
    if kind == "int8":
        scale = np.abs(vectors).max(initial=0) / 127
        return np.rint(vectors / (scale or 1)).astype(np.int8)
    return vectors.astype(_FLOATS[kind])
