"""The real model: all-MiniLM-L6-v2."""

import csv
import gzip

import numpy as np
import pytest
from tests.support import TEXTS
from tests.tolerances import REAL_MODEL

from fourfold import SentenceTransformer


@pytest.fixture(scope="module")
def model(minilm):
    return SentenceTransformer(minilm, device="cpu")


@pytest.mark.parametrize("packs", [None, False])
def test_vectors_equal(st, minilm, model, packs):
    theirs = st.SentenceTransformer(minilm, device="cpu")
    texts = [*TEXTS, "word " * 400, "How many people live in Berlin?"]
    model[0].unpad_inputs = packs
    np.testing.assert_allclose(model.encode(texts), theirs.encode(texts), atol=REAL_MODEL)
    model[0].unpad_inputs = None
    assert model[0].packed


def test_sts_benchmark_spearman_is_the_reference(model, data):
    stats = pytest.importorskip("scipy.stats")
    with gzip.open(data / "stsb" / "test.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    first, second = (model.encode([row[key] for row in rows]).astype(np.float64) for key in ("sentence1", "sentence2"))
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    spearman = 100 * stats.spearmanr(cosine, [float(row["score"]) for row in rows]).statistic
    # The reference has four digits after the point, and summation order moves the last.
    assert spearman == pytest.approx(82.0325, abs=4e-4)
