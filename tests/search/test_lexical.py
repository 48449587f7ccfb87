from __future__ import annotations

import math
import warnings
from collections import Counter

import numpy as np
import pytest

from fourfold.search import Index, analysis, lexical
from fourfold.search.prior import Prior, builtin

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


def found(index, question, prior=None):
    segment = index.snapshot.parts[0].segment
    return lexical.scores([segment], [None], index.snapshot.statistics, analysis.terms(question), prior)[0]


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


PRIOR = Prior(
    b"the\nwater\nrun\n", passages=50, passage_length=200, zipf_share=0.1, zipf_shift=2.7, unknown_rank=40_000
)


def test_a_common_word_weighs_less_than_a_rare_one_in_a_small_collection(index):
    assert PRIOR.holding("water") == pytest.approx(50 * (1 - math.exp(-20 / 4.7)))
    assert PRIOR.holding("run") < PRIOR.holding("water") < 50
    assert 0 < PRIOR.holding("ru") == PRIOR.holding("zzz") < 0.1
    df = sum("water" in analysis.terms(text) for text in corpus()) + PRIOR.holding("water")
    plain, weighted = found(index, "water"), found(index, "water", PRIOR)
    held = plain > 0
    n = len(index)
    df_plain = int(held.sum())
    ratio = math.log(1 + (n + 50 - df + 0.5) / (df + 0.5)) / math.log(1 + (n - df_plain + 0.5) / (df_plain + 0.5))
    np.testing.assert_allclose(weighted[held] / plain[held], ratio, rtol=1e-5)


def test_builtin_prior():
    order = [builtin().holding(term) for term in ("of", "water", "heron", "qwertyuiop")]
    assert order == sorted(order, reverse=True)
