from __future__ import annotations

import numpy as np
import pytest

from fourfold.search import Index, dense, vectors


@pytest.fixture
def segment(tmp_path):
    index = Index(tmp_path, folder=tmp_path / "index")
    index.put("texts", [f"text number {i} of many" for i in range(50)], vectors=False)
    return index.snapshot.parts[0].segment


def test_cosines_are_kept(segment, encoder):
    vectors.build_vectors(segment, encoder, lambda rows: None)
    stored = vectors.open_vectors(segment, encoder.fingerprint, 32)
    texts = [segment.texts[row] for row in range(50)]
    question = encoder.encode_query(["number 7"])[0]
    np.testing.assert_allclose(dense.scores([stored], question)[0], encoder.encode_query(texts) @ question, atol=3e-3)


def test_a_zero_vector_stays_zero():
    stored = vectors.quantise(np.zeros((2, 8), np.float32))
    assert dense.scores([stored], np.ones(8, np.float32))[0].tolist() == [0, 0]


def test_chunks_do_not_change_a_score(segment, encoder, monkeypatch):
    vectors.build_vectors(segment, encoder, lambda rows: None)
    stored, question = vectors.open_vectors(segment, encoder.fingerprint, 32), encoder.encode_query(["number 7"])[0]
    whole = dense.scores([stored], question)[0]
    monkeypatch.setattr(dense, "_CHUNK", 3 * 32)
    np.testing.assert_allclose(dense.scores([stored], question)[0], whole, atol=1e-6)


def test_an_interrupted_run_goes_on_where_it_stopped(segment, encoder, monkeypatch):
    monkeypatch.setattr(vectors, "_CHUNK", 8)
    calls = []

    def stop(rows):
        calls.append(rows)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vectors.build_vectors(segment, encoder, stop)
    assert vectors.open_vectors(segment, encoder.fingerprint, 32) is None
    part = vectors.path_of(segment, encoder.fingerprint)
    part = part.with_name(part.name + ".part")
    with part.open("ab") as file:
        file.write(b"half a row")
    encoder.encoded.clear()
    vectors.build_vectors(segment, encoder, calls.append)
    assert len(encoder.encoded) == 8 + 50 - 24  # the first chunk again, to learn the width, then the rest
    stored = vectors.open_vectors(segment, encoder.fingerprint, 32)
    np.testing.assert_array_equal(stored, vectors.quantise(encoder.encode_query([segment.texts[r] for r in range(50)])))
