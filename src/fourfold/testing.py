"""Tiny seeded models, made on the spot: for fourfold's tests and for yours. No download, milliseconds each.

The weights are random, so the vectors mean nothing; shapes, formats and numerical equalities are what they are for.
"""

from __future__ import annotations

import string
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from fourfold.errors import InputError, did_you_mean, require

if TYPE_CHECKING:
    from fourfold.families.cross import CrossEncoder
    from fourfold.families.dense import SentenceTransformer
    from fourfold.families.sparse import SparseEncoder

WIDTH = 32
LONGEST = 128

_SIZE = {
    "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": LONGEST,
}  # fmt: skip
_DECODER = {**_SIZE, "num_key_value_heads": 2, "head_dim": 8}
_WORDS = ["the", "a", "an", "of", "and", "to", "in", "is", "query", "document", "text", "short", "long", "world"]


@dataclass(frozen=True)
class Architecture:
    """How a tiny checkpoint of one architecture is made.

    Attributes:
        config: Name of its transformers config class.
        options: Arguments of the config.
        pad_first: Whether the padding id is 0; else it is 1, as in RoBERTa.
        decoder: Whether texts end in an end-of-text token alone, without a start token.
        segments: Whether the tokenizer makes ``token_type_ids``.
    """

    config: str
    options: dict[str, Any] = field(default_factory=lambda: dict(_SIZE))
    pad_first: bool = True
    decoder: bool = False
    segments: bool = False


# RoBERTa's positions begin after its padding index, hence two more.
_ROBERTA = {**_SIZE, "max_position_embeddings": LONGEST + 2, "type_vocab_size": 1}
_MODERNBERT = {
    **_SIZE, "num_hidden_layers": 3, "global_attn_every_n_layers": 3, "local_attention": 16, "global_rope_theta":
    1000.0,
}  # fmt: skip
_GEMMA = {
    **_DECODER,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 8,
}
_DISTILBERT = {"dim": WIDTH, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": LONGEST}

ARCHITECTURES: dict[str, Architecture] = {
    "albert": Architecture("AlbertConfig", {**_SIZE, "embedding_size": 16}, segments=True),
    "bert": Architecture("BertConfig", segments=True),
    "camembert": Architecture("CamembertConfig", _ROBERTA, pad_first=False),
    "deberta_v2": Architecture(
        "DebertaV2Config", {**_SIZE, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    ),
    "distilbert": Architecture("DistilBertConfig", _DISTILBERT),
    "electra": Architecture("ElectraConfig", {**_SIZE, "embedding_size": 16}, segments=True),
    "gemma3": Architecture("Gemma3TextConfig", _GEMMA, decoder=True),
    "llama": Architecture("LlamaConfig", _DECODER, decoder=True),
    "mistral": Architecture("MistralConfig", {**_DECODER, "sliding_window": 16}, decoder=True),
    "modernbert": Architecture("ModernBertConfig", _MODERNBERT),
    "mpnet": Architecture("MPNetConfig", {**_SIZE, "max_position_embeddings": LONGEST + 2}, pad_first=False),
    "qwen2": Architecture("Qwen2Config", _DECODER, decoder=True),
    "qwen3": Architecture("Qwen3Config", _DECODER, decoder=True),
    "roberta": Architecture("RobertaConfig", _ROBERTA, pad_first=False),
    "t5": Architecture(
        "T5Config", {"d_model": WIDTH, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}, decoder=True
    ),
    "xlm_roberta": Architecture("XLMRobertaConfig", _ROBERTA, pad_first=False),
}

# The transformers class of a checkpoint, by what its head does.
HEADS = {
    None: "AutoModel",
    "masked": "AutoModelForMaskedLM",
    "causal": "AutoModelForCausalLM",
    "labels": "AutoModelForSequenceClassification",
}


def checkpoint(
    architecture: str, folder: str | Path, *, seed: int = 0, head: str | None = None, **options: Any
) -> Path:
    """Write a tiny transformers checkpoint with its tokenizer, and return the folder.

    Args:
        architecture: A key of :data:`ARCHITECTURES`.
        folder: Where to write.
        seed: Seed of the random weights.
        head: A key of :data:`HEADS`: ``masked`` and ``causal`` predict tokens, ``labels`` scores whole texts. None is
            none.
        **options: Further settings of the config, such as ``num_labels``.

    Raises:
        InputError: If the architecture or the head is unknown, or the architecture has no such head.
    """
    require("transformers", "torch", "fourfold.testing")
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(
            f"architecture must be one of {known}; got {architecture!r}.{did_you_mean(architecture, ARCHITECTURES)}"
        )
    if head not in HEADS:
        raise InputError(f"head must be one of {', '.join(map(str, HEADS))}; got {head!r}")
    import torch
    import transformers

    made = ARCHITECTURES[architecture]
    tokenizer = _tokenizer(made)
    special = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "cls", "sep")
    }
    config = getattr(transformers, made.config)(vocab_size=len(tokenizer), **{**special, **made.options, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "t5" and head is None:
            model = transformers.T5EncoderModel(config)
        else:
            model = _from_config(getattr(transformers, HEADS[head]), config)
        _spread(model)
    folder = Path(folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _from_config(auto: Any, config: Any) -> Any:
    if type(config) not in auto._model_mapping:
        raise InputError(f"{config.model_type} has no {auto.__name__.removeprefix('AutoModelFor')} head")
    return auto.from_config(config)


def _spread(model: Any) -> None:
    """Make the weights large enough that texts differ clearly: fresh ones are so small that many mistakes hide."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)


def _tokenizer(made: Architecture) -> Any:
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    specials = ["[PAD]", "[CLS]"] if made.pad_first else ["[CLS]", "[PAD]"]
    specials += ["[SEP]", "[UNK]", "[MASK]"]
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    vocabulary = dict.fromkeys([*specials, *letters, *(f"##{letter}" for letter in letters), *_WORDS])
    numbered = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(numbered, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    single, pair = (
        ("$A [SEP]", "$A $B:1 [SEP]:1") if made.decoder else ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    )
    ids = [(token, numbered[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        mask_token="[MASK]", bos_token="[CLS]", eos_token="[SEP]", model_max_length=LONGEST,
        padding_side="left" if made.decoder else "right",
        model_input_names=["input_ids", *(["token_type_ids"] if made.segments else []), "attention_mask"],
    )  # fmt: skip


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fourfold-testing-")


@cache
def tiny_folder(kind: str = "dense", architecture: str = "bert", seed: int = 0) -> Path:
    """Return the folder of a tiny saved model, made on the first call and removed when Python ends."""
    folder = Path(_scratch().name, f"{kind}-{architecture}-{seed}")
    tiny(kind, architecture, seed=seed).save(folder)
    return folder


@overload
def tiny(
    kind: Literal["dense"] = ..., architecture: str = ..., *, seed: int = ..., **options: Any
) -> SentenceTransformer: ...
@overload
def tiny(kind: Literal["sparse"], architecture: str = ..., *, seed: int = ..., **options: Any) -> SparseEncoder: ...
@overload
def tiny(kind: Literal["cross"], architecture: str = ..., *, seed: int = ..., **options: Any) -> CrossEncoder: ...
@overload
def tiny(kind: str, architecture: str = ..., *, seed: int = ..., **options: Any) -> Any: ...
def tiny(kind: str = "dense", architecture: str = "bert", *, seed: int = 0, **options: Any) -> Any:
    """Return a tiny model with random weights.

    Args:
        kind: The family: ``dense``, ``sparse`` or ``cross``.
        architecture: A key of :data:`ARCHITECTURES`, or ``static`` for a vector or a weight a token, without a
            transformer. A sparse model is SPLADE, or has a sparse auto-encoder on a decoder; a cross encoder has one
            label, or scores by the logits of a decoder.
        seed: Seed of the weights.
        **options: Further arguments of the family's class.

    >>> tiny("dense").get_embedding_dimension()
    32
    """
    if kind not in _KINDS:
        raise InputError(f"kind must be one of {', '.join(_KINDS)}; got {kind!r}.{did_you_mean(kind, _KINDS)}")
    require("torch", "torch", "fourfold.testing.tiny")
    import fourfold

    modules = _KINDS[kind](architecture, seed)
    return getattr(fourfold, _CLASSES[kind])(modules=modules, **{"device": "cpu", **options})


def _dense(architecture: str, seed: int) -> list[Any]:
    from fourfold.modules import Normalize, Pooling, StaticEmbedding, Transformer

    if architecture == "static":
        import torch

        generator = torch.Generator().manual_seed(seed)
        tokenizer = _tokenizer(ARCHITECTURES["bert"])
        return [StaticEmbedding(tokenizer, torch.randn(len(tokenizer), WIDTH, generator=generator)), Normalize()]
    mode = "lasttoken" if ARCHITECTURES[architecture].decoder else "mean"
    return [Transformer(str(_saved(architecture, seed))), Pooling(WIDTH, mode), Normalize()]


def _sparse(architecture: str, seed: int) -> list[Any]:
    from fourfold.modules import SparseAutoEncoder, SparseStaticEmbedding, SpladePooling, Transformer

    if architecture == "static":
        import torch

        generator = torch.Generator().manual_seed(seed)
        tokenizer = _tokenizer(ARCHITECTURES["bert"])
        return [SparseStaticEmbedding(tokenizer, torch.rand(len(tokenizer), generator=generator) * 5)]
    if ARCHITECTURES[architecture].decoder:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            top = SparseAutoEncoder(WIDTH, hidden_dim=4 * WIDTH, k=8, k_aux=16)
        return [*_dense(architecture, seed)[:2], top]
    folder = _saved(architecture, seed, "masked")
    return [Transformer(str(folder), transformer_task="fill-mask"), SpladePooling()]


def _cross(architecture: str, seed: int) -> list[Any]:
    from fourfold.modules import LogitScore, Transformer

    if ARCHITECTURES[architecture].decoder:
        transformer = Transformer(str(_saved(architecture, seed, "causal")), transformer_task="text-generation")
        return [transformer, LogitScore(*transformer.tokenizer.convert_tokens_to_ids(["query", "document"]))]
    folder = _saved(architecture, seed, "labels", num_labels=1)
    return [Transformer(str(folder), transformer_task="sequence-classification")]


_KINDS = {"dense": _dense, "sparse": _sparse, "cross": _cross}
_CLASSES = {"dense": "SentenceTransformer", "sparse": "SparseEncoder", "cross": "CrossEncoder"}


def _saved(architecture: str, seed: int, head: str | None = None, **options: Any) -> Path:
    """Return the folder of a tiny checkpoint, made on the first call."""
    folder = Path(_scratch().name, "-".join(["checkpoint", architecture, str(seed), *([head] if head else [])]))
    if not folder.exists():
        checkpoint(architecture, folder, seed=seed, head=head, **options)
    return folder
