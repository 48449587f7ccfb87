"""The folders of well-known published cross encoders, rebuilt with tiny random weights, as in ``published.py``.

The generations differ: transformers folders with a classification head, whose activation is named by an older key, by
the one of 4.0 to 5.3, or not at all; language models without modules, and with those of 5.4 and later.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tests.parity.published import NEWER_FLAGS, Part, Published, transformer, write_json

from fourfold.testing import WIDTH, checkpoint

IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
OLDEST = {"sbert_ce_default_activation_function": IDENTITY}
NLI = {0: "contradiction", 1: "entailment", 2: "neutral"}
# As Qwen3-Reranker's repository has it, but for its special tokens.
CHAT = (
    "{% set ns = namespace(query='', document='', instruct='Given a web search query, retrieve passages') %}"
    "{% for m in messages %}{% if m['role'] == 'system' %}{% set ns.instruct = m['content'] %}"
    "{% elif m['role'] == 'query' %}{% set ns.query = m['content'] %}"
    "{% elif m['role'] == 'document' %}{% set ns.document = m['content'] %}{% endif %}{% endfor %}"
    "system judge the document user instruct: {{ ns.instruct }} query: {{ ns.query }} document: {{ ns.document }} "
    "assistant"
)


def classifies(
    architecture: str, labels: int | dict[int, str] = 1, *, pickled: bool = False, slow: bool = False, **options: Any
) -> Callable[[Path], None]:
    """Return what writes a checkpoint with a classification head.

    Args:
        architecture: Its kind.
        labels: Their number, or names.
        pickled: Whether its weights are ``pytorch_model.bin``.
        slow: Whether its words are ``vocab.txt``, without ``tokenizer.json``.
        **options: Further settings of the config.
    """
    named = isinstance(labels, dict)
    heads = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}} if named else {"num_labels": labels}

    def write(folder: Path) -> None:
        checkpoint(architecture, folder, head="labels", **heads, **options)
        if pickled:
            torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
            (folder / "model.safetensors").unlink()
        if slow:
            from tokenizers import Tokenizer

            words = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
            (folder / "vocab.txt").write_text("\n".join(sorted(words, key=words.__getitem__)) + "\n")
            (folder / "tokenizer.json").unlink()
            write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})

    return write


def answers(architecture: str) -> Callable[[Path], None]:
    """Return what writes a language model whose vocabulary has the words yes and no."""

    def write(folder: Path) -> None:
        checkpoint(architecture, folder, head="causal")
        path = folder / "tokenizer.json"
        path.write_text(path.read_text().replace('"world"', '"yes"').replace('"long"', '"no"'))

    return write


def named(version: str = "4.1.0.dev0", activation: str = IDENTITY) -> dict[str, Any]:
    """Return what saves of 4.0 to 5.3 add to ``config.json``."""
    return {"sentence_transformers": {"activation_fn": activation, "version": version}}


def config(st: str = "5.4.0", activation: str = IDENTITY, **changes: Any) -> dict[str, Any]:
    """Return ``config_sentence_transformers.json`` of 5.4 and later."""
    return {
        "__version__": {"sentence_transformers": st, "transformers": "5.4.0", "pytorch": "2.10.0+cu128"},
        "activation_fn": activation,
        "default_prompt_name": None,
        "model_type": "CrossEncoder",
        "prompts": {},
        **changes,
    }


def task(name: str, output: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    """Return ``sentence_bert_config.json`` of 5.4 and later."""
    modality = {kind: {"method": "forward", "method_output_name": "logits"}}
    if kind == "message":
        modality = {"text": modality["message"], "message": {**modality["message"], "format": "flat"}}
    return {"transformer_task": name, "modality_config": modality, "module_output_name": output, **more}


MODULES = ".cross_encoder.modules"
CLASSIFIER = task("sequence-classification", "scores")

ROWS: dict[str, Published] = {
    "cross-encoder/ms-marco-MiniLM-L6-v2": Published(
        (), classifies("bert"), backbone={**named(), "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}},
        tokenizer={"model_max_length": 50}, listed=False,
    ),
    "cross-encoder/ms-marco-TinyBERT-L2-v2": Published(
        (), classifies("bert"), backbone=named("5.0.0"), listed=False,
    ),
    "cross-encoder/ms-marco-electra-base": Published((), classifies("electra"), backbone=OLDEST, listed=False),
    "an ms-marco model of before 4.0": Published(
        (), classifies("bert", pickled=True, slow=True), backbone=OLDEST, listed=False,
    ),
    "cross-encoder/stsb-roberta-base": Published((), classifies("roberta"), listed=False),
    "cross-encoder/quora-distilroberta-base": Published(
        (), classifies("roberta"), backbone=named("4.1.0.dev0", SIGMOID), listed=False,
    ),
    "cross-encoder/qnli-electra-base": Published((), classifies("electra"), listed=False),
    "cross-encoder/nli-deberta-v3-base": Published((), classifies("deberta_v2", NLI), backbone=OLDEST, listed=False),
    "cross-encoder/nli-distilroberta-base": Published((), classifies("roberta", NLI), backbone=named(), listed=False),
    "cross-encoder/mmarco-mMiniLMv2-L12-H384-v1": Published(
        (), classifies("xlm_roberta"), backbone=OLDEST, listed=False,
    ),
    "antoinelouis/crossencoder-camembert-base-mmarcoFR": Published(
        (), classifies("camembert"), backbone=OLDEST, listed=False,
    ),
    "amberoad/bert-multilingual-passage-reranking-msmarco": Published((), classifies("bert", 2), listed=False),
    "BAAI/bge-reranker-base": Published((), classifies("xlm_roberta"), listed=False),
    "BAAI/bge-reranker-v2-m3": Published((), classifies("xlm_roberta", pickled=True), listed=False),
    "mixedbread-ai/mxbai-rerank-base-v1": Published((), classifies("deberta_v2"), listed=False),
    "Alibaba-NLP/gte-reranker-modernbert-base": Published(
        (), classifies("modernbert", classifier_pooling="mean"), listed=False,
    ),
    "tomaarsen/reranker-ModernBERT-base-gooaq-bce": Published(
        (), classifies("modernbert", classifier_pooling="mean"), backbone=named("4.0.0.dev0", SIGMOID), listed=False,
    ),
    "ibm-granite/granite-embedding-reranker-english-r2": Published(
        (), classifies("modernbert", classifier_pooling="cls"), backbone=named("5.0.0", SIGMOID), listed=False,
    ),
    "tomaarsen/Qwen3-Reranker-0.6B-seq-cls": Published((), classifies("qwen3"), listed=False),
    "a Llama classifier in bfloat16": Published((), classifies("llama"), dtype=torch.bfloat16, listed=False),
    "Qwen/Qwen3-Reranker-0.6B": Published(
        (
            transformer(kind=".base.modules.transformer.Transformer"),
            Part(
                f"{MODULES}.logit_score.LogitScore", "1_LogitScore",
                {"true_token_id": 30, "false_token_id": 31, "module_input_name": "causal_logits"},
            ),
        ),
        answers("qwen3"), transformer=task("text-generation", "causal_logits", "message"), config=config(
            prompts={"web": "Given a web search query, retrieve relevant passages that answer the query"},
            default_prompt_name="web",
        ),
        tokenizer={"chat_template": CHAT},
    ),
    "Qwen/Qwen3-Reranker-0.6B, before it had modules": Published((), answers("qwen3"), listed=False),
    "mixedbread-ai/mxbai-rerank-base-v2": Published(
        (
            transformer(kind=".base.modules.transformer.Transformer"),
            Part(f"{MODULES}.LogitScore", "1_LogitScore", {"true_token_id": 40, "false_token_id": 12}),
        ),
        answers("qwen2"), transformer=task("text-generation", "causal_logits", "message"), config=config("5.4.1"),
        tokenizer={"chat_template": CHAT},
    ),
    "a score of one token alone": Published(
        (
            transformer(kind=f"{MODULES}.Transformer"),
            Part(f"{MODULES}.LogitScore", "1_LogitScore", {"true_token_id": 9, "false_token_id": None}),
        ),
        answers("llama"), transformer=task("text-generation", "causal_logits"), config=config(activation=SIGMOID),
    ),
    "a classifier saved by 5.4": Published(
        (transformer(kind=".base.modules.Transformer"),), classifies("bert"), transformer=CLASSIFIER,
        config=config(activation=SIGMOID), listed=True,
    ),
    "a classifier saved by 6.2 with prompts": Published(
        (transformer(kind=".base.modules.transformer.Transformer"),), classifies("modernbert"),
        transformer={**CLASSIFIER, "unpad_inputs": None},
        config=config("6.2.0", prompts={"q": "the query: "}, default_prompt_name="q"),
    ),
    "vectors that a layer scores": Published(
        (
            transformer(kind=".base.modules.transformer.Transformer"),
            Part(
                ".sentence_transformer.modules.pooling.Pooling", "1_Pooling",
                {"embedding_dimension": WIDTH, "pooling_mode": "cls", "include_prompt": True},
            ),
            Part(
                ".base.modules.dense.Dense", "2_Dense",
                {
                    "in_features": WIDTH, "out_features": 1, "bias": True, "activation_function": IDENTITY,
                    "module_input_name": "sentence_embedding", "module_output_name": "scores",
                },
                {"linear.weight": (1, WIDTH), "linear.bias": (1,)},
            ),
        ),
        "modernbert", config=config("6.0.0", SIGMOID),
        transformer={
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
    ),
    "a dense model": Published(
        (
            transformer(),
            Part(".models.Pooling", "1_Pooling", {
                "word_embedding_dimension": WIDTH,
                **{f"pooling_mode_{flag}": flag == "mean_tokens" for flag in NEWER_FLAGS},
            }),
        ),
        "bert", transformer={"max_seq_length": 50, "do_lower_case": False},
        config={"__version__": {"sentence_transformers": "2.0.0", "transformers": "4.7.0", "pytorch": "1.9.0+cu102"}},
    ),
}  # fmt: skip
