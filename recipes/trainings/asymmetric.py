"""Dense, two encoders: queries by a table of token vectors, which costs nothing, documents by the transformer.

A ``Router`` sends columns to their encoder by ``router_mapping``. The table begins as the transformer's own token
vectors; the transformer stays as it is, so that vectors of documents that are there already keep their worth.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset

from recipes.trainings._library import Library, arguments, columns, minilm, read_jsonl, retrieval

STEPS = 150
BATCH = 64


def train(library: Library, data: Path, output: str) -> tuple[dict[str, float], dict[str, float], Any]:
    """Return the numbers before and after, and the trainer."""
    documents = library.SentenceTransformer(minilm(), device="cpu")
    documents.requires_grad_(False)
    table = documents[0].model.embeddings.word_embeddings.weight.detach().clone()
    queries = library.models.StaticEmbedding(documents.tokenizer, embedding_weights=table.numpy())
    router = library.models.Router.for_query_document(
        query_modules=[queries, library.models.Normalize()], document_modules=list(documents)
    )
    model = library.SentenceTransformer(modules=[router], device="cpu")
    evaluator = library.evaluation.InformationRetrievalEvaluator(
        *retrieval(data / "xquad", "en"), name="xquad-en", batch_size=64
    )
    rows = columns(islice(read_jsonl(data / "pairs" / "squad_sentence.jsonl.gz"), STEPS * BATCH), "anchor", "positive")
    # The sentence is the document and the question the query, whichever of the columns holds which.
    questions = sum(text.rstrip().endswith("?") for text in rows["anchor"]) > len(rows["anchor"]) / 2
    query, document = ("anchor", "positive") if questions else ("positive", "anchor")
    trainer = library.SentenceTransformerTrainer(
        model,
        arguments(
            library.SentenceTransformerTrainingArguments, output, max_steps=STEPS, per_device_train_batch_size=BATCH,
            learning_rate=1e-2, router_mapping={"query": "query", "document": "document"},
            batch_sampler="no_duplicates",
        ),
        train_dataset=Dataset.from_dict({"query": rows[query], "document": rows[document]}),
        loss=library.losses.MultipleNegativesRankingLoss(model),
    )  # fmt: skip
    before = evaluator(model)
    trainer.train()
    return before, evaluator(model), trainer
