"""The same folder gives the same vectors in both libraries: packed, padded, and after saving with either."""

import numpy as np
import pytest
from tests.support import TEXTS
from tests.tolerances import PACKED

from fourfold import SentenceTransformer
from fourfold.testing import ARCHITECTURES, checkpoint, tiny_folder

# relative-bias attention has no packed form; every other architecture here must not silently fall back to padding
PADDED = {"deberta_v2", "mpnet", "t5"}
RNG = np.random.default_rng(0)
VARIED = [
    " ".join(RNG.choice(["the", "of", "text", "world", "short,", "12", "long"], n)) for n in RNG.integers(1, 60, 24)
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_vectors_equal(st, tmp_path, architecture):
    folder = str(tiny_folder("dense", architecture))
    theirs = st.SentenceTransformer(folder, device="cpu")
    ours = SentenceTransformer(folder, device="cpu")
    texts = TEXTS + VARIED
    wanted = theirs.encode(texts)
    assert ours[0].packed == (architecture not in PADDED)
    np.testing.assert_allclose(ours.encode(texts), wanted, atol=PACKED)
    ours[0].unpad_inputs = False
    assert not ours[0].packed
    np.testing.assert_allclose(ours.encode(texts), wanted, atol=PACKED)
    # vectors that are all alike would equal each other whatever was wrong
    assert (wanted @ wanted.T).min() < 0.99
    theirs.save(str(tmp_path / "theirs"))
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "theirs"), device="cpu").encode(texts), wanted, atol=PACKED
    )


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "qwen3", "roberta"])
def test_a_plain_checkpoint_becomes_the_same_model(st, tmp_path, architecture):
    folder = str(checkpoint(architecture, tmp_path / "plain"))
    theirs, ours = st.SentenceTransformer(folder, device="cpu"), SentenceTransformer(folder, device="cpu")
    assert ours[1].pooling_mode == theirs[1].pooling_mode
    assert ours.max_seq_length == theirs.max_seq_length
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=10 * PACKED)


@pytest.mark.parametrize("architecture", ["bert", "gemma3", "modernbert", "mpnet"])
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_agrees_as_far_as_it_goes(st, architecture, name):
    folder, kwargs = str(tiny_folder("dense", architecture)), {"dtype": name}
    wanted = st.SentenceTransformer(folder, device="cpu", model_kwargs=kwargs).encode(TEXTS)
    got = SentenceTransformer(folder, device="cpu", model_kwargs=kwargs).encode(TEXTS)
    assert got.dtype == wanted.dtype
    cosine = (got.astype(np.float32) * wanted.astype(np.float32)).sum(1)
    assert cosine.min() > 0.99
