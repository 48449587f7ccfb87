"""Sparse, queries for free: a query's terms have one weight each, documents are expanded by a masked language model.

The body is all-MiniLM-L6-v2's; its head, which the published model lacks, is tied to its token vectors and begins
untrained. Regularisers keep documents sparse; their weight grows during the first third of the steps.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset

from recipes.trainings._library import Library, arguments, minilm, questions, retrieval

STEPS = 150
BATCH = 32


def masked_model(folder: str) -> str:
    """Write all-MiniLM-L6-v2 as a masked language model, and return the folder."""
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM.from_pretrained(minilm())
    model.cls.predictions.transform.dense.weight.data.copy_(torch.eye(model.config.hidden_size))
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(minilm()).save_pretrained(folder)
    return folder


def train(library: Library, data: Path, output: str) -> tuple[dict[str, float], dict[str, float], Any]:
    """Return the numbers before and after, and the trainer."""
    sparse_modules, losses, evaluation = (
        library.of("sparse_encoder", package) for package in ("modules", "losses", "evaluation")
    )
    modules = library.models
    with tempfile.TemporaryDirectory() as folder:
        body = modules.Transformer(masked_model(folder), transformer_task="fill-mask", max_seq_length=128)
    queries = sparse_modules.SparseStaticEmbedding(tokenizer=body.tokenizer, frozen=False)
    router = modules.Router.for_query_document(
        query_modules=[queries], document_modules=[body, sparse_modules.SpladePooling("max")]
    )
    model = library.SparseEncoder(modules=[router], device="cpu", similarity_fn_name="dot")
    evaluator = evaluation.SparseInformationRetrievalEvaluator(
        *retrieval(data / "xquad", "en"), name="xquad-en", batch_size=16
    )
    loss = losses.SpladeLoss(
        model,
        loss=losses.SparseMultipleNegativesRankingLoss(model),
        document_regularizer_weight=3e-3,
    )
    trainer = library.SparseEncoderTrainer(
        model,
        arguments(
            library.SparseEncoderTrainingArguments, output, max_steps=STEPS, per_device_train_batch_size=BATCH,
            learning_rate=5e-5, learning_rate_mapping={r"query\.0\.weight|SparseStaticEmbedding": 1e-2},
            router_mapping={"query": "query", "document": "document"}, batch_sampler="no_duplicates",
        ),
        train_dataset=Dataset.from_dict(questions(data, STEPS * BATCH)),
        loss=loss,
    )  # fmt: skip
    before = evaluator(model)
    trainer.train()
    return before, evaluator(model), trainer
