"""Dense, pairs without scores: questions and answers about health by cached in-batch negatives, at three widths.

A batch of 64 pairs goes through the model 16 texts at a time, so that memory is that of a small batch; the vectors are
also trained cut to 128 and 64 numbers (Matryoshka).
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset

from recipes.permitted import read_jsonl
from recipes.trainings._library import Library, arguments, columns, minilm, retrieval

WIDTHS = (384, 128, 64)
STEPS = 40
BATCH = 64


def train(library: Library, data: Path, output: str) -> tuple[dict[str, float], dict[str, float], Any]:
    """Return the numbers before and after, and the trainer."""
    model = library.SentenceTransformer(minilm(), device="cpu")
    model.max_seq_length = 128
    queries, documents, relevant = retrieval(data / "medquad_dev")
    evaluators = [
        library.evaluation.InformationRetrievalEvaluator(
            queries, documents, relevant, name=f"medquad-{width}", truncate_dim=width, batch_size=64
        )
        for width in WIDTHS
    ]
    rows = islice(read_jsonl(data / "pairs" / "medquad.jsonl.gz"), STEPS * BATCH)
    inner = library.losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=16)
    trainer = library.SentenceTransformerTrainer(
        model,
        arguments(
            library.SentenceTransformerTrainingArguments, output, max_steps=STEPS, per_device_train_batch_size=BATCH,
            learning_rate=5e-5, batch_sampler="no_duplicates",
        ),
        train_dataset=Dataset.from_dict(columns(rows, "anchor", "positive")),
        loss=library.losses.MatryoshkaLoss(model, inner, list(WIDTHS)),
    )  # fmt: skip
    sequential = library.evaluation.SequentialEvaluator(evaluators)
    before = sequential(model)
    trainer.train()
    return before, sequential(model), trainer
