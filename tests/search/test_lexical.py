from __future__ import annotations

import math
import warnings
from collections import Counter

import numpy as np
import pytest

from fourfold.search import Index, analysis

WORDS = "river bank water stone fish cloud rain storm light house running runner boats".split()  # noqa: SIM905


def corpus(count=60):
    rng = np.random.default_rng(3)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 30))) for _ in range(count)]


def reference(texts, question, k1=1.5, b=0.75):
    """BM25 as it is written down, one passage after the other."""
    counts = [Counter(analysis.terms(text)) for text in texts]
    lengths = [sum(count.values()) for count in counts]
    mean = sum(lengths) / len(lengths)
    scores = []
    for count, length in zip(counts, lengths, strict=True):
        score = 0.0
        for term in analysis.terms(question):
            df = sum(term in other for other in counts)
            idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            score += idf * count[term] / (count[term] + k1 * (1 - b + b * length / mean))
        scores.append(score)
    return scores


@pytest.fixture
def index(tmp_path):
    index = Index(tmp_path)
    index.put("texts", corpus(), vectors=False)
    return index


def found(index, question):
    scores = [0.0] * len(index)
    for hit in index.search(question, mode="lexical", top_k=len(index)):
        scores[hit.line - 1] = hit.score
    return scores


QUESTIONS = ["river", "running water", "storm storm cloud", "the of", "nowhere", "Boats RUNNER, light!"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_equals_the_definition(index, question):
    np.testing.assert_allclose(found(index, question), reference(corpus(), question), atol=2e-6)


@pytest.mark.parametrize("question", QUESTIONS[:3])
def test_equals_bm25s(index, question):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import bm25s
        import Stemmer

        def ids(texts):
            return bm25s.tokenize(texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False)

        rival = bm25s.BM25()
        rival.index(ids(corpus()), show_progress=False)
        wanted = rival.get_scores(analysis.terms(question))
    np.testing.assert_allclose(found(index, question), wanted, atol=1e-5)


def test_identifiers_are_found_by_their_parts(tmp_path):
    index = Index(tmp_path)
    index.put("names", ["def read_csv(path)", "class HTTPServer", "parseXmlFile()", "csvkit"], vectors=False)
    assert [h.line for h in index.search("csv", mode="lexical")] == [1]
    assert [h.line for h in index.search("read_csv", mode="lexical")] == [1]
    assert [h.line for h in index.search("server", mode="lexical")] == [2]
    assert [h.line for h in index.search("xml files", mode="lexical")] == [3]
