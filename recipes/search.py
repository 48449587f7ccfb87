"""The search that the shipped weights are chosen for, in its plainest form: whole score vectors, one collection."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import Stemmer
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "  # noqa: SIM905
    "to was will with".split()
)
MIX = 0.5  # share of the cosine
FEEDBACK_PASSAGES, FEEDBACK_SHARE = 3, 0.5


class Dense:
    """Mean of token rows, L2-normalised."""

    def __init__(self, folder: Path) -> None:
        tensors = load_file(str(folder / "model.safetensors"))
        self.table = tensors["embeddings"].astype(np.float32) * tensors["weights"][:, None]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return one unit vector a text."""
        vectors = np.zeros((len(texts), self.table.shape[1]), np.float32)
        for row, encoding in enumerate(self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)):
            if encoding.ids:
                vectors[row] = self.table[encoding.ids].mean(axis=0)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


class Lexical:
    """Analysis, BM25 settings and prior, as `lexical/` says."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.k1, self.b = config["bm25"]["k1"], config["bm25"]["b"]
        self.prior = config["prior"]
        self.pattern = re.compile(config["analysis"]["pattern"])
        self.stem = Stemmer.Stemmer(config["analysis"]["stemmer"]).stemWords
        terms = (folder / "terms.txt").read_text(encoding="utf-8").split("\n")
        self.rank = {term: rank for rank, term in enumerate(terms, start=1) if term}

    def terms(self, text: str) -> list[str]:
        """Return the stems of the words of `text` that are no stop words."""
        return self.stem([word for word in self.pattern.findall(text.lower()) if word not in STOP_WORDS])

    def expected(self, term: str) -> float:
        """Return the share of passages of ordinary English that hold `term`, by Zipf's law."""
        share = self.prior["zipf_share"] / (self.rank.get(term, self.prior["unknown_rank"]) + self.prior["zipf_shift"])
        return float(1 - np.exp(-share * self.prior["passage_length"]))

    def index(self, documents: list[str]) -> Index:
        """Return the postings of a collection."""
        return Index(self, documents)


class Index:
    """BM25 as Lucene defines it over one collection."""

    def __init__(self, lexical: Lexical, documents: list[str]) -> None:
        self.lexical = lexical
        postings: dict[str, list[tuple[int, int]]] = {}
        lengths = []
        for row, document in enumerate(documents):
            terms = lexical.terms(document)
            lengths.append(len(terms))
            for term, count in Counter(terms).items():
                postings.setdefault(term, []).append((row, count))
        self.postings = {term: np.array(found).T for term, found in postings.items()}
        length = np.array(lengths, dtype=np.float64)
        self.norm = lexical.k1 * (1 - lexical.b + lexical.b * length / max(length.mean(), 1e-9))

    def scores(self, query: str, prior: bool = True) -> NDArray[np.float32]:
        """Return the score of every document; the prior counts as so many more passages of ordinary English."""
        scores = np.zeros(len(self.norm), np.float32)
        more = self.lexical.prior["passages"] if prior else 0
        for term, repeats in Counter(self.lexical.terms(query)).items():
            if term in self.postings:
                row, count = self.postings[term]
                holding, passages = len(row) + more * self.lexical.expected(term), len(self.norm) + more
                rarity = np.log(1 + (passages - holding + 0.5) / (holding + 0.5))
                scores[row] += repeats * rarity * count / (count + self.norm[row])
        return scores


def fuse(words: NDArray[np.float32], meaning: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mix scores `[queries, documents]`: the words as a share of the query's best, the meaning as the cosine it is."""
    best = words.max(axis=1, keepdims=True)
    return (1 - MIX) * words / np.where(best > 0, best, 1) + MIX * meaning


def feedback(
    asked: NDArray[np.float32], passages: NDArray[np.float32], fused: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Move every query towards the best passages of the first pass, the first counting most."""
    best = np.argsort(-fused, axis=1, kind="stable")[:, :FEEDBACK_PASSAGES]
    centre = np.einsum("r,qrd->qd", 1 / np.arange(1, best.shape[1] + 1), passages[best])
    moved = asked + FEEDBACK_SHARE * centre / np.maximum(np.linalg.norm(centre, axis=1, keepdims=True), 1e-12)
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
