"""Cross: a reranker from the body of all-MiniLM-L6-v2, whose head begins untrained, on questions and sentences.

Right sentences are fewer than wrong ones by far, so that each counts as several. Measured by the mean average precision
of the test questions' candidates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from recipes.permitted import read_jsonl
from recipes.trainings._library import Library, arguments, minilm


def judged(path: Path) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return each question with its candidates and whether they are right."""
    return [
        (row["query"], [(text, 1) for text in row["positive"]] + [(text, 0) for text in row["negative"]])
        for row in read_jsonl(path)
    ]


def average_precision(model: Any, questions: list[tuple[str, list[tuple[str, int]]]]) -> dict[str, float]:
    """Return the mean average precision of the candidates' order by their scores."""
    pairs = [(query, text) for query, candidates in questions for text, _ in candidates]
    scores = np.asarray(model.predict(pairs, batch_size=64, show_progress_bar=False))
    values, start = [], 0
    for _, candidates in questions:
        right = np.array([label for _, label in candidates])
        order = np.argsort(-scores[start : start + len(right)], kind="stable")
        start += len(right)
        hits = right[order]
        values.append(float((hits.cumsum() / np.arange(1, len(hits) + 1) * hits).sum() / hits.sum()))
    return {"trecqa-test_map": float(np.mean(values))}


def train(library: Library, data: Path, output: str) -> tuple[dict[str, float], dict[str, float], Any]:
    """Return the numbers before and after, and the trainer."""
    torch.manual_seed(0)
    model = library.CrossEncoder(minilm(), num_labels=1, device="cpu", max_length=128)
    rows = [(query, text, label) for query, candidates in judged(data / "trecqa" / "train.jsonl.gz")
            for text, label in candidates]  # fmt: skip
    query, text, label = (list(column) for column in zip(*rows, strict=True))
    weight = torch.tensor((len(label) - sum(label)) / sum(label))
    trainer = library.CrossEncoderTrainer(
        model,
        arguments(
            library.CrossEncoderTrainingArguments, output, num_train_epochs=1, per_device_train_batch_size=32,
            learning_rate=5e-5,
        ),
        train_dataset=Dataset.from_dict({"query": query, "text": text, "label": label}),
        loss=library.of("cross_encoder", "losses").BinaryCrossEntropyLoss(model, pos_weight=weight),
    )  # fmt: skip
    test = judged(data / "trecqa" / "test.jsonl.gz")
    before = average_precision(model, test)
    trainer.train()
    return before, average_precision(model, test), trainer
