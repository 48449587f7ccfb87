"""The folders of well-known published sparse models, rebuilt with tiny random weights, as in ``published.py``.

The generations differ: plain masked language models of before the sparse class, types of 5.0 to 5.3, of 5.4 to 6.1 and
of 6.2, models with one side that is only a table of weights, and sparse auto-encoders on dense bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.parity.published import FLAGS, NEWER_FLAGS, ST, Part, Published, length, pooling, transformer

from fourfold.testing import WIDTH, checkpoint, tiny

OLD, NEW = ".sparse_encoder.models", ".sparse_encoder.modules"
QUERY = "query_0_SparseStaticEmbedding"


def masked(architecture: str) -> Callable[[Path], None]:
    """Return what writes a masked language model's checkpoint."""

    def write(folder: Path) -> None:
        checkpoint(architecture, folder, head="masked")

    return write


def tokenizer_alone(folder: Path) -> None:
    """Write a checkpoint's tokenizer without its weights and settings."""
    checkpoint("bert", folder)
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()


# All tiny checkpoints have as many words.
SIZE = tiny("dense", "static")[0].num_embeddings


def splade(path: str = "1_SpladePooling", kind: str = f"{OLD}.SpladePooling", **settings: Any) -> Part:
    return Part(kind, path, {"pooling_strategy": "max", "activation_function": "relu", **settings})


def config(st: str = "5.0.0", **changes: Any) -> dict[str, Any]:
    return {
        "model_type": "SparseEncoder",
        "__version__": {"sentence_transformers": st, "transformers": "4.50.3", "pytorch": "2.6.0+cu124"},
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "dot",
        **changes,
    }


def mlm(path: str = "", kind: str = f"{OLD}.MLMTransformer") -> Part:
    return transformer(path, kind)


def router(types: dict[str, str], structure: dict[str, list[str]], **parameters: Any) -> dict[str, Any]:
    return {
        "types": {name: f"{ST}{kind}" for name, kind in types.items()},
        "structure": structure,
        "parameters": {"default_route": "document", "allow_empty_key": True, **parameters},
    }


def routed(document: str, *, root: str = f"{OLD}.Router", **types: str) -> dict[str, Any]:
    """Return the fields of a row whose queries are looked up and whose documents run through a model."""
    kinds = {
        QUERY: f"{OLD}.SparseStaticEmbedding",
        document: f"{OLD}.MLMTransformer",
        "document_1_SpladePooling": f"{OLD}.SpladePooling",
        **types,
    }
    structure = {"query": [QUERY], "document": [document, "document_1_SpladePooling"]}
    return {
        "parts": (Part(root, ""),),
        "inside": document,
        "files": {"router_config.json": router(kinds, structure)},
        "tokenizers": (QUERY,),
        "config": config(),
    }


def table(**settings: Any) -> Part:
    """Return the folder of queries' weights."""
    return Part("", QUERY, {"frozen": True, **settings}, {"weight": (SIZE,)})


def auto_encoder(path: str = "2_SparseAutoEncoder", kind: str = f"{OLD}.SparseAutoEncoder", **settings: Any) -> Part:
    values = {
        "input_dim": WIDTH,
        "hidden_dim": 4 * WIDTH,
        "k": 8,
        "k_aux": 16,
        "normalize": False,
        "dead_threshold": 30,
    }
    weights = {"pre_bias": (WIDTH,), "latent_bias": (4 * WIDTH,), "decoder.linear.weight": (4 * WIDTH, WIDTH)}
    return Part(kind, path, {**values, **settings}, weights, counts={"stats_last_nonzero": (4 * WIDTH,)})


IDF = {"the": 0.5, "world": 6.25, "text": 3.5, "a": 0.25, "##s": 0.125, "query": 5, "[PAD]": 2.0}
NAVER = {"transformer": length(51), "config": config()}

ROWS: dict[str, Published] = {
    "naver/splade_v2_max": Published((), masked("bert"), listed=False),
    "naver/splade_v2_distil": Published((), masked("distilbert"), listed=False),
    "naver/splade-cocondenser-ensembledistil": Published(
        (mlm(), splade(word_embedding_dimension=SIZE)), masked("bert"), **NAVER
    ),
    "naver/splade-v3": Published((mlm(), splade(word_embedding_dimension=None)), masked("bert"), **NAVER),
    "naver/splade-v3-distilbert": Published(
        (mlm(), splade(word_embedding_dimension=SIZE)), masked("distilbert"), **NAVER
    ),
    "naver/splade-v3-doc": Published(
        checkpoint=masked("bert"), transformer=length(51), within=(table(), splade("document_1_SpladePooling")),
        **routed("document_0_MLMTransformer"),
    ),
    "naver/efficient-splade-VI-BT-large-doc": Published(
        (mlm(), splade("1_SpladePooling", f"{OLD}.SpladePooling.SpladePooling", pooling_strategy="sum")),
        masked("distilbert"), **NAVER,
    ),
    "prithivida/Splade_PP_en_v2": Published(
        (mlm(kind=f"{OLD}.MLMTransformer.MLMTransformer"), splade(word_embedding_dimension=SIZE)), masked("bert"),
        transformer=length(51, lower=True),
        config=config(prompts={"query": "query: ", "document": "text: "}, max_active_dims=40),
        encodes={"few": lambda m: m.encode(["the quick text"], max_active_dims=3)},
    ),
    "ibm-granite/granite-embedding-30m-sparse": Published(
        (mlm(), splade(word_embedding_dimension=SIZE)), masked("roberta"), transformer=length(51),
        config=config("4.2.0.dev0", similarity_fn_name=None),
        encodes={"the strongest": lambda m: m.encode(["long words", "a"], max_active_dims=19)},
    ),
    "opensearch-project/opensearch-neural-sparse-encoding-doc-v2-distill": Published(
        checkpoint=masked("distilbert"), transformer=length(51),
        within=(table(), splade("document_1_SpladePooling", word_embedding_dimension=SIZE)), **routed(""),
    ),
    "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-distill": Published(
        checkpoint=masked("distilbert"), transformer=length(51),
        within=(table(), splade("document_1_SpladePooling", activation_function="log1p_relu")), **routed(""),
    ),
    "opensearch-project/opensearch-neural-sparse-encoding-multilingual-v1": Published(
        checkpoint=masked("bert"), transformer=length(51),
        within=(Part("", QUERY, {"frozen": False, "path": "idf.json"}),
                splade("document_1_SpladePooling", activation_function="log1p_relu")),
        **{**(made := routed("")), "files": {**made["files"], "idf.json": IDF}},
    ),
    "opensearch-project/opensearch-neural-sparse-encoding-v2-distill": Published(
        (mlm(), splade(word_embedding_dimension=SIZE)), masked("distilbert"), **NAVER
    ),
    "sparse-encoder/example-inference-free-splade-distilbert-base-uncased-nq": Published(
        checkpoint=masked("distilbert"), transformer=length(51),
        within=(table(frozen=False), splade("document_1_SpladePooling", word_embedding_dimension=SIZE)),
        **routed("document_0_MLMTransformer", root=".models.Router"),
    ),
    "sparse-encoder/example-splade-co-condenser-marco-msmarco-rerankers": Published(
        (mlm(), splade(word_embedding_dimension=SIZE)), masked("bert"), transformer=length(25), config=config("5.1.0"),
        dtype=torch.bfloat16, backbone={"torch_dtype": "bfloat16"},
    ),
    "yjoonjang/splade-ko-v1": Published(
        (mlm(), splade(word_embedding_dimension=SIZE)), masked("modernbert"), transformer=length(81),
        config=config("5.1.1", similarity_fn_name="cosine"),
    ),
    "a SPLADE model of 5.4": Published(
        (
            transformer(kind=".base.modules.transformer.Transformer"),
            splade(kind=f"{NEW}.splade_pooling.SpladePooling", embedding_dimension=SIZE),
        ),
        masked("roberta"), config=config("5.4.0", similarity_fn_name=None),
        transformer={
            "transformer_task": "fill-mask",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            "module_output_name": "token_embeddings",
        },
    ),
    "an MLMTransformer of 5.4": Published(
        (mlm(kind=f"{NEW}.mlm_transformer.MLMTransformer"),
         splade(kind=f"{NEW}.SpladePooling", embedding_dimension=None)),
        masked("bert"), transformer={}, config=config("5.4.0"),
    ),
    "an inference-free model of 6.x": Published(
        (Part(".base.modules.router.Router", ""),), masked("bert"), "document_0_Transformer",
        transformer={
            "transformer_task": "fill-mask",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            "module_output_name": "token_embeddings",
        },
        within=(table(frozen=False), splade("document_1_SpladePooling", embedding_dimension=None)),
        tokenizers=(QUERY,), config=config("6.0.0", similarity_fn_name=None),
        files={"router_config.json": router(
            {QUERY: f"{NEW}.sparse_static_embedding.SparseStaticEmbedding",
             "document_0_Transformer": ".base.modules.transformer.Transformer",
             "document_1_SpladePooling": f"{NEW}.splade_pooling.SpladePooling"},
            {"query": [QUERY], "document": ["document_0_Transformer", "document_1_SpladePooling"]}, route_mappings={},
        )},
    ),
    "a table of weights alone": Published(
        (Part(f"{OLD}.SparseStaticEmbedding", "", {"frozen": False}, {"weight": (SIZE,)}),), tokenizer_alone,
        config=config(),
    ),
    "sparse-encoder/example-csr-mxbai-embed-large-v1-nq": Published(
        (transformer(), pooling("cls_token", NEWER_FLAGS, include_prompt=True), auto_encoder()), "bert",
        transformer=length(51), config=config(max_active_dims=8),
        encodes={"fewer": lambda m: m.encode(["the text", "words"], max_active_dims=2)},
    ),
    "a CSR model that normalizes": Published(
        (transformer(kind=f"{OLD}.Transformer"), pooling(flags=FLAGS), auto_encoder(normalize=True, k=5)), "qwen3",
        transformer=length(51), config=config("5.2.0"),
    ),
    "a CSR model of 6.x": Published(
        (
            transformer(kind=".base.modules.transformer.Transformer"),
            Part(".sentence_transformer.modules.pooling.Pooling", "1_Pooling",
                 {"embedding_dimension": WIDTH, "pooling_mode": "mean", "include_prompt": True}),
            auto_encoder(kind=f"{NEW}.sparse_auto_encoder.SparseAutoEncoder"),
        ),
        "distilbert", config=config("6.1.0", max_active_dims=6),
        transformer={
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
    ),
}  # fmt: skip
