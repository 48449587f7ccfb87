"""Searching passages by a sparse model: exact, incremental, and together with words and a dense model."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.search.conftest import HashingSparseEncoder

from fourfold.errors import InputError, SearchIndexError
from fourfold.search import Index, sparse

WORDS = ["iron", "water", "owl", "night", "gold", "rust", "paper", "fold", "hunt", "river"]


def fill(root, texts):
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        os.utime(root / name, ns=(10**18, 10**18 + len(text)))


def lines(count, seed=0):
    """Return a JSON Lines file of so many passages of a few words each."""
    chance = np.random.default_rng(seed)
    return "".join(json.dumps(" ".join(chance.choice(WORDS, 4))) + "\n" for _ in range(count))


@pytest.fixture
def root(tmp_path):
    fill(tmp_path / "data", {"a.jsonl": lines(60), "sub/b.jsonl": lines(30, seed=1), "c.txt": "An owl hunts at night."})
    return tmp_path / "data"


def plain(index, model, question):
    """Return what a search must find: every passage with a score above 0, in order."""
    asked = model.encode_query([question]).dense()[0].astype(np.float64)
    found = []
    for part in index.snapshot.parts:
        texts = [part.segment.embedded_text(row) for row in range(part.segment.rows)]
        rows = model._rows(texts, 0.125).astype(np.float64)
        if model.similarity_fn_name == "cosine":
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            asked /= np.linalg.norm(asked)
        for row in np.arange(part.segment.rows)[slice(None) if part.alive is None else part.alive]:
            path = index.snapshot.catalog.name(part.file_of(row))
            found.append((-np.float32(rows[row] @ asked), path, int(part.segment.line[row])))
    return [(path, line, -score) for score, path, line in sorted(found) if score < 0]


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("top_k", [1, 7, 1000])
def test_sparse_search_is_exact(root, similarity, top_k):
    model = HashingSparseEncoder(similarity_fn_name=similarity)
    index = Index.open(root, model=model)
    index.update()
    expected = plain(index, model, "owl hunt water")[:top_k]
    hits = index.search("owl hunt water", mode="sparse", top_k=top_k)
    np.testing.assert_allclose([hit.score for hit in hits], [score for *_, score in expected], rtol=1e-6)
    if similarity == "dot":
        assert [(hit.path, hit.line) for hit in hits] == [(path, line) for path, line, _ in expected]


def test_two_similarities_of_a_model_lie_side_by_side(root):
    dot, cosine = (Index.open(root, model=HashingSparseEncoder(similarity_fn_name=name)) for name in ("dot", "cosine"))
    dot.update()
    with pytest.raises(SearchIndexError, match="lacks this model's sparse rows; update it first"):
        cosine.search("owl", mode="sparse")
    cosine.update()
    assert cosine.search("owl", mode="sparse", top_k=1)[0].score <= 1 < dot.search("owl", mode="sparse")[0].score


def test_a_similarity_that_an_index_does_not_have(root):
    index = Index.open(root, model=HashingSparseEncoder(similarity_fn_name="euclidean"))
    with pytest.raises(InputError, match="searched by dot product or cosine; this model compares by euclidean"):
        index.update()


def test_only_what_is_new_is_encoded(root, sparse_encoder):
    index = Index.open(root, model=sparse_encoder)
    index.update()
    assert len(sparse_encoder.encoded) == len(index) == 91
    assert not index.update()
    fill(root, {"d.txt": "Gold folds."})
    index.update()
    assert sparse_encoder.encoded[91:] == ["Gold folds."]
    (root / "c.txt").rename(root / "moved.txt")
    index.update()
    assert len(sparse_encoder.encoded) == 92
    assert index.search("an owl hunts at night.", mode="sparse")[0].path == "moved.txt"


def test_a_question_without_a_known_term(root, sparse_encoder):
    index = Index.open(root, model=sparse_encoder)
    index.update()
    sparse_encoder.encode_query = lambda inputs, **options: sparse_encoder.encode_document(["" for _ in inputs])
    assert index.search("?", mode="sparse") == []


def test_an_interrupted_run_goes_on_after_the_last_chunk(root, sparse_encoder, monkeypatch):
    monkeypatch.setattr(sparse, "_CHUNK", 16)
    monkeypatch.setattr(sparse, "_MOST_CHUNKS", 100)
    index = Index.open(root, model=sparse_encoder)
    inner, calls = sparse_encoder.encode_document, []

    def stop(inputs, **options):
        calls.append(len(inputs))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return inner(inputs, **options)

    sparse_encoder.encode_document = stop
    with pytest.raises(KeyboardInterrupt):
        index.update()
    assert [file.suffixes[-1] for file in index.folder.glob("*.sparse*")] == [".part"] * 3
    damaged = next(index.folder.glob("*.sparse.1.part"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    again = Index.open(root, model=sparse_encoder)
    again.update()
    assert calls[4:] == [16, 16, 16, 91 - 5 * 16]
    fresh = Index(root, model=HashingSparseEncoder(), folder=root.parent / "fresh")
    fresh.update()
    assert again.search("owl river", mode="sparse", top_k=99) == fresh.search("owl river", mode="sparse", top_k=99)
    assert not list(index.folder.glob("*.part"))


def test_chunks_are_few_enough_to_be_open_at_once(root, sparse_encoder, monkeypatch):
    monkeypatch.setattr(sparse, "_CHUNK", 1)
    monkeypatch.setattr(sparse, "_MOST_CHUNKS", 4)
    batches = []
    inner = sparse_encoder.encode_document
    sparse_encoder.encode_document = lambda inputs, **options: batches.append(len(inputs)) or inner(inputs, **options)
    Index.open(root, model=sparse_encoder).update()
    assert batches == [23, 23, 23, 22]


def test_segments_are_merged_with_their_sparse_rows(root, sparse_encoder, encoder):
    index = Index.open(root, model=[encoder, sparse_encoder])
    for number in range(20):
        fill(root, {f"n{number}.txt": f"number{number} iron"})
        index.update()
    (root / "n3.txt").unlink()
    index.update()
    assert len(index.snapshot.parts) < 8
    assert len(sparse_encoder.encoded) == 91 + 20  # a merge encodes nothing
    fresh = Index(root, model=[encoder, sparse_encoder], folder=root.parent / "fresh")
    fresh.update()
    for mode in ("sparse", "hybrid"):
        found = index.search("number7 iron", mode=mode, top_k=99)
        assert found == fresh.search("number7 iron", mode=mode, top_k=99)
        assert "n3.txt" not in (paths := {hit.path for hit in found})
        assert "n7.txt" in paths
    assert len(list(index.folder.glob("*.sparse"))) == len(index.snapshot.parts)


steps = st.lists(
    st.dictionaries(st.sampled_from(["a.txt", "b.txt", "c/d.txt"]), st.none() | st.sampled_from(WORDS), max_size=3),
    min_size=1,
    max_size=5,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_updating_equals_rebuilding(tmp_path_factory, steps):
    root = tmp_path_factory.mktemp("data")
    models = [HashingSparseEncoder()]
    index = Index(root, model=models, folder=tmp_path_factory.mktemp("index"))
    for number, step in enumerate(steps):
        for name, text in step.items():
            if text is None:
                (root / name).unlink(missing_ok=True)
            else:
                fill(root, {name: text + " iron" * number})
        index.update()
    fresh = Index(root, model=models, folder=tmp_path_factory.mktemp("fresh"))
    fresh.update()
    for mode in ("sparse", "hybrid"):
        assert index.search("iron owl", mode=mode, top_k=99) == fresh.search("iron owl", mode=mode, top_k=99)


@pytest.mark.parametrize("fusion", ["score", "rrf"])
def test_hybrids_of_words_and_models(root, encoder, sparse_encoder, fusion):
    found = {}
    for name, models in (("dense", encoder), ("sparse", sparse_encoder), ("both", [sparse_encoder, encoder])):
        index = Index.open(root, model=models)
        index.update()
        found[name] = index.search("An owl hunts at night.", top_k=200, fusion=fusion)
        scores = [hit.score for hit in found[name]]
        assert scores == sorted(scores, reverse=True)
        assert found[name][0].path == "c.txt"
    assert len(found["dense"]) == len(found["both"]) == 91
    # Without a dense model a passage must share a word or a term.
    assert 0 < len(found["sparse"]) <= 91
    assert all(hit.score > 0 for hit in found["sparse"])
    best = {"score": 1.0, "rrf": 2 / 61}[fusion]
    assert found["sparse"][0].score == pytest.approx(best)


def test_reciprocal_ranks_of_words_and_terms(root, sparse_encoder):
    index = Index.open(root, model=sparse_encoder)
    index.update()
    ranks = {}
    for mode in ("lexical", "sparse"):
        hits = index.search("owl hunt", mode=mode, top_k=200)
        best = [hit.score for hit in hits]
        ranks[mode] = {(hit.path, hit.line): 1 + sum(score > hit.score + 1e-5 for score in best) for hit in hits}
    expected = {}
    for place in ranks["lexical"].keys() | ranks["sparse"].keys():
        expected[place] = sum(1 / (60 + found[place]) for found in ranks.values() if place in found)
    hits = index.search("owl hunt", fusion="rrf", top_k=200)
    assert {(hit.path, hit.line): hit.score for hit in hits} == pytest.approx(expected)


def test_wrong_requests(root, encoder, sparse_encoder):
    index = Index.open(root, model=sparse_encoder)
    index.update()
    with pytest.raises(InputError, match="mode dense needs a dense model"):
        index.search("owl", mode="dense")
    with pytest.raises(InputError, match=r"fusion must be one of score, rrf; got 'rff'\. Did you mean 'rrf'"):
        index.search("owl", fusion="rff")
    with pytest.raises(InputError, match="mode sparse needs a sparse model"):
        Index.open(root, model=encoder).search("owl", mode="sparse")


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100, None])
def test_damage_is_one_clear_error_and_mended_by_clear(root, sparse_encoder, damage):
    index = Index.open(root, model=sparse_encoder)
    index.update()
    file = next(index.folder.glob("*.sparse"))
    file.write_bytes(file.read_bytes()[:-30] if damage is None else damage)
    with pytest.raises(SearchIndexError, match="--rebuild"):
        index.search("owl", mode="sparse")
    index.clear()
    index.update()
    assert index.search("owl", mode="sparse") != []


def test_rows_of_another_width_are_damage(root, sparse_encoder):
    index = Index.open(root, model=sparse_encoder)
    index.update()
    sparse_encoder.width += 1
    with pytest.raises(SearchIndexError, match="rows of 400 terms for 91 passages of 401"):
        index.search("owl", mode="sparse")


def test_a_single_file_of_a_folder(root, sparse_encoder):
    whole, one = Index.open(root, model=sparse_encoder), Index.open(root / "c.txt", model=sparse_encoder)
    whole.update()
    assert {hit.path for hit in one.search("owl iron night", mode="sparse", top_k=99)} == {"c.txt"}
    assert {hit.path for hit in whole.search("owl iron night", mode="sparse", top_k=99)} > {"c.txt"}


def test_a_sparse_encoder_of_torch(root):
    from fourfold.testing import tiny

    model = tiny("sparse", "static")
    model.fingerprint = "tiny"
    index = Index.open(root, model=model)
    index.update()
    hits = index.search("hunts at night", mode="sparse", top_k=91)
    asked, rows = model.encode_query(["hunts at night"]), model.encode_document([hit.text for hit in hits])
    np.testing.assert_allclose([hit.score for hit in hits], model.similarity(asked, rows)[0].numpy(), rtol=1e-5)
    assert hits[0].path == "c.txt"
