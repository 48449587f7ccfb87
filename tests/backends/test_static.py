import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests import tolerances
from tests.support import TEXTS, wordpiece

import fourfold
from fourfold import SentenceTransformer
from fourfold.backends.static import StaticBackend
from fourfold.errors import FolderError, InputError
from fourfold.store.source import Source

TYPE = "sentence_transformers.models.StaticEmbedding"
SIZE = wordpiece().get_vocab_size()


def folder(path, tensors, *, normalize=False, config=None, tokenizer=None):
    path.mkdir(exist_ok=True)
    (tokenizer or wordpiece()).save(str(path / "tokenizer.json"))
    save_file(tensors, path / "model.safetensors")
    entries = [{"idx": 0, "name": "0", "path": "", "type": TYPE}]
    if normalize:
        entries.append({"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"})
    (path / "modules.json").write_text(json.dumps(entries))
    if config:
        (path / "config_sentence_transformers.json").write_text(json.dumps(config))
    return str(path)


def random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


BYTES = torch.randint(-127, 128, (60, 16), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
LAYOUTS = {
    "embedding.weight": {"embedding.weight": random(SIZE, 16)},
    "float16": {"embedding.weight": random(SIZE, 16, dtype=torch.float16)},
    "embeddings": {"embeddings": random(SIZE, 16)},
    "weights": {"embeddings": random(SIZE, 16), "weights": random(SIZE, seed=1).abs()},
    "weights in float64": {"embeddings": random(SIZE, 16), "weights": random(SIZE, seed=1).double()},
    "mapping": {"embeddings": random(60, 16), "mapping": torch.arange(SIZE) % 60},
    "all, in bytes": {
        "embeddings": BYTES,
        "mapping": (torch.arange(SIZE) * 7 % 60).int(),
        "weights": random(SIZE, seed=1) / 100,
    },
}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_gives_the_numbers_of_torch(tmp_path, layout, normalize):
    path = folder(tmp_path / "model", LAYOUTS[layout], normalize=normalize)
    encoder, model = fourfold.load(path), SentenceTransformer(path, device="cpu")
    assert encoder.backend == "static"
    got, want = encoder.encode(TEXTS), model.float().encode(TEXTS)
    assert got.dtype == np.float32
    # A half-precision table is averaged in half precision by torch's kernel unless the table is widened first.
    np.testing.assert_allclose(got, want, rtol=tolerances.STATIC, atol=tolerances.STATIC * max(1, np.abs(want).max()))
    assert encoder.get_embedding_dimension() == model.get_embedding_dimension() == 16


def test_a_text_without_tokens_is_zero(tmp_path):
    encoder = fourfold.load(folder(tmp_path / "model", LAYOUTS["embedding.weight"], normalize=True))
    assert not encoder.encode(["", "the", " "])[[0, 2]].any()
    assert not encoder.encode("").any()


def test_one_many_and_none(tmp_path):
    encoder = fourfold.load(folder(tmp_path / "model", LAYOUTS["mapping"]))
    rows = encoder.encode(TEXTS)
    np.testing.assert_array_equal(encoder.encode(TEXTS[0]), rows[0])
    np.testing.assert_array_equal(encoder.encode(tuple(TEXTS)), rows)
    np.testing.assert_array_equal(encoder.encode(np.array(TEXTS)), rows)
    assert encoder.encode([]).shape == (0, 16)


def test_order_and_batches_do_not_matter(tmp_path):
    encoder = fourfold.load(folder(tmp_path / "model", LAYOUTS["mapping"]))
    texts = [f"{'fox ' * (i % 40)} {i}" for i in range(5000)]
    order = np.random.default_rng(0).permutation(len(texts))
    rows = encoder.encode(texts)
    shuffled = encoder.encode([texts[i] for i in order])
    np.testing.assert_allclose(shuffled, rows[order], rtol=0, atol=tolerances.BATCH)


CONFIG = {
    "prompts": {"query": "the quick ", "document": "brown "},
    "default_prompt_name": "document",
    "similarity_fn_name": "dot",
    "truncate_dim": 5,
}


def test_prompts_and_settings_are_those_of_the_folder(tmp_path):
    path = folder(tmp_path / "model", LAYOUTS["embedding.weight"], config=CONFIG)
    encoder, model = fourfold.load(path), SentenceTransformer(path, device="cpu")
    assert encoder.prompts == model.prompts
    assert encoder.similarity_fn_name == "dot"
    assert encoder.get_embedding_dimension() == model.get_embedding_dimension() == 5
    for call in (
        lambda e: e.encode(TEXTS),
        lambda e: e.encode_query(TEXTS),
        lambda e: e.encode_document(TEXTS),
        lambda e: e.encode(TEXTS, prompt="own "),
        lambda e: e.encode(TEXTS, prompt=""),
        lambda e: e.encode(TEXTS, prompt_name="query", normalize_embeddings=True),
    ):
        np.testing.assert_allclose(call(encoder), call(model), rtol=0, atol=tolerances.STATIC)
        assert call(encoder).shape == (len(TEXTS), 5)
    rows = encoder.encode(TEXTS)
    np.testing.assert_allclose(
        encoder.similarity(rows, rows), model.similarity(rows, rows), rtol=0, atol=tolerances.FORMULA_LARGE
    )
    np.testing.assert_allclose(encoder.similarity_pairwise(rows, rows), (rows * rows).sum(1), rtol=1e-5)


def test_wrong_calls_are_refused(tmp_path):
    encoder = fourfold.load(folder(tmp_path / "model", LAYOUTS["embedding.weight"]))
    with pytest.raises(InputError, match="batch_size"):
        encoder.encode(TEXTS, batch_size=0)
    with pytest.raises(InputError, match="position 1: NoneType"):
        encoder.encode(["a", None])
    with pytest.raises(InputError, match="not among the prompts"):
        encoder.encode(TEXTS, prompt_name="nothing")


def test_a_truncation_of_the_tokenizer_is_kept(tmp_path):
    tokenizer = wordpiece()
    tokenizer.enable_truncation(3)
    path = folder(tmp_path / "model", LAYOUTS["embedding.weight"], tokenizer=tokenizer)
    got = fourfold.load(path).encode(["the quick brown fox", "the quick brown"])
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_allclose(
        got, SentenceTransformer(path, device="cpu").encode(["the quick brown fox"] * 2), atol=tolerances.STATIC
    )


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"other": torch.ones(2, 2)}, "must hold 'embedding.weight' or 'embeddings'"),
        ({"embedding.weight": torch.ones(SIZE)}, "two dimensions"),
        ({"embedding.weight": torch.ones(3, 2)}, f"vectors for 3 tokens, tokenizer.json has {SIZE}"),
        ({"embeddings": torch.ones(SIZE, 2), "weights": torch.ones(3)}, "weights for 3 tokens"),
        ({"embeddings": torch.ones(5, 2), "mapping": torch.full((SIZE,), 5)}, "'mapping' names row 5 of 5"),
        ({"embeddings": torch.ones(5, 2), "mapping": -torch.ones(SIZE, dtype=torch.int64)}, "'mapping' names row"),
        ({"embeddings": torch.ones(5, 2), "mapping": torch.ones(2, dtype=torch.int64)}, "vectors for 2 tokens"),
        ({"embeddings": torch.ones(5, 2), "mapping": torch.ones(SIZE)}, "mapping"),
        ({"embeddings": torch.ones(SIZE, 2), "weights": torch.ones(SIZE, 2)}, "weights"),
    ],
)
def test_tables_that_do_not_fit_name_the_file(tmp_path, tensors, said):
    with pytest.raises(FolderError, match=r"model\.safetensors") as caught:
        fourfold.load(folder(tmp_path / "model", tensors), backend="static")
    assert said in str(caught.value)


def test_other_models_are_not_for_it(tmp_path):
    path = folder(tmp_path / "model", LAYOUTS["embedding.weight"])
    entries = json.loads((tmp_path / "model" / "modules.json").read_text())
    entries.append({"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.models.Dense"})
    (tmp_path / "model" / "modules.json").write_text(json.dumps(entries))
    assert not StaticBackend.fits(Source(path))
    with pytest.raises(InputError, match=r"no static model.*models\.Dense"):
        fourfold.load(path, backend="static")


def test_the_fingerprint_follows_the_weights(tmp_path):
    first = fourfold.load(folder(tmp_path / "a", LAYOUTS["embedding.weight"]))
    same = fourfold.load(folder(tmp_path / "b", LAYOUTS["embedding.weight"]))
    other = fourfold.load(folder(tmp_path / "c", LAYOUTS["embeddings"]))
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_neither_torch_nor_transformers_is_imported(tmp_path):
    path = folder(tmp_path / "model", LAYOUTS["embedding.weight"], normalize=True)
    code = f"""
        import sys, fourfold
        encoder = fourfold.load({path!r})
        rows = encoder.encode(["the fox", ""])
        encoder.similarity(rows, rows), encoder.encode_query("the"), encoder.fingerprint
        print(rows.shape, [name for name in ("torch", "transformers") if name in sys.modules])
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "(2, 16) []"
