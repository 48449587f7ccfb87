from __future__ import annotations

import hashlib

import numpy as np
import pytest


class HashingEncoder:
    """Words hashed into signed counts: deterministic, instant, and alike for texts that share words."""

    def __init__(self, width: int = 32, fingerprint: str = "hashing") -> None:
        self.width = width
        self.fingerprint = fingerprint
        self.encoded: list[str] = []

    def encode_query(self, inputs, *, normalize_embeddings=True, show_progress_bar=False):
        rows = np.zeros((len(inputs), self.width), np.float32)
        for row, text in zip(rows, inputs, strict=True):
            for word in text.lower().split():
                number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little")
                row[number % self.width] += 1 if number & (1 << 20) else -1
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(lengths > 0, lengths, 1)

    def encode_document(self, inputs, *, normalize_embeddings=True, show_progress_bar=False):
        self.encoded.extend(inputs)
        return self.encode_query(inputs)


@pytest.fixture
def encoder() -> HashingEncoder:
    return HashingEncoder()


@pytest.fixture
def other_encoder() -> HashingEncoder:
    return HashingEncoder(48, "another")
