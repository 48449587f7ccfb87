"""Dense, two encoders: queries by a table of token vectors, which costs nothing, documents by the transformer.

A ``Router`` sends columns to their encoder by ``router_mapping``. The table begins as the transformer's own token
vectors; the transformer stays as it is, so that vectors of documents that are there already keep their worth.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from datasets import Dataset

from recipes.trainings._library import Library, arguments, minilm, questions, retrieval

STEPS = 150
BATCH = 64


def train(library: Library, data: Path, output: str) -> tuple[dict[str, float], dict[str, float], Any]:
    """Return the numbers before and after, and the trainer."""
    documents = library.SentenceTransformer(minilm(), device="cpu")
    documents.requires_grad_(False)
    table = documents[0].model.embeddings.word_embeddings.weight.detach().clone()
    # A tokenizer of the table's own: the other one pads, which in sentence-transformers would pad queries too and make
    # their means depend on the batch (nDCG@10 0.306 instead of 0.414 before the training).
    queries = library.models.StaticEmbedding(deepcopy(documents.tokenizer), embedding_weights=table.numpy())
    router = library.models.Router.for_query_document(
        query_modules=[queries, library.models.Normalize()], document_modules=list(documents)
    )
    model = library.SentenceTransformer(modules=[router], device="cpu")
    evaluator = library.evaluation.InformationRetrievalEvaluator(
        *retrieval(data / "xquad", "en"), name="xquad-en", batch_size=64
    )
    trainer = library.SentenceTransformerTrainer(
        model,
        arguments(
            library.SentenceTransformerTrainingArguments, output, max_steps=STEPS, per_device_train_batch_size=BATCH,
            learning_rate=1e-2, router_mapping={"query": "query", "document": "document"},
            batch_sampler="no_duplicates",
        ),
        train_dataset=Dataset.from_dict(questions(data, STEPS * BATCH)),
        loss=library.losses.MultipleNegativesRankingLoss(model),
    )  # fmt: skip
    before = evaluator(model)
    trainer.train()
    return before, evaluator(model), trainer
