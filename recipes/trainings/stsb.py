"""Dense, pairs with scores: all-MiniLM-L6-v2 on the training part of STS-B by CoSENT, measured on its test part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset

from recipes.permitted import read_csv
from recipes.trainings._library import Library, arguments, columns, minilm


def scored(path: Path) -> dict[str, list[Any]]:
    """Return pairs with scores from 0 to 1."""
    rows = columns(read_csv(path), "sentence1", "sentence2", "score")
    return {**rows, "score": [float(score) / 5 for score in rows["score"]]}


def train(library: Library, data: Path, output: str) -> tuple[dict[str, float], dict[str, float], Any]:
    """Return the numbers before and after, and the trainer."""
    model = library.SentenceTransformer(minilm(), device="cpu")
    test = scored(data / "stsb" / "test.csv.gz")
    evaluator = library.evaluation.EmbeddingSimilarityEvaluator(
        test["sentence1"], test["sentence2"], test["score"], name="stsb-test", batch_size=64
    )
    trainer = library.SentenceTransformerTrainer(
        model,
        arguments(
            library.SentenceTransformerTrainingArguments, output, num_train_epochs=1, per_device_train_batch_size=32,
            learning_rate=1e-5,
        ),
        train_dataset=Dataset.from_dict(scored(data / "stsb" / "train.csv.gz")),
        loss=library.losses.CoSENTLoss(model),
    )  # fmt: skip
    before = evaluator(model)
    trainer.train()
    return before, evaluator(model), trainer
