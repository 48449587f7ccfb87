from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fourfold.containers import Terms


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


class HashingSparseEncoder:
    """Words hashed into weights of terms; documents weigh the first letters of their words besides."""

    model_type = "SparseEncoder"

    def __init__(self, width: int = 400, fingerprint: str = "sparse", similarity_fn_name: str = "dot") -> None:
        self.width = width
        self.fingerprint = fingerprint
        self.similarity_fn_name = similarity_fn_name
        self.encoded: list[str] = []

    def _rows(self, texts, letters: float) -> np.ndarray:
        rows = np.zeros((len(texts), self.width), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little")
                row[26 + number % (self.width - 26)] += 0.5 + number % 97 / 97
                row[ord(word[0]) % 26] += letters
        return rows

    def encode_query(self, inputs, *, show_progress_bar=False):
        return Terms.of(self._rows(inputs, 0.25))

    def encode_document(self, inputs, *, show_progress_bar=False):
        self.encoded.extend(inputs)
        return Terms.of(self._rows(inputs, 0.125))


@pytest.fixture
def sparse_encoder() -> HashingSparseEncoder:
    return HashingSparseEncoder()


@pytest.fixture
def encoder() -> HashingEncoder:
    return HashingEncoder()


@pytest.fixture
def other_encoder() -> HashingEncoder:
    return HashingEncoder(48, "another")
